"""Winograd's algorithm on every instruction set: its error against float64, its NaN, and its bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backlit as bl
from backlit import engines
from backlit.geometry import ConvGeometry
from backlit.sizes import LAYOUTS
from configurations import layouts, winograd_geometries
from tolerance import assert_close_to_winograd
from ways import ISAS, THREADS, conv_expected, conv_pair, forced, sample

SERVED = [
    "conv2d:n2,c64-64,i28x28,k3x3,p1", "conv2d:n4,c64-64,i8x8,k3x3,p1", "conv2d:n2,c64-128,i14x14,k3x3,p1",
    "conv2d:n2,c70-67,i13x11,k3x3,p1", "conv2d:n3,c128-96,i7x7,k3x3,p1", "conv2d:n1,c64-64,i56x56,k3x3,p1",
]  # fmt: skip


def _normal(g: ConvGeometry, seed: int) -> list[Any]:
    """x, w, b and dy, channels first, normally distributed, as float32 has them."""
    rng = np.random.default_rng(seed)
    x, w, y = g.shapes("channels_first")
    return [rng.standard_normal(shape, np.float32) for shape in (x, w, (g.out_channels,), y)]


def _serves(g: ConvGeometry, isa: str, layout: str) -> bool:
    """Whether all three passes have it."""
    try:
        with forced(isa, "winograd"):
            bl.engines.explain_choice(g, "float32", layout)
    except ValueError:
        return False
    return True


def _check(g: ConvGeometry, actual: list[Any], arrays: list[Any], expected: list[Any]) -> None:
    """The three results against float64."""
    x, w, _, dy = (float(np.sqrt(np.mean(np.square(a, dtype=float)))) for a in arrays)
    outputs = g.batch * int(np.prod(g.output_size))
    rows = (("y", 9 * g.in_channels, x * w), ("dx", 9 * g.out_channels, w * dy), ("dw", outputs, x * dy))
    for (which, terms, each), a, e in zip(rows, actual, expected, strict=False):
        assert_close_to_winograd(a, e, which, terms, scale=float(np.sqrt(terms)) * each)


@pytest.mark.native
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("text", SERVED)
def test_winograd_error_is_what_its_transformations_explain(text: str, layout: str) -> None:
    g = ConvGeometry.parse(text)
    arrays = _normal(g, 0)
    expected = conv_expected(g, arrays)
    for isa in ISAS:
        with forced(isa, "winograd"):
            actual = conv_pair(g, layout, "float32", arrays)
        _check(g, actual, arrays, expected)


@pytest.mark.native
@given(g=winograd_geometries(), layout=layouts, seed=st.integers(0, 2**32 - 1))
def test_winograd_of_any_size_it_serves_is_right(g: ConvGeometry, layout: str, seed: int) -> None:
    arrays = _normal(g, seed)
    expected = conv_expected(g, arrays)
    for isa in ISAS:
        if _serves(g, isa, layout):
            with forced(isa, "winograd", 1 + seed % 4):
                actual = conv_pair(g, layout, "float32", arrays)
            _check(g, actual, arrays, expected)


@pytest.mark.native
@given(g=winograd_geometries(), layout=layouts, seed=st.integers(0, 2**32 - 1))
def test_winograd_lets_nan_reach_every_output_that_reads_it(g: ConvGeometry, layout: str, seed: int) -> None:
    arrays, rng = _normal(g, seed), np.random.default_rng(seed)
    array = arrays[int(rng.choice([0, 1, 3]))]  # x, w or dy
    if array.size:
        array.flat[rng.integers(0, array.size)] = np.nan
    expected = conv_expected(g, arrays)
    for isa in ISAS:
        if _serves(g, isa, layout):
            with forced(isa, "winograd"):
                actual = conv_pair(g, layout, "float32", arrays)
            for a, e in zip(actual, expected, strict=True):
                assert np.isnan(a[np.isnan(e)]).all(), f"{g} on {isa}, {layout}"


@pytest.mark.native
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("text", sample(SERVED, 2))
def test_winograd_bits_are_the_same_for_any_number_of_threads(text: str, layout: str) -> None:
    g = ConvGeometry.parse(text)
    arrays = _normal(g, 0)
    for isa in ISAS:
        found = []
        for count in THREADS:
            with forced(isa, "winograd", count):
                found.append([result.tobytes() for result in conv_pair(g, layout, "float32", arrays)])
        assert found == [found[0]] * len(found)


@pytest.mark.native
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_winograd_is_never_what_float64_or_forced_direct_gets(dtype: str, layout: str) -> None:
    for text in SERVED:
        with engines.use("native", algorithm="direct" if dtype == "float32" else None):
            plans = bl.engines.explain_choice(text, dtype, layout)
        assert not any("winograd" in plan.algorithm.lower() for plan in plans.values())


@pytest.mark.native
@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("conv2d:n2,c64-64,i28x28,k3x3,s2,p1", "float32"),
        ("conv2d:n2,c64-64,i28x28,k5x5,p2", "float32"),
        ("conv2d:n2,c64-64,i28x28,k3x3,p2,d2", "float32"),
        ("conv2d:n2,c64-64,i28x28,k3x3,p1", "float64"),
    ],
)
def test_winograd_forced_on_what_it_cannot_serve_is_refused(text: str, dtype: str) -> None:
    g = ConvGeometry.parse(text)
    x, w, _ = (np.ones(shape, dtype) for shape in g.shapes("channels_first"))
    with engines.use("native", algorithm="winograd"), pytest.raises(ValueError, match="winograd"):
        bl.conv_forward(x, w, stride=g.stride, padding=g.padding, dilation=g.dilation)
