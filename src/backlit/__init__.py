"""backlit: convolutional backpropagation you can see through.

Pairs of plain functions over NumPy arrays compute every convolution and its gradients; tensors and modules train
networks with them; `explain` shows the chain rule at work.
"""

import importlib as _importlib
import typing as _typing

from backlit import engines, nn, ops
from backlit.engines import get_num_threads, set_num_threads
from backlit.geometry import ConvGeometry, PoolGeometry
from backlit.graph import Tensor, no_grad
from backlit.nn.storage import load, save
from backlit.ops import *  # noqa: F403  # the pairs, listed once, in ops.__all__
from backlit.ops.random import manual_seed

if _typing.TYPE_CHECKING:
    from backlit import data, explain, inspect, models, optim, report
    from backlit.models import load_model
    from backlit.train import History, evaluate, fit, predict

__version__ = "0.1.0"

__all__ = [
    "ConvGeometry",
    "History",
    "PoolGeometry",
    "Tensor",
    "data",
    "engines",
    "evaluate",
    "explain",
    "fit",
    "get_num_threads",
    "inspect",
    "load",
    "load_model",
    "manual_seed",
    "models",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "predict",
    "report",
    "save",
    "set_num_threads",
    *ops.__all__,
]

# Imported when first used, so that who needs pairs alone does not wait for the rest: name -> the module it is in.
_LATER = {
    **dict.fromkeys(("data", "explain", "inspect", "models", "optim", "report"), "backlit"),
    **dict.fromkeys(("History", "evaluate", "fit", "predict"), "backlit.train"),
    "load_model": "backlit.models",
}


def __getattr__(name: str) -> _typing.Any:
    if name not in _LATER:
        raise AttributeError(f"module 'backlit' has no attribute {name!r}")
    if _LATER[name] == "backlit":
        return _importlib.import_module(f"backlit.{name}")
    value = globals()[name] = getattr(_importlib.import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
