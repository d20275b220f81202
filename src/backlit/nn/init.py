"""How weights begin: PyTorch's distributions, drawn from the generator that `manual_seed` seeds."""

from __future__ import annotations

from math import prod, sqrt
from typing import Any

import numpy as np

from backlit.nn.module import Parameter, precision
from backlit.ops.arrays import Array, empty
from backlit.ops.random import generator


def first_precision(dtype: Any) -> np.dtype[Any]:
    """What the argument `dtype` of a layer asks for: float32 for None, as PyTorch's layers begin."""
    return np.dtype(np.float32) if dtype is None else precision(dtype)


def uniform(shape: tuple[int, ...], bound: float, dtype: np.dtype[Any]) -> Array:
    """Values drawn uniformly from [-bound, bound): one seed gives both precisions the same, but for rounding."""
    result = empty(shape, dtype)
    result[...] = generator().uniform(-bound, bound, shape)
    return result


def weight_and_bias(
    shape: tuple[int, ...], outputs: int, *, bias: bool, dtype: Any = None
) -> tuple[Parameter, Parameter | None]:
    """The parameters of a linear or convolutional layer, as PyTorch's layers begin.

    With fan_in = shape[1] * prod(shape[2:]), the number of terms in one output, the weight is kaiming_uniform
    with a = sqrt(5), which comes to the same interval as the bias has:

        gain = sqrt(2 / (1 + a**2)) = sqrt(1/3),    bound = sqrt(3) * gain / sqrt(fan_in) = 1 / sqrt(fan_in)

    Args:
        shape: of the weight, (out, in/groups, *kernel); transposed (in, out/groups, *kernel), for which
            PyTorch takes fan_in from the second axis, too.
        outputs: size of the bias. bias: whether there is one.
        dtype: np.float32 or np.float64; None for np.float32.

    Source: He et al., "Delving Deep into Rectifiers", 2015; PyTorch's reset_parameters.
    """
    bound = 1 / sqrt(shape[1] * prod(shape[2:]))
    wanted = first_precision(dtype)
    weight = Parameter(uniform(shape, bound, wanted))
    return weight, Parameter(uniform((outputs,), bound, wanted)) if bias else None
