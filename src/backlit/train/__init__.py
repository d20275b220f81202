"""Training: fit, its History and checkpoints, and what a model predicts and how well."""

from backlit.train.evaluation import evaluate, predict
from backlit.train.fitting import fit
from backlit.train.history import History
from backlit.train.loop import Run

__all__ = ["History", "Run", "evaluate", "fit", "predict"]
