"""backlit: convolutional backpropagation you can see through.

Pairs of plain functions over NumPy arrays compute every convolution and its gradients; tensors and modules train
networks with them; `explain` shows the chain rule at work.
"""

from backlit import engines, nn, ops, optim
from backlit.engines import get_num_threads, set_num_threads
from backlit.geometry import ConvGeometry, PoolGeometry
from backlit.graph import Tensor, no_grad
from backlit.nn.storage import load, save
from backlit.ops import *  # noqa: F403  # the pairs, listed once, in ops.__all__
from backlit.ops.random import manual_seed

__version__ = "0.1.0"

__all__ = [
    "ConvGeometry",
    "PoolGeometry",
    "Tensor",
    "engines",
    "get_num_threads",
    "load",
    "manual_seed",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "save",
    "set_num_threads",
    *ops.__all__,
]
