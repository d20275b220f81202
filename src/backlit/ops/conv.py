"""The convolution pairs: convolution and transposed convolution, forward and all gradients, in 1 to 3 axes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from backlit.engines import Problem, remembered
from backlit.geometry import ConvGeometry
from backlit.ops.arguments import as_needs
from backlit.ops.arrays import Array, as_array, as_upstream, check_cache
from backlit.sizes import Sizes

NEEDS = ("dx", "dw", "db")


@dataclass(slots=True, eq=False)
class _Cache:
    """What the backward pass needs: the problem, and references to the arrays that were given."""

    problem: Problem[ConvGeometry]
    x: Array
    w: Array
    biased: bool  # whether b was given

    @property
    def geometry(self) -> ConvGeometry:
        """Sizes, stride, padding, dilation and groups."""
        return self.problem.geometry

    @property
    def layout(self) -> str:
        """The layout of all arrays."""
        return self.problem.layout


@dataclass(slots=True, eq=False)
class ConvCache(_Cache):
    """The cache of `conv_forward`."""


@dataclass(slots=True, eq=False)
class ConvTransposeCache(_Cache):
    """The cache of `conv_transpose_forward`."""


@remembered
def _problem(
    shapes: tuple[Sizes, Sizes],
    layout: str,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    transposed: bool = False,
    output_padding: Any = 0,
) -> Problem[ConvGeometry]:
    """The problem of an x and a w of these shapes."""
    geometry = ConvGeometry.from_shapes(
        *shapes,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        layout=layout,
        transposed=transposed,
        output_padding=output_padding,
    )
    return Problem(geometry, layout, bare=len(shapes[0]) <= 2)


def conv_forward(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    layout: str = "channels_first",
) -> tuple[Array, ConvCache]:
    """The convolution of deep learning, a cross-correlation of x with w, plus a bias.

        y[n, k, o] = b[k] + sum over c, u of w[k, c, u] * x[n, c, stride*o + dilation*u - padding]

    Args:
        x: input (N, C, *spatial), or (N, *spatial, C) for channels_last, of 1 to 3 spatial axes; float32 or float64.
            The bare (H, W) or (L,) is one sample of one channel.
        w: weights (K, C/groups, *kernel), or (*kernel, C/groups, K) for channels_last; bare (kH, kW) or (k,).
        b: bias (K,), or None; bare a scalar.
        stride: output positions lie this many input positions apart; int or one per axis.
        padding: zeros around the input: int, one per axis, one (low, high) pair per axis, "valid" or "same"; a negative
            pad crops.
        dilation: taps lie this many input positions apart; int or one per axis.
        groups: number of groups that the channels and filters are split into.
        layout: "channels_first" or "channels_last".

    Returns:
        y (N, K, *output), or (N, *output, K) for channels_last, or bare (oH, oW), with
        output = floor((input + pads - dilation*(kernel - 1) - 1) / stride) + 1; and the cache for `conv_backward`,
        which refers to x and w.

    Raises:
        TypeError: an array that is not float32 or float64, mixed precision, a bool or float where an int belongs.
        ValueError: shapes or a configuration that do not go together. OverflowError: sizes beyond 64 bits.

    Source:
        V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", 2016, arXiv:1603.07285.

    Example:
        >>> x = np.arange(9.0).reshape(3, 3)
        >>> y, cache = conv_forward(x, np.array([[1.0, 0.0], [0.0, -1.0]]))
        >>> y.tolist()
        [[-4.0, -4.0], [-4.0, -4.0]]
    """
    x, w = _arrays(x, w)
    problem = _problem((x.shape, w.shape), layout, stride, padding, dilation, groups)
    bias = None if b is None else _bias(b, problem, x.dtype)
    y: Array = problem.run("conv_forward", x.dtype, x, w, bias)
    return y, ConvCache(problem, x, w, b is not None)


def conv_backward(dy: Any, cache: ConvCache, *, needs: Collection[str] = NEEDS) -> tuple[Array | None, ...]:
    """The gradients of a convolution, from the gradient dy of its output.

        dx[n, c, i] = sum over k, u, o with stride*o + dilation*u - padding = i of w[k, c, u] * dy[n, k, o]
        dw[k, c, u] = sum over n, o of x[n, c, stride*o + dilation*u - padding] * dy[n, k, o]
        db[k]       = sum over n, o of dy[n, k, o]

    Args:
        dy: upstream gradient, of the output's shape and dtype.
        cache: from `conv_forward`; it may be used any number of times.
        needs: the gradients to compute, among "dx", "dw", "db"; a first layer spares itself dx.

    Returns:
        (dx, dw), or (dx, dw, db) when a bias was given, each of the shape of what it is the gradient of; None for what
        is not needed.

    Raises:
        TypeError, ValueError: dy of another shape or dtype, a cache of another operation, an unknown need.

    Source:
        Y. LeCun et al., "Gradient-based learning applied to document recognition", 1998; the equations are the partial
        derivatives of sum(y * dy).

    Example:
        >>> y, cache = conv_forward(np.arange(9.0).reshape(3, 3), np.array([[1.0, 2.0], [3.0, 4.0]]))
        >>> dx, dw = conv_backward(np.ones((2, 2)), cache)
        >>> dx.tolist()
        [[1.0, 3.0, 2.0], [4.0, 10.0, 6.0], [3.0, 7.0, 4.0]]
        >>> dw.tolist()
        [[8.0, 12.0], [20.0, 24.0]]
    """
    cache = check_cache("conv", cache, ConvCache)
    dy = _upstream(dy, cache)
    wanted = as_needs(needs, NEEDS)
    run = cache.problem.run
    dx = run("conv_grad_input", dy.dtype, cache.w, dy) if "dx" in wanted else None
    dw = run("conv_grad_weight", dy.dtype, cache.x, dy) if "dw" in wanted else None
    return (dx, dw, _bias_gradient(dy, cache, wanted)) if cache.biased else (dx, dw)


def conv_transpose_forward(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    layout: str = "channels_first",
) -> tuple[Array, ConvTransposeCache]:
    """The transposed convolution: the gradient of a convolution with respect to its input, as a forward pass.

        y[n, k, o] = b[k] + sum over c, u, i with stride*i + dilation*u - padding = o of w[c, k, u] * x[n, c, i]

    Args:
        x: input (N, C, *spatial), or (N, *spatial, C) for channels_last; bare (H, W) or (L,).
        w: weights (C, K/groups, *kernel), or (*kernel, K/groups, C) for channels_last; bare (kH, kW) or (k,).
        b: bias (K,), or None; bare a scalar.
        stride, dilation, groups, layout: as `conv_forward`.
        padding: what is cut off the output: int, one per axis or one (low, high) pair per axis; negative adds zeros.
        output_padding: positions added at the high end of the output; smaller than stride or dilation on its axis.

    Returns:
        y (N, K, *output), with output = (input - 1)*stride - pads + dilation*(kernel - 1) + 1 + output_padding; and the
        cache for `conv_transpose_backward`.

    Raises:
        TypeError, ValueError, OverflowError: as `conv_forward`.

    Source:
        M. Zeiler et al., "Deconvolutional networks", 2010; Dumoulin and Visin, 2016, arXiv:1603.07285, chapter 4.

    Example:
        >>> y, cache = conv_transpose_forward(np.array([1.0, 2.0]), np.array([1.0, 10.0, 100.0]), stride=2)
        >>> y.tolist()
        [1.0, 10.0, 102.0, 20.0, 200.0]
    """
    x, w = _arrays(x, w)
    problem = _problem((x.shape, w.shape), layout, stride, padding, dilation, groups, True, output_padding)
    bias = None if b is None else _bias(b, problem, x.dtype)
    y: Array = problem.run("conv_grad_input", x.dtype, w, x)
    if bias is not None:
        trailing = 0 if problem.bare or layout == "channels_last" else problem.geometry.axes
        with np.errstate(all="ignore"):
            y += bias.reshape(-1, *(1,) * trailing)
    return y, ConvTransposeCache(problem, x, w, b is not None)


def conv_transpose_backward(
    dy: Any, cache: ConvTransposeCache, *, needs: Collection[str] = NEEDS
) -> tuple[Array | None, ...]:
    """The gradients of a transposed convolution, from the gradient dy of its output.

        dx[n, c, i] = sum over k, u of w[c, k, u] * dy[n, k, stride*i + dilation*u - padding]
        dw[c, k, u] = sum over n, i of x[n, c, i] * dy[n, k, stride*i + dilation*u - padding]
        db[k]       = sum over n, o of dy[n, k, o]

    Args:
        dy: upstream gradient, of the output's shape and dtype.
        cache: from `conv_transpose_forward`. needs: as `conv_backward`.

    Returns:
        (dx, dw), or (dx, dw, db) when a bias was given; None for what is not needed.

    Raises:
        TypeError, ValueError: as `conv_backward`.

    Source:
        As `conv_transpose_forward`: dx is a plain convolution of dy.

    Example:
        >>> y, cache = conv_transpose_forward(np.array([1.0, 2.0]), np.array([1.0, 10.0, 100.0]), stride=2)
        >>> dx, dw = conv_transpose_backward(np.ones(5), cache)
        >>> dx.tolist(), dw.tolist()
        ([111.0, 111.0], [3.0, 3.0, 3.0])
    """
    cache = check_cache("conv_transpose", cache, ConvTransposeCache)
    dy = _upstream(dy, cache)
    wanted = as_needs(needs, NEEDS)
    run = cache.problem.run
    dx = run("conv_forward", dy.dtype, dy, cache.w, None) if "dx" in wanted else None
    dw = run("conv_grad_weight", dy.dtype, dy, cache.x) if "dw" in wanted else None
    return (dx, dw, _bias_gradient(dy, cache, wanted)) if cache.biased else (dx, dw)


def _arrays(x: Any, w: Any) -> tuple[Array, Array]:
    x = as_array("x", x)
    return x, as_array("w", w, dtype=x.dtype)


def _bias(b: Any, problem: Problem[ConvGeometry], dtype: np.dtype[Any]) -> Array:
    """The bias as (K,), once its shape is known to be right."""
    b = as_array("b", np.asarray(b, dtype) if type(b) is float else b, dtype=dtype)
    channels = problem.geometry.out_channels
    if b.shape != (() if problem.bare else (channels,)):
        needed = "a scalar" if problem.bare else f"({channels},), one for each output channel"
        raise ValueError(f"b has shape {b.shape}, and it has to be {needed}.")
    bias: Array = b.reshape(-1)
    return bias


def _upstream(dy: Any, cache: _Cache) -> Array:
    """dy, once its shape and dtype are known to be the output's."""
    return as_upstream("dy", dy, cache.problem.shapes[2], cache.x.dtype)


def _bias_gradient(dy: Array, cache: _Cache, wanted: Collection[str]) -> Array | None:
    """db, summed in float64; None where it is not wanted."""
    if "db" not in wanted:
        return None
    db: Array = cache.problem.run("conv_grad_bias", dy.dtype, dy)
    return db
