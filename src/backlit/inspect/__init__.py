"""Looking into a model: how its gradients flow while it trains, and which pixels its answer hangs on."""

from backlit.inspect.gradient_health import GradientHealth
from backlit.inspect.saliency import saliency

__all__ = ["GradientHealth", "saliency"]
