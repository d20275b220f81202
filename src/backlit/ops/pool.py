"""The pooling pairs over sliding windows: max and average, in 1 to 3 axes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import numpy as np

from backlit.engines import Problem, remembered
from backlit.geometry import PoolGeometry
from backlit.ops.arrays import Array, as_array, as_upstream, check_cache
from backlit.sizes import Sizes, integer, shown


@dataclass(frozen=True, slots=True)
class MaxPoolCache:
    """What the backward pass needs: the problem, and the tap that won each window."""

    problem: Problem[PoolGeometry]
    dtype: np.dtype[Any]
    winners: Array


@dataclass(frozen=True, slots=True)
class AvgPoolCache:
    """What the backward pass needs: the problem, and the divisor of each window."""

    problem: Problem[PoolGeometry]
    dtype: np.dtype[Any]
    divisors: Array  # (*output)


@remembered
def _problem(
    shapes: tuple[Sizes],
    layout: str,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
) -> Problem[PoolGeometry]:
    """The problem of an x of this shape."""
    geometry = PoolGeometry.from_shape(
        *shapes,
        kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        layout=layout,
    )
    return Problem(geometry, layout)


def max_pool_forward(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    layout: str = "channels_first",
) -> tuple[Array, MaxPoolCache]:
    """The largest element of every window, channel by channel.

        y[n, c, o] = max over u of x[n, c, stride*o + dilation*u - padding], positions in the padding left out

    NaN is larger than everything, and the first of equal elements in row-major order counts as the largest. A window
    that reads the padding alone gives -inf.

    Args:
        x: input (N, C, *spatial), or (N, *spatial, C) for channels_last, of 1 to 3 spatial axes; float32 or float64.
        kernel_size: window size; int or one per axis. stride: None is the kernel size. dilation: int or one per axis.
        padding: int, one per axis, or one (low, high) pair per axis, "valid" or "same".
        ceil_mode: round the output size up, as long as the last window begins inside the input or its low padding.
        layout: "channels_first" or "channels_last".

    Returns:
        y (N, C, *output) and the cache for `max_pool_backward`.

    Raises:
        TypeError, ValueError, OverflowError: as `conv_forward`.

    Source:
        M. Ranzato et al., "Unsupervised learning of invariant feature hierarchies", 2007; sizes as PyTorch's MaxPool.

    Example:
        >>> y, cache = max_pool_forward(np.array([[[1.0, 3.0, 2.0, 0.0]]]), 2)
        >>> y.tolist(), max_pool_backward(np.array([[[10.0, 20.0]]]), cache).tolist()
        ([[[3.0, 2.0]]], [[[0.0, 10.0, 20.0, 0.0]]])
    """
    x = as_array("x", x)
    problem = _problem((x.shape,), layout, kernel_size, stride, padding, dilation, ceil_mode)
    y, winners = problem.run("max_pool_forward", x.dtype, x)
    return y, MaxPoolCache(problem, x.dtype, winners)


def max_pool_backward(dy: Any, cache: MaxPoolCache) -> Array:
    """The gradient of a max pool: each dy goes to the element that won its window.

        dx[n, c, i] = sum of dy[n, c, o] over the windows o that x[n, c, i] won

    Args:
        dy: upstream gradient, of the output's shape and dtype. cache: from `max_pool_forward`.

    Returns:
        dx of the shape of x. A window that read the padding alone sends nothing.

    Raises:
        TypeError, ValueError: dy of another shape or dtype, a cache of another operation.

    Source:
        As `max_pool_forward`. Where elements tie, the gradient goes to the first, one of the subgradients.

    Example:
        >>> y, cache = max_pool_forward(np.array([[[5.0, 5.0]]]), 2)
        >>> max_pool_backward(np.array([[[1.0]]]), cache).tolist()
        [[[1.0, 0.0]]]
    """
    cache = check_cache("max_pool", cache, MaxPoolCache)
    dy = as_upstream("dy", dy, cache.problem.shapes[2], cache.dtype)
    dx: Array = cache.problem.run("max_pool_backward", cache.dtype, dy, cache.winners)
    return dx


def avg_pool_forward(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    layout: str = "channels_first",
) -> tuple[Array, AvgPoolCache]:
    """The mean of every window, channel by channel.

        y[n, c, o] = sum over u of x[n, c, stride*o + u - padding] / divisor[o]

    The divisor is the number of positions of the window inside the padded input, or inside the input alone without
    count_include_pad, or `divisor_override`. A window without any position gives 0.

    Args:
        x, kernel_size, stride, padding, ceil_mode, layout: as `max_pool_forward`.
        count_include_pad: count the zeros of the padding. divisor_override: an int to divide by instead.

    Returns:
        y (N, C, *output) and the cache for `avg_pool_backward`.

    Raises:
        TypeError, ValueError, OverflowError: as `conv_forward`.

    Source:
        Y. LeCun et al., "Gradient-based learning applied to document recognition", 1998; divisors as PyTorch's AvgPool.

    Example:
        >>> y, cache = avg_pool_forward(np.array([[[1.0, 3.0, 2.0, 0.0]]]), 2)
        >>> y.tolist(), avg_pool_backward(np.array([[[10.0, 20.0]]]), cache).tolist()
        ([[[2.0, 1.0]]], [[[5.0, 5.0, 10.0, 10.0]]])
    """
    x = as_array("x", x)
    problem = _problem((x.shape,), layout, kernel_size, stride, padding, 1, ceil_mode)
    if type(count_include_pad) is not bool:
        raise TypeError(f"count_include_pad is {shown(count_include_pad)}, and True or False is needed.")
    if divisor_override is not None:
        override = float(integer("divisor_override", divisor_override, 1))
        divisors = np.full(problem.geometry.output_size, override)
    else:
        divisors = _divisors(problem.geometry, count_include_pad)
    y: Array = problem.run("avg_pool_forward", x.dtype, x, divisors)
    return y, AvgPoolCache(problem, x.dtype, divisors)


def avg_pool_backward(dy: Any, cache: AvgPoolCache) -> Array:
    """The gradient of an average pool: each dy, over its divisor, goes to every element of its window.

        dx[n, c, i] = sum over the windows o that read i of dy[n, c, o] / divisor[o]

    Args:
        dy: upstream gradient, of the output's shape and dtype. cache: from `avg_pool_forward`.

    Returns:
        dx of the shape of x.

    Raises:
        TypeError, ValueError: dy of another shape or dtype, a cache of another operation.

    Source:
        As `avg_pool_forward`.

    Example:
        >>> y, cache = avg_pool_forward(np.ones((1, 1, 3)), 2, stride=1)
        >>> avg_pool_backward(np.array([[[1.0, 1.0]]]), cache).tolist()
        [[[0.5, 1.0, 0.5]]]
    """
    cache = check_cache("avg_pool", cache, AvgPoolCache)
    dy = as_upstream("dy", dy, cache.problem.shapes[2], cache.dtype)
    dx: Array = cache.problem.run("avg_pool_backward", cache.dtype, dy, cache.divisors)
    return dx


@lru_cache(maxsize=256)
def _divisors(geometry: PoolGeometry, count_include_pad: bool) -> Array:
    """The divisor of every output position (*output): positions of its window that count, at least 1."""
    counts = []
    per_axis_of = zip(
        geometry.input_size,
        geometry.kernel_size,
        geometry.windows.stride,
        geometry.padding,
        geometry.output_size,
        strict=True,
    )
    for size, kernel, stride, (low, high), outputs in per_axis_of:
        start = np.arange(outputs) * stride - low
        first, last = (-low, size + high) if count_include_pad else (0, size)
        counts.append(np.maximum(np.minimum(start + kernel, last) - np.maximum(start, first), 0))
    divisors: Array = np.maximum(reduce(np.multiply.outer, counts), 1).astype(float)
    divisors.flags.writeable = False  # many caches share it
    return divisors
