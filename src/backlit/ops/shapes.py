"""The pairs that compute next to nothing: flatten, which reshapes, and add, which joins two branches."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from backlit.ops.arguments import as_axis
from backlit.ops.arrays import Array, as_array, as_upstream, check_cache, empty

__all__ = ["AddCache", "FlattenCache", "add_backward", "add_forward", "flatten_backward", "flatten_forward"]


@dataclass(frozen=True, slots=True, eq=False)
class FlattenCache:
    """What flatten_backward needs to know of flatten_forward: the two shapes."""

    shape: tuple[int, ...]  # of x
    flat: tuple[int, ...]  # of y
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True, eq=False)
class AddCache:
    """What add_backward needs to know of add_forward: the shape that a, b and y share."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def flatten_forward(x: Any, *, start_axis: int = 1) -> tuple[Array, FlattenCache]:
    """Merge all axes from start_axis on into one, in row-major order.

        y[n, c*H*W + i*W + j] = x[n, c, i, j]

    Args:
        x: (N, *rest), float32 or float64; a batch of size 0 is allowed.
        start_axis: the first axis to merge; a negative one counts from the end.

    Returns:
        y of shape (*x.shape[:start_axis], prod(x.shape[start_axis:])), a copy, and the cache for
        flatten_backward.

    Raises:
        TypeError: x is no float array, or start_axis is no integer.
        ValueError: x has no axis start_axis.

    Source:
        As PyTorch's Flatten; the order of the elements is that of NumPy's reshape, order="C".

    Example:
        >>> y, cache = flatten_forward(np.zeros((2, 3, 4, 5)))
        >>> y.shape
        (2, 60)
    """
    x = as_array("x", x)
    start = as_axis("start_axis", start_axis, "x", x.shape)
    flat = (*x.shape[:start], prod(x.shape[start:]))
    return _copy(x, flat), FlattenCache(x.shape, flat, x.dtype)


def flatten_backward(dy: Any, cache: FlattenCache) -> Array:
    """The gradient of flatten_forward's x: dy, with the merged axes taken apart again.

        dx[n, c, i, j] = dy[n, c*H*W + i*W + j]

    Args:
        dy: the upstream gradient, of y's shape.
        cache: from flatten_forward.

    Returns:
        dx of x's shape, a copy.

    Raises:
        TypeError, ValueError: dy is not of y's dtype and shape, or the cache is of another operation.

    Source:
        As `flatten_forward`: a rearrangement's gradient is the inverse rearrangement.

    Example:
        >>> y, cache = flatten_forward([[[1.0], [2.0]]])
        >>> flatten_backward([[3.0, 4.0]], cache).tolist()
        [[[3.0], [4.0]]]
    """
    cache = check_cache("flatten", cache, FlattenCache)
    return _copy(as_upstream("dy", dy, cache.flat, cache.dtype), cache.shape)


def add_forward(a: Any, b: Any) -> tuple[Array, AddCache]:
    """Add two arrays of the same shape, as where a residual branch returns to its trunk.

        y = a + b

    Args:
        a: any shape, float32 or float64.
        b: the same shape and dtype; nothing is broadcast.

    Returns:
        y of the same shape, and the cache for add_backward.

    Raises:
        TypeError: an argument is no float array, or their precisions differ.
        ValueError: their shapes differ.

    Source:
        K. He et al., "Deep residual learning for image recognition", 2016.

    Example:
        >>> y, cache = add_forward([1.0, 2.0], [10.0, 20.0])
        >>> y
        array([11., 22.])
    """
    a = as_array("a", a)
    b = as_array("b", b, dtype=a.dtype)
    if a.shape != b.shape:
        raise ValueError(
            f"a has shape {a.shape} and b has shape {b.shape}, and add takes equal shapes: "
            f"bring one to the other's with np.broadcast_to, if that is what is meant."
        )
    y = empty(a.shape, a.dtype)
    with np.errstate(all="ignore"):
        np.add(a, b, out=y)
    return y, AddCache(a.shape, a.dtype)


def add_backward(dy: Any, cache: AddCache) -> tuple[Array, Array]:
    """The gradients of add_forward's a and b: dy for both, in an array of its own each.

        da = dy
        db = dy

    Args:
        dy: the upstream gradient, of y's shape.
        cache: from add_forward.

    Returns:
        (da, db), each of y's shape.

    Raises:
        TypeError, ValueError: dy is not of y's dtype and shape, or the cache is of another operation.

    Source:
        K. He et al., "Identity mappings in deep residual networks", 2016: the shortcut hands the gradient on as it is.

    Example:
        >>> y, cache = add_forward([1.0], [2.0])
        >>> add_backward([5.0], cache)
        (array([5.]), array([5.]))
    """
    cache = check_cache("add", cache, AddCache)
    dy = as_upstream("dy", dy, cache.shape, cache.dtype)
    return _copy(dy, cache.shape), _copy(dy, cache.shape)


def _copy(x: Array, shape: tuple[int, ...]) -> Array:
    """A fresh copy of x, read in row-major order, as an array of this shape."""
    result = empty(shape, x.dtype)
    result.reshape(x.shape)[...] = x
    return result
