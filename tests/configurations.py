"""Random convolution and pooling problems for Hypothesis, over everything a configuration can be, kept small."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from backlit.geometry import ConvGeometry, PoolGeometry
from backlit.sizes import LAYOUTS

layouts = st.sampled_from(LAYOUTS)
dtypes = st.sampled_from(["float32", "float64"])


def integers(seed: int, shape: tuple[int, ...], dtype: str) -> Any:
    """An array of small integers, whose sums of products are exact in either precision."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


@st.composite
def conv_geometries(
    draw: st.DrawFn, transposed: bool | None = None, most_axes: int = 3, pytorch: bool = False
) -> ConvGeometry:
    """A valid geometry; those that have no output are drawn again. PyTorch's have a batch and even pads."""
    axes = draw(st.integers(1, most_axes))
    size = 7 if axes == 1 else 5 if axes == 2 else 3

    def each(low: int, high: int) -> Any:
        return draw(st.tuples(*[st.integers(low, high)] * axes))

    groups = draw(st.sampled_from([1, 1, 2, 3]))
    flip = draw(st.booleans()) if transposed is None else transposed
    stride, dilation = each(1, 3), each(1, 2)
    extra = (
        tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
        if flip
        else 0
    )
    pads = (
        tuple((pad, pad) for pad in each(0, 2))
        if pytorch
        else tuple(zip(each(-1, 2), each(-1, 2), strict=True))
    )
    try:
        return ConvGeometry(
            draw(st.integers(int(pytorch), 3)),
            groups * draw(st.integers(1, 2)),
            groups * draw(st.integers(1, 2)),
            each(1, size),
            each(1, 3),
            stride,
            pads,
            dilation,
            groups,
            flip,
            extra,
        )
    except ValueError:
        assume(False)
        raise


@st.composite
def wide_conv_geometries(draw: st.DrawFn) -> ConvGeometry:
    """A valid geometry of up to 40 channels and of enough positions that no vector or tile is too long for it."""
    axes = draw(st.integers(1, 3))
    size = {1: 80, 2: 20, 3: 7}[axes]

    def each(low: int, high: int) -> Any:
        return draw(st.tuples(*[st.integers(low, high)] * axes))

    groups = draw(st.sampled_from([1, 1, 1, 2, 4, 20]))
    stride, dilation = draw(st.sampled_from([1, 1, 2, 3])), draw(st.sampled_from([1, 1, 2]))
    try:
        return ConvGeometry(
            draw(st.integers(1, 3)),
            groups * draw(st.integers(1, 40 // groups)),
            groups * draw(st.integers(1, 40 // groups)),
            each(1, size),
            each(1, 5),
            stride,
            tuple(zip(each(-1, 3), each(-1, 3), strict=True)),
            dilation,
            groups,
            draw(st.integers(0, 3)) == 0,
        )
    except ValueError:
        assume(False)
        raise


@st.composite
def winograd_geometries(draw: st.DrawFn) -> ConvGeometry:
    """A 3x3 convolution of stride 1 of any size, from one output up to several tiles and blocks of channels."""
    height, width = draw(st.integers(1, 22)), draw(st.integers(1, 22))
    pads = draw(st.tuples(*[st.tuples(st.integers(-1, 3), st.integers(-1, 3))] * 2))
    try:
        return ConvGeometry(
            draw(st.integers(1, 4)),
            draw(st.integers(1, 80)),
            draw(st.integers(1, 80)),
            (height, width),
            (3, 3),
            1,
            draw(st.sampled_from([((1, 1), (1, 1)), pads])),
        )
    except ValueError:
        assume(False)
        raise


@st.composite
def pool_geometries(draw: st.DrawFn, dilated: bool = True, pytorch: bool = False) -> PoolGeometry:
    """A valid pool; those that have no output are drawn again.

    PyTorch's have a batch, even pads of at most half a kernel, and an input that holds a window without its pads:
    beyond that it refuses some that are served here.
    """
    axes = draw(st.integers(1, 3))

    def each(low: int, high: int) -> Any:
        return draw(st.tuples(*[st.integers(low, high)] * axes))

    kernel = each(1, 3)
    if pytorch:
        pads = tuple((draw(st.integers(0, k // 2)),) * 2 for k in kernel)
    else:
        pads = tuple(zip(each(0, 2), each(0, 2), strict=True))
    batch, channels = draw(st.integers(int(pytorch), 3)), draw(st.integers(1, 3))
    size = each(1, 7 if axes == 1 else 4)
    stride, dilation, ceil_mode = each(1, 3), each(1, 2) if dilated else 1, draw(st.booleans())
    try:
        if pytorch:
            PoolGeometry(batch, channels, size, kernel, stride, 0, dilation)
        return PoolGeometry(batch, channels, size, kernel, stride, pads, dilation, ceil_mode)
    except ValueError:
        assume(False)
        raise
