"""backlit: convolutional backpropagation you can see through.

Pairs of plain functions over NumPy arrays compute every convolution and its gradients; tensors and modules train
networks with them; `explain` shows the chain rule at work.
"""

from backlit import data, engines, explain, inspect, models, nn, ops, optim
from backlit.engines import get_num_threads, set_num_threads
from backlit.geometry import ConvGeometry, PoolGeometry
from backlit.graph import Tensor, no_grad
from backlit.models import load_model
from backlit.nn.storage import load, save
from backlit.ops import *  # noqa: F403  # the pairs, listed once, in ops.__all__
from backlit.ops.random import manual_seed
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
    "save",
    "set_num_threads",
    *ops.__all__,
]
