"""The convolution pairs: convolution and transposed convolution, forward and all gradients, in 1 to 3 axes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from backlit import engines
from backlit.geometry import ConvGeometry
from backlit.ops.arguments import as_needs
from backlit.ops.arrays import Array, as_array, as_upstream, check_cache, empty

NEEDS = ("dx", "dw", "db")


@dataclass(frozen=True, slots=True)
class _Problem:
    """What the backward pass needs: the geometry, and references to the arrays that were given."""

    geometry: ConvGeometry
    layout: str
    bare: bool  # x and w came without batch and channel axes
    x: Array  # with batch and channel axes
    w: Array
    b_shape: tuple[int, ...] | None  # None where no bias was given


@dataclass(frozen=True, slots=True)
class ConvCache(_Problem):
    """The cache of `conv_forward`."""


@dataclass(frozen=True, slots=True)
class ConvTransposeCache(_Problem):
    """The cache of `conv_transpose_forward`."""


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
    geometry = ConvGeometry.from_shapes(
        x.shape, w.shape, stride=stride, padding=padding, dilation=dilation, groups=groups, layout=layout
    )
    cache, b = _cached(ConvCache, geometry, layout, x, w, b)
    y = engines.run("conv_forward", geometry, layout, cache.x, cache.w, b)
    return _bare(y, cache), cache


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
    geometry, layout = cache.geometry, cache.layout
    dx = engines.run("conv_grad_input", geometry, layout, cache.w, dy) if "dx" in wanted else None
    dw = engines.run("conv_grad_weight", geometry, layout, cache.x, dy) if "dw" in wanted else None
    return _gradients(dx, dw, dy, cache, wanted)


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
    geometry = ConvGeometry.from_shapes(
        x.shape,
        w.shape,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        layout=layout,
        transposed=True,
        output_padding=output_padding,
    )
    cache, b = _cached(ConvTransposeCache, geometry, layout, x, w, b)
    y = engines.run("conv_grad_input", geometry.convolution, layout, cache.w, cache.x)
    if b is not None:
        with np.errstate(all="ignore"):
            y += b if layout == "channels_last" else b.reshape(-1, *(1,) * geometry.axes)
    return _bare(y, cache), cache


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
    geometry, layout = cache.geometry.convolution, cache.layout
    dx = engines.run("conv_forward", geometry, layout, dy, cache.w, None) if "dx" in wanted else None
    dw = engines.run("conv_grad_weight", geometry, layout, dy, cache.x) if "dw" in wanted else None
    return _gradients(dx, dw, dy, cache, wanted)


def _arrays(x: Any, w: Any) -> tuple[Array, Array]:
    x = as_array("x", x)
    return x, as_array("w", w, dtype=x.dtype)


def _cached(
    kind: type[Any], geometry: ConvGeometry, layout: str, x: Array, w: Array, b: Any
) -> tuple[Any, Array | None]:
    """The cache, and the bias as (K,) once its shape is checked."""
    bare = x.ndim <= 2
    b_shape: tuple[int, ...] | None = None
    if b is not None:
        b = as_array("b", np.asarray(b, x.dtype) if type(b) is float else b, dtype=x.dtype)
        b_shape = b.shape
        if b_shape != (() if bare else (geometry.out_channels,)):
            needed = "a scalar" if bare else f"({geometry.out_channels},), one for each output channel"
            raise ValueError(f"b has shape {b_shape}, and it has to be {needed}.")
        b = b.reshape(-1)
    if bare:
        x_shape, w_shape, _ = geometry.shapes(layout)
        x, w = x.reshape(x_shape), w.reshape(w_shape)
    return kind(geometry, layout, bare, x, w, b_shape), b


def _bare(y: Array, cache: _Problem) -> Array:
    """The result without batch and channel axes where the input had none."""
    return y.reshape(cache.geometry.output_size) if cache.bare else y


def _upstream(dy: Any, cache: _Problem) -> Array:
    """dy with batch and channel axes, once its shape and dtype are known to be the output's."""
    shape = cache.geometry.shapes(cache.layout)[2]
    given = as_upstream("dy", dy, cache.geometry.output_size if cache.bare else shape, cache.x.dtype)
    return given.reshape(shape)


def _gradients(
    dx: Array | None, dw: Array | None, dy: Array, cache: _Problem, wanted: Collection[str]
) -> tuple[Array | None, ...]:
    """The gradients in the shapes of what was given, db among them when a bias was."""
    if cache.bare:
        dx = None if dx is None else dx.reshape(cache.geometry.input_size)
        dw = None if dw is None else dw.reshape(cache.geometry.kernel_size)
    if cache.b_shape is None:
        return dx, dw
    if "db" not in wanted:
        return dx, dw, None
    channel = 1 if cache.layout == "channels_first" else dy.ndim - 1
    db = empty((cache.geometry.out_channels,), dy.dtype)
    with np.errstate(all="ignore"):
        db[...] = dy.sum(axis=tuple(axis for axis in range(dy.ndim) if axis != channel), dtype=np.float64)
    return dx, dw, db.reshape(cache.b_shape)
