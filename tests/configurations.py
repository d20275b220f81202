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
def conv_geometries(draw: st.DrawFn, transposed: bool | None = None, most_axes: int = 3) -> ConvGeometry:
    """A valid geometry; those that have no output are drawn again."""
    axes = draw(st.integers(1, most_axes))
    size = 7 if axes == 1 else 5 if axes == 2 else 3

    def each(low: int, high: int) -> Any:
        return draw(st.tuples(*[st.integers(low, high)] * axes))

    groups = draw(st.sampled_from([1, 1, 2, 3]))
    flip = draw(st.booleans()) if transposed is None else transposed
    stride, dilation = each(1, 3), each(1, 2)
    extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)) if flip else 0
    try:
        return ConvGeometry(
            draw(st.integers(0, 3)),
            groups * draw(st.integers(1, 2)),
            groups * draw(st.integers(1, 2)),
            each(1, size),
            each(1, 3),
            stride,
            tuple(zip(each(-1, 2), each(-1, 2), strict=True)),
            dilation,
            groups,
            flip,
            extra,
        )
    except ValueError:
        assume(False)
        raise


@st.composite
def pool_geometries(draw: st.DrawFn, dilated: bool = True) -> PoolGeometry:
    """A valid pool; those that have no output are drawn again."""
    axes = draw(st.integers(1, 3))

    def each(low: int, high: int) -> Any:
        return draw(st.tuples(*[st.integers(low, high)] * axes))

    try:
        return PoolGeometry(
            draw(st.integers(0, 3)),
            draw(st.integers(1, 3)),
            each(1, 7 if axes == 1 else 4),
            each(1, 3),
            each(1, 3),
            tuple(zip(each(0, 2), each(0, 2), strict=True)),
            each(1, 2) if dilated else 1,
            draw(st.booleans()),
        )
    except ValueError:
        assume(False)
        raise
