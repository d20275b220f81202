"""The pairs that bend each element by itself: relu, sigmoid and tanh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from backlit.ops.arrays import Array, as_array, as_upstream, check_cache, empty

__all__ = [
    "ReluCache",
    "SigmoidCache",
    "TanhCache",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "tanh_backward",
    "tanh_forward",
]


@dataclass(frozen=True, slots=True, eq=False)
class ReluCache:
    """What relu_backward needs: which elements passed, in one byte each."""

    kept: Array  # x.shape, int8: -1 (all bits set) where x > 0 or x is NaN, else 0
    dtype: np.dtype[np.float32] | np.dtype[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SigmoidCache:
    """What sigmoid_backward needs: the exponential that sigmoid_forward computed on its way."""

    e: Array  # x.shape: exp(-|x|)


@dataclass(frozen=True, slots=True, eq=False)
class TanhCache:
    """What tanh_backward reads again: the input of tanh_forward."""

    x: Array


def relu_forward(x: Any) -> tuple[Array, ReluCache]:
    """Replace every negative element by zero.

        y = max(x, 0)

    Args:
        x: any shape, float32 or float64. NaN stays NaN; -0.0 becomes 0.0.

    Returns:
        y of x's shape, and the cache for relu_backward.

    Raises:
        TypeError: x is no float array.

    Source:
        V. Nair and G. Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010.

    Example:
        >>> y, cache = relu_forward([-1.0, 0.0, 2.0])
        >>> y
        array([0., 0., 2.])
    """
    x = as_array("x", x)
    dropped = np.empty(x.shape, np.bool_)
    with np.errstate(all="ignore"):
        np.less_equal(x, 0, out=dropped)
    kept = dropped.view(np.int8)
    kept -= 1  # 0 (not dropped) -> -1, 1 -> 0
    return _keep(x, kept), ReluCache(kept, x.dtype)


def relu_backward(dy: Any, cache: ReluCache) -> Array:
    """The gradient of relu_forward's x: dy where x was positive, zero elsewhere.

        dx = dy where x > 0, else 0

    At x = 0, where any slope from 0 to 1 would do, it is 0; where x was NaN it is dy, as in PyTorch. An
    element that is zeroed is 0 also where dy is infinite or NaN.

    Args:
        dy: the upstream gradient, of y's shape.
        cache: from relu_forward.

    Returns:
        dx of x's shape.

    Raises:
        TypeError, ValueError: dy is not of y's dtype and shape, or the cache is of another operation.

    Source:
        X. Glorot, A. Bordes and Y. Bengio, "Deep sparse rectifier neural networks", 2011; at 0 as PyTorch.

    Example:
        >>> y, cache = relu_forward([-1.0, 0.0, 2.0])
        >>> relu_backward([5.0, 6.0, 7.0], cache)
        array([0., 0., 7.])
    """
    cache = check_cache("relu", cache, ReluCache)
    return _keep(as_upstream("dy", dy, cache.kept.shape, cache.dtype), cache.kept)


def sigmoid_forward(x: Any) -> tuple[Array, SigmoidCache]:
    """Squash every element into (0, 1) by the logistic function.

        y = 1 / (1 + exp(-x))

    It is computed from exp(-|x|), which cannot overflow, and keeps its relative accuracy down to the smallest
    float.

    Args:
        x: any shape, float32 or float64.

    Returns:
        y of x's shape, and the cache for sigmoid_backward.

    Raises:
        TypeError: x is no float array.

    Source:
        D. Rumelhart, G. Hinton and R. Williams, "Learning representations by back-propagating errors", 1986.

    Example:
        >>> y, cache = sigmoid_forward([-1000.0, 0.0, 1000.0])
        >>> y
        array([0. , 0.5, 1. ])
    """
    x = as_array("x", x)
    y = empty(x.shape, x.dtype)
    e = empty(x.shape, x.dtype)
    with np.errstate(all="ignore"):
        _exp_of_minus_abs(x, e)
        # y = (1 if x >= 0 else e) / (1 + e), and e <= 1 makes the numerator a maximum
        np.greater_equal(x, 0, out=y)
        np.maximum(y, e, out=y)
        np.divide(y, e + 1, out=y)
    return y, SigmoidCache(e)


def sigmoid_backward(dy: Any, cache: SigmoidCache) -> Array:
    """The gradient of sigmoid_forward's x.

        dx = dy * y * (1 - y)

    It is computed as dy * e / (1 + e)**2 with e = exp(-|x|), which is the same and, unlike 1 - y, loses no
    digits where y is close to 1.

    Args:
        dy: the upstream gradient, of y's shape.
        cache: from sigmoid_forward.

    Returns:
        dx of x's shape.

    Raises:
        TypeError, ValueError: dy is not of y's dtype and shape, or the cache is of another operation.

    Source:
        D. Rumelhart, G. Hinton and R. Williams, "Learning representations by back-propagating errors", 1986.

    Example:
        >>> y, cache = sigmoid_forward([0.0])
        >>> sigmoid_backward([4.0], cache)
        array([1.])
    """
    cache = check_cache("sigmoid", cache, SigmoidCache)
    e = cache.e
    dy = as_upstream("dy", dy, e.shape, e.dtype)
    dx = empty(e.shape, e.dtype)
    with np.errstate(all="ignore"):
        np.add(e, 1, out=dx)
        np.square(dx, out=dx)
        np.divide(e, dx, out=dx)
        dx *= dy
    return dx


def tanh_forward(x: Any) -> tuple[Array, TanhCache]:
    """Squash every element into (-1, 1) by the hyperbolic tangent.

        y = tanh(x) = (exp(x) - exp(-x)) / (exp(x) + exp(-x))

    Args:
        x: any shape, float32 or float64.

    Returns:
        y of x's shape, and the cache for tanh_backward, which keeps x.

    Raises:
        TypeError: x is no float array.

    Source:
        Y. LeCun et al., "Gradient-based learning applied to document recognition", 1998.

    Example:
        >>> y, cache = tanh_forward([-1000.0, 0.0, 1000.0])
        >>> y
        array([-1.,  0.,  1.])
    """
    x = as_array("x", x)
    y = empty(x.shape, x.dtype)
    with np.errstate(all="ignore"):
        np.tanh(x, out=y)
    return y, TanhCache(x)


def tanh_backward(dy: Any, cache: TanhCache) -> Array:
    """The gradient of tanh_forward's x.

        dx = dy * (1 - y**2)

    It is computed as dy * e / ((1 + e) / 2)**2 with e = exp(-2 * |x|), which is the same and, unlike 1 -
    y**2, loses no digits where y is close to 1 or -1.

    Args:
        dy: the upstream gradient, of y's shape.
        cache: from tanh_forward.

    Returns:
        dx of x's shape.

    Raises:
        TypeError, ValueError: dy is not of y's dtype and shape, or the cache is of another operation.

    Source:
        Y. LeCun et al., "Efficient backprop", 1998; the form in e is that of 1 / cosh(x)**2.

    Example:
        >>> y, cache = tanh_forward([0.0])
        >>> tanh_backward([3.0], cache)
        array([3.])
    """
    cache = check_cache("tanh", cache, TanhCache)
    x = cache.x
    dy = as_upstream("dy", dy, x.shape, x.dtype)
    dx = empty(x.shape, x.dtype)
    with np.errstate(all="ignore"):
        _exp_of_minus_abs(x, dx, times=2)
        half = np.multiply(dx, 0.5, out=np.empty_like(dx))
        half += 0.5
        np.square(half, out=half)
        dx /= half
        dx *= dy
    return dx


def _keep(values: Array, kept: Array) -> Array:
    """A fresh copy of `values` where `kept` has all bits set, and 0.0 where it has none.

    On the bits, because a selection by condition costs ten times as much when the signs are random.
    """
    result = empty(values.shape, values.dtype)
    bits = np.dtype(np.int32 if values.itemsize == 4 else np.int64)
    np.bitwise_and(values.view(bits), kept, out=result.view(bits))
    return result


def _exp_of_minus_abs(x: Array, out: Array, times: int = 1) -> None:
    """out = exp(-times * |x|), in place."""
    np.abs(x, out=out)
    out *= -times
    np.exp(out, out=out)
