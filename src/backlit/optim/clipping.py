"""Gradient clipping: all gradients together, scaled down to a largest norm."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from backlit.nn.module import Parameter
from backlit.ops.arguments import as_flag, as_number
from backlit.ops.arrays import Array
from backlit.optim.parameters import gradient_of, parameter_list

_BLOCK = 1 << 16  # elements squared at a time: half a megabyte


def clip_grad_norm_(
    parameters: Iterable[Parameter], max_norm: float, *, error_if_nonfinite: bool = False
) -> float:
    """Scale the gradients of all parameters by one factor where their common norm is above max_norm.

        norm = sqrt(sum of g**2 over all elements of all gradients)
        g    = g * max_norm / norm     if norm > max_norm

    Where the norm is infinite or NaN there is no such factor: the gradients stay as they are, and the norm
    that is returned says so.

    Args:
        parameters: an iterable of parameters; those without gradient do not count.
        max_norm: above 0; math.inf only measures.
        error_if_nonfinite: raise instead of leaving the gradients as they are.

    Returns:
        The norm before the clipping, computed in float64.

    Raises:
        TypeError, ValueError: parameters is no iterable of parameters, a gradient is no array like its
            parameter, or max_norm is no number above 0.
        ValueError: the norm is infinite or NaN, and error_if_nonfinite is set.

    Source: Pascanu et al., "On the difficulty of training recurrent neural networks", 2013.

    Example:
        >>> p = Parameter(np.zeros(2))
        >>> p.grad = np.array([3.0, 4.0])
        >>> clip_grad_norm_([p], max_norm=1.0), p.grad
        (5.0, array([0.6, 0.8]))
    """
    limit = as_number("max_norm", max_norm, 0, math.inf)
    if not limit:
        raise ValueError("max_norm is 0, and a number above 0 is needed: math.inf only measures.")
    known = [(p, gradient_of(i, p)) for i, p in enumerate(parameter_list(parameters))]
    norm = _norm([gradient for _, gradient in known if gradient is not None])
    if not math.isfinite(norm):
        if as_flag("error_if_nonfinite", error_if_nonfinite):
            raise ValueError(
                f"the norm of the gradients is {norm}: lower the learning rate, or look for the layer."
            )
        return norm
    if norm > limit:
        for parameter, gradient in known:
            if gradient is not None:  # a new array each: two may share memory, and one may be read-only
                parameter.grad = np.asarray(gradient * (limit / norm))
    return norm


def _norm(gradients: list[Array]) -> float:
    """The Euclidean norm of all elements together, right also where a square is beyond float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = sum(_squares(g, 1.0) for g in gradients)
        if total and math.isfinite(total):
            return math.sqrt(total)
        largest = max((float(np.max(np.abs(g), initial=0.0)) for g in gradients), default=0.0)
        if not largest or not math.isfinite(largest):
            return math.sqrt(total) if not math.isnan(total) else math.nan
        return largest * math.sqrt(sum(_squares(g, largest) for g in gradients))


def _squares(g: Array, scale: float) -> float:
    """The sum of (g / scale)**2 in float64, in an order that no number of threads changes: BLAS would split it."""
    flat = g.reshape(-1)
    total = 0.0
    for first in range(0, flat.size, _BLOCK):
        block = flat[first : first + _BLOCK].astype(np.float64)
        if scale != 1.0:
            block /= scale
        total += float(np.add.reduce(np.square(block, out=block)))
    return total
