"""How weights begin: PyTorch's distributions, drawn from the generator that `manual_seed` seeds."""

from __future__ import annotations

from math import prod, sqrt

from backlit.nn.module import Parameter
from backlit.ops.arrays import Array, empty
from backlit.ops.random import generator


def uniform(shape: tuple[int, ...], bound: float) -> Array:
    """Float32 values drawn uniformly from [-bound, bound)."""
    result = empty(shape, "float32")
    result[...] = generator().uniform(-bound, bound, shape)
    return result


def weight_and_bias(
    shape: tuple[int, ...], outputs: int, *, bias: bool
) -> tuple[Parameter, Parameter | None]:
    """The parameters of a linear or convolutional layer, as PyTorch's layers begin.

    With fan_in = shape[1] * prod(shape[2:]), the number of terms in one output, the weight is kaiming_uniform
    with a = sqrt(5), which comes to the same interval as the bias has:

        gain = sqrt(2 / (1 + a**2)) = sqrt(1/3),    bound = sqrt(3) * gain / sqrt(fan_in) = 1 / sqrt(fan_in)

    Args:
        shape: of the weight, (out, in/groups, *kernel); transposed (in, out/groups, *kernel), for which
            PyTorch takes fan_in from the second axis, too.
        outputs: size of the bias. bias: whether there is one.

    Source: He et al., "Delving Deep into Rectifiers", 2015; PyTorch's reset_parameters.
    """
    bound = 1 / sqrt(shape[1] * prod(shape[2:]))
    weight = Parameter(uniform(shape, bound))
    return weight, Parameter(uniform((outputs,), bound)) if bias else None
