"""The pooling pairs over windows that the output's size decides: adaptive and global average, in 1 to 3 axes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from backlit.ops.arrays import Array, as_array, as_upstream, check_cache, empty
from backlit.sizes import check_fits, check_input_shape, check_layout, per_axis


@dataclass(frozen=True, slots=True)
class AdaptiveAvgPoolCache:
    """What the backward pass needs: the shapes of x and y."""

    layout: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    output_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GlobalAvgPoolCache:
    """What the backward pass needs: the shape of x."""

    layout: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def adaptive_avg_pool_forward(
    x: Any, output_size: Any, *, layout: str = "channels_first"
) -> tuple[Array, AdaptiveAvgPoolCache]:
    """The mean of windows chosen so that the output has a given size, whatever the input's.

        y[n, c, o] = mean of x[n, c, i] for floor(o*I/O) <= i < ceil((o + 1)*I/O), on every axis of I to O positions

    Args:
        x: input (N, C, *spatial), or (N, *spatial, C) for channels_last; float32 or float64.
        output_size: int or one per axis. layout: "channels_first" or "channels_last".

    Returns:
        y (N, C, *output_size) and the cache for `adaptive_avg_pool_backward`.

    Raises:
        TypeError, ValueError: another array, or an output size below 1.

    Source:
        Window bounds as PyTorch's AdaptiveAvgPool.

    Example:
        >>> adaptive_avg_pool_forward(np.array([[[1.0, 3.0, 5.0, 7.0]]]), 2)[0].tolist()
        [[[2.0, 6.0]]]
    """
    x = as_array("x", x)
    check_input_shape(x.shape, check_layout(layout))
    axes = _spatial_axes(x.ndim, layout)
    sizes = per_axis("output_size", output_size, len(axes), 1)
    shape = list(x.shape)
    for axis, size in zip(axes, sizes, strict=True):
        shape[axis] = size
    check_fits(f"y of shape {tuple(shape)}", prod(max(size, 1) for size in shape) * 8, "bytes")
    values = x
    with np.errstate(all="ignore"):
        for axis, size in zip(axes, sizes, strict=True):
            values = _window_means(values, axis, size)
    y = empty(tuple(shape), x.dtype)
    y[...] = values
    return y, AdaptiveAvgPoolCache(layout, x.dtype, x.shape, y.shape)


def adaptive_avg_pool_backward(dy: Any, cache: AdaptiveAvgPoolCache) -> Array:
    """The gradient of an adaptive average pool: each dy is shared evenly among the elements of its window.

        dx[n, c, i] = sum over the windows o that read i of dy[n, c, o] / size of the window

    Args:
        dy: upstream gradient, of the output's shape and dtype. cache: from `adaptive_avg_pool_forward`.

    Returns:
        dx of the shape of x.

    Raises:
        TypeError, ValueError: dy of another shape or dtype, a cache of another operation.

    Source:
        As `adaptive_avg_pool_forward`.

    Example:
        >>> y, cache = adaptive_avg_pool_forward(np.ones((1, 1, 4)), 2)
        >>> adaptive_avg_pool_backward(np.array([[[2.0, 4.0]]]), cache).tolist()
        [[[1.0, 1.0, 2.0, 2.0]]]
    """
    cache = check_cache("adaptive_avg_pool", cache, AdaptiveAvgPoolCache)
    values = as_upstream("dy", dy, cache.output_shape, cache.dtype)
    with np.errstate(all="ignore"):
        for axis in _spatial_axes(len(cache.shape), cache.layout):
            values = _window_shares(values, axis, cache.shape[axis])
    dx = empty(cache.shape, cache.dtype)
    dx[...] = values
    return dx


def global_avg_pool_forward(x: Any, *, layout: str = "channels_first") -> tuple[Array, GlobalAvgPoolCache]:
    """The mean of every channel over all spatial positions.

        y[n, c, 1, ...] = sum over i of x[n, c, i] / number of positions

    Args:
        x: input (N, C, *spatial), or (N, *spatial, C) for channels_last; float32 or float64.
        layout: "channels_first" or "channels_last".

    Returns:
        y (N, C, 1, ...), or (N, 1, ..., C), and the cache for `global_avg_pool_backward`.

    Raises:
        TypeError, ValueError: another array.

    Source:
        M. Lin et al., "Network in network", 2013, arXiv:1312.4400.

    Example:
        >>> global_avg_pool_forward(np.array([[[1.0, 2.0, 6.0]]]))[0].tolist()
        [[[3.0]]]
    """
    x = as_array("x", x)
    check_input_shape(x.shape, check_layout(layout))
    axes = _spatial_axes(x.ndim, layout)
    y = empty(tuple(1 if axis in axes else size for axis, size in enumerate(x.shape)), x.dtype)
    with np.errstate(all="ignore"):
        y[...] = x.mean(axis=axes, keepdims=True, dtype=np.float64)
    return y, GlobalAvgPoolCache(layout, x.dtype, x.shape)


def global_avg_pool_backward(dy: Any, cache: GlobalAvgPoolCache) -> Array:
    """The gradient of a global average pool: each dy is shared evenly among all positions of its channel.

        dx[n, c, i] = dy[n, c, 1, ...] / number of positions

    Args:
        dy: upstream gradient, of the output's shape and dtype. cache: from `global_avg_pool_forward`.

    Returns:
        dx of the shape of x.

    Raises:
        TypeError, ValueError: dy of another shape or dtype, a cache of another operation.

    Source:
        As `global_avg_pool_forward`.

    Example:
        >>> y, cache = global_avg_pool_forward(np.ones((1, 1, 4)))
        >>> global_avg_pool_backward(np.array([[[2.0]]]), cache).tolist()
        [[[0.5, 0.5, 0.5, 0.5]]]
    """
    cache = check_cache("global_avg_pool", cache, GlobalAvgPoolCache)
    axes = _spatial_axes(len(cache.shape), cache.layout)
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(cache.shape))
    dy = as_upstream("dy", dy, shape, cache.dtype)
    dx = empty(cache.shape, dy.dtype)
    with np.errstate(all="ignore"):
        np.divide(dy, prod(cache.shape[axis] for axis in axes), out=dx)
    return dx


def _bounds(inputs: int, outputs: int) -> tuple[Array, Array]:
    """The first input position of every window of an adaptive pool, and the one after its last."""
    o = np.arange(outputs)
    return o * inputs // outputs, -(-(o + 1) * inputs // outputs)


def _window_means(x: Array, axis: int, outputs: int) -> Array:
    """The mean of x over every adaptive window along one axis, summed position by position of the window."""
    first, stop = _bounds(x.shape[axis], outputs)
    longest = int((stop - first).max())
    total = np.zeros((*x.shape[:axis], outputs, *x.shape[axis + 1 :]), np.float64)
    for step in range(longest):
        reads = np.flatnonzero(first + step < stop)
        total[_along(axis, x.ndim, reads)] += x.take(first[reads] + step, axis)
    return np.asarray(total / (stop - first).reshape(-1, *(1,) * (x.ndim - axis - 1)))


def _window_shares(dy: Array, axis: int, inputs: int) -> Array:
    """The adjoint of `_window_means`: every dy, over its window's length, added to all positions of the window."""
    first, stop = _bounds(inputs, dy.shape[axis])
    shares = dy / (stop - first).reshape(-1, *(1,) * (dy.ndim - axis - 1))
    dx = np.zeros((*dy.shape[:axis], inputs, *dy.shape[axis + 1 :]), np.float64)
    for step in range(int((stop - first).max())):
        reads = np.flatnonzero(first + step < stop)
        at, share = _along(axis, dy.ndim, first[reads] + step), shares.take(reads, axis)
        if dy.shape[axis] <= inputs:  # no two windows begin at the same position
            dx[at] += share
        else:
            np.add.at(dx, at, share)
    return dx


def _along(axis: int, ndim: int, positions: Array) -> Any:
    """An index of positions along one axis and of everything along the others."""
    return (*(slice(None),) * axis, positions, *(slice(None),) * (ndim - axis - 1))


def _spatial_axes(ndim: int, layout: str) -> tuple[int, ...]:
    return tuple(range(2, ndim)) if layout == "channels_first" else tuple(range(1, ndim - 1))
