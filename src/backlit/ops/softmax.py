"""The pairs that turn scores along one axis into probabilities and into their logarithms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from backlit.ops.arguments import as_axis
from backlit.ops.arrays import Array, as_array, as_upstream, check_cache, empty

__all__ = [
    "LogSoftmaxCache",
    "SoftmaxCache",
    "log_softmax_backward",
    "log_softmax_forward",
    "shifted",
    "softmax_backward",
    "softmax_forward",
]


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxCache:
    """What softmax_backward needs: the probabilities, as numerators and denominators."""

    e: Array  # x.shape: exp(x - max(x))
    s: Array  # x.shape with size 1 on the axis: the sum of e
    axis: int


@dataclass(frozen=True, slots=True, eq=False)
class LogSoftmaxCache:
    """What log_softmax_backward needs: the probabilities, as numerators and denominators."""

    e: Array  # x.shape: exp(x - max(x))
    s: Array  # x.shape with size 1 on the axis: the sum of e
    axis: int


def softmax_forward(x: Any, *, axis: int = -1) -> tuple[Array, SoftmaxCache]:
    """Turn the scores along one axis into probabilities that sum to 1.

        y[i] = exp(x[i]) / sum over j of exp(x[j])

    The largest score is subtracted first, so no exponential overflows. A score of -inf has probability 0;
    scores that are all -inf, or of which one is +inf or NaN, give NaN.

    Args:
        x: any shape of at least one axis, float32 or float64.
        axis: the axis of the scores; its size is at least 1.

    Returns:
        y of x's shape, and the cache for softmax_backward.

    Raises:
        TypeError: x is no float array, or axis is no integer.
        ValueError: x has no such axis, or it has size 0.

    Source:
        P. Blanchard, D. Higham and N. Higham, "Accurately computing the log-sum-exp and softmax functions", 2021.

    Example:
        >>> y, cache = softmax_forward([[1000.0, 1000.0], [0.0, -np.inf]])
        >>> y
        array([[0.5, 0.5],
               [1. , 0. ]])
    """
    x, axis = _scores(x, axis)
    y = empty(x.shape, x.dtype)
    with np.errstate(all="ignore"):
        e = shifted(x, axis)
        np.exp(e, out=e)
        s = np.add.reduce(e, axis=axis, keepdims=True, dtype=np.float64).astype(x.dtype)
        np.divide(e, s, out=y)
    return y, SoftmaxCache(e, s, axis)


def softmax_backward(dy: Any, cache: SoftmaxCache) -> Array:
    """The gradient of softmax_forward's x.

        dx[i] = y[i] * (dy[i] - sum over j of dy[j] * y[j])

    Args:
        dy: the upstream gradient, of y's shape.
        cache: from softmax_forward.

    Returns:
        dx of x's shape.

    Raises:
        TypeError, ValueError: dy is not of y's dtype and shape, or the cache is of another operation.

    Source:
        J. Bridle, "Training stochastic model recognition algorithms as networks can lead to maximum mutual information
        estimation of parameters", 1990: the derivative of y[i] by x[j] is y[i] * ([i == j] - y[j]).

    Example:
        >>> y, cache = softmax_forward([0.0, 0.0])
        >>> softmax_backward([4.0, 0.0], cache)
        array([ 1., -1.])
    """
    cache = check_cache("softmax", cache, SoftmaxCache)
    e = cache.e
    dy = as_upstream("dy", dy, e.shape, e.dtype)
    dx = empty(e.shape, e.dtype)
    with np.errstate(all="ignore"):
        y = e / cache.s
        np.multiply(dy, y, out=dx)
        dot = np.add.reduce(dx, axis=cache.axis, keepdims=True, dtype=np.float64).astype(e.dtype)
        np.subtract(dy, dot, out=dx)
        dx *= y
    return dx


def log_softmax_forward(x: Any, *, axis: int = -1) -> tuple[Array, LogSoftmaxCache]:
    """Turn the scores along one axis into the logarithms of probabilities that sum to 1.

        y[i] = x[i] - log(sum over j of exp(x[j]))

    The largest score is subtracted first, so no exponential overflows and no logarithm meets 0.

    Args:
        x: any shape of at least one axis, float32 or float64; infinities and NaN as in softmax_forward.
        axis: the axis of the scores; its size is at least 1.

    Returns:
        y of x's shape, and the cache for log_softmax_backward.

    Raises:
        TypeError: x is no float array, or axis is no integer.
        ValueError: x has no such axis, or it has size 0.

    Source:
        As `softmax_forward`.

    Example:
        >>> y, cache = log_softmax_forward([1000.0, 1000.0 - np.log(3.0)])
        >>> print(np.exp(y).round(6))
        [0.75 0.25]
    """
    x, axis = _scores(x, axis)
    y = empty(x.shape, x.dtype)
    with np.errstate(all="ignore"):
        e = shifted(x, axis)
        y[...] = e
        np.exp(e, out=e)
        s = np.add.reduce(e, axis=axis, keepdims=True, dtype=np.float64)
        y -= np.log(s).astype(x.dtype)
    return y, LogSoftmaxCache(e, s.astype(x.dtype), axis)


def log_softmax_backward(dy: Any, cache: LogSoftmaxCache) -> Array:
    """The gradient of log_softmax_forward's x.

        dx[i] = dy[i] - exp(y[i]) * sum over j of dy[j]

    Args:
        dy: the upstream gradient, of y's shape.
        cache: from log_softmax_forward.

    Returns:
        dx of x's shape.

    Raises:
        TypeError, ValueError: dy is not of y's dtype and shape, or the cache is of another operation.

    Source:
        As `softmax_backward`: the derivative of y[i] by x[j] is [i == j] - exp(y[j]).

    Example:
        >>> y, cache = log_softmax_forward([0.0, 0.0])
        >>> log_softmax_backward([4.0, 0.0], cache)
        array([ 2., -2.])
    """
    cache = check_cache("log_softmax", cache, LogSoftmaxCache)
    e = cache.e
    dy = as_upstream("dy", dy, e.shape, e.dtype)
    dx = empty(e.shape, e.dtype)
    with np.errstate(all="ignore"):
        total = np.add.reduce(dy, axis=cache.axis, keepdims=True, dtype=np.float64)
        np.multiply(e, (total / cache.s).astype(e.dtype), out=dx)
        np.subtract(dy, dx, out=dx)
    return dx


def shifted(x: Array, axis: int) -> Array:
    """x minus its largest element along the axis, fresh and C-contiguous: its exponential is at most 1."""
    result = empty(x.shape, x.dtype)
    np.subtract(x, np.maximum.reduce(x, axis=axis, keepdims=True), out=result)
    return result


def _scores(x: Any, axis: int) -> tuple[Array, int]:
    """x as an array, and its axis counted from the front, known to be of size 1 or more."""
    array = as_array("x", x)
    axis = as_axis("axis", axis, "x", array.shape)
    if array.shape[axis] == 0:
        raise ValueError(
            f"x has shape {array.shape}, and its axis {axis} of scores needs a size of at least 1."
        )
    return array, axis
