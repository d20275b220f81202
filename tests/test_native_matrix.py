"""The native engine over hard configurations, on every instruction set, number of threads, layout and precision.

Small integers make every sum exact, so that results have to equal the definition bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlit import engines
from backlit.engines import loops
from backlit.geometry import ConvGeometry
from configurations import conv_geometries, dtypes, layouts, wide_conv_geometries
from definition import conv_passes
from ways import (
    ISAS,
    THREADS,
    assert_same,
    conv_arrays,
    conv_expected,
    conv_pair,
    forced,
    layouts_and_precisions,
    sample,
)

REMAINDERS = range(1, 34)

# What has gone wrong in well-known systems, and what a kernel's edges and blocks are made of.
CLASSES: dict[str, list[str]] = {
    "in_channels": [f"conv2d:n2,c{r}-16,i5x6,k3x3,p1" for r in REMAINDERS],
    "out_channels": [f"conv2d:n2,c8-{r},i5x6,k3x3,p1" for r in REMAINDERS],
    "both_channels": [f"conv2d:n1,c{r}-{34 - r},i4x5,k{1 + r % 3}x2" for r in REMAINDERS],
    "width": [f"conv2d:n2,c3-5,i3x{r},k3x3,p1" for r in REMAINDERS],
    "width_strided": [f"conv2d:n1,c4-5,i2x{r},k1x3,s1x2,p1" for r in REMAINDERS],
    "width_of_1x1": [f"conv2d:n2,c5-7,i1x{r},k1x1" for r in REMAINDERS],
    "length": [f"conv1d:n2,c3-4,i{r},k3,p1" for r in REMAINDERS],
    "depth": [f"conv3d:n1,c2-3,i{1 + r % 4}x{1 + r % 3}x{r},k2x2x3,p1" for r in REMAINDERS],
    "batch": [f"conv2d:n{r},c3-4,i3x3,k2x2" for r in REMAINDERS],
    "one_channel": [
        "conv2d:n1,c1-1,i3x3,k2x2", "conv2d:n64,c1-6,i9x9,k5x5,p2", "conv2d:n3,c1-1,i17x19,k3x3,p1",
        "conv2d:n2,c1-40,i9x9,k3x3,s2", "conv2d:n2,c40-1,i9x9,k3x3,p1", "conv1d:n2,c1-1,i70,k9,p4",
        "conv3d:n1,c1-1,i4x5x6,k3x3x3,p1",
    ],
    "strided_1x1": [
        f"conv2d:n2,c{c}-{k},i{i}x{i},k1x1,s{s}"
        for c, k in ((1, 1), (2, 3), (3, 16), (7, 5), (8, 8), (12, 15), (15, 40), (33, 2))
        for i, s in ((4, 2), (5, 2), (7, 3))
    ],
    "large_kernel": [
        "conv2d:n1,c3-5,i12x12,k11x11,p5", "conv2d:n2,c3-8,i15x15,k7x7,s2,p3", "conv1d:n1,c2-3,i100,k65,p32",
        "conv2d:n1,c2-2,i20x21,k13x1,p6x0", "conv2d:n1,c2-2,i20x21,k1x17,p0x8", "conv2d:n1,c1-3,i33x33,k31x31,p15",
        "conv3d:n1,c2-2,i6x6x6,k5x5x5,p2", "conv2d:n1,c4-4,g4,i14x14,k9x9,p4",
    ],
    "dilated": [
        "conv2d:n2,c3-4,i9x9,k3x3,p2,d2", "conv2d:n1,c5-6,i12x11,k3x3,s2,p3,d3x2", "conv1d:n2,c8-8,i60,k3,p16,d16",
        "conv1d:n1,c4-8,i40,k2,d16", "conv3d:n1,c2-3,i5x6x7,k2x2x2,d2x1x3", "conv2d:n1,c2-2,g2,i11x11,k3x3,p4,d4",
        "conv2d:n2,c6-6,i10x10,k2x2,s3,d5", "conv1d:n8,c3-5,i64,k3,p64,d64",
    ],
    "negative_pads": [
        "conv2d:n2,c3-4,i9x9,k3x3,p-1", "conv2d:n1,c5-2,i9x9,k3x3,p-2:1x3:-1", "conv1d:n2,c3-3,i20,k5,s2,p-3:-4",
        "conv3d:n1,c2-2,i5x5x5,k2x2x2,p-1", "conv2d:n2,c4-4,g4,i9x9,k3x3,p-1:2", "conv2d:n1,c20-17,i9x9,k1x1,p-2",
    ],
    "asymmetric_pads": [
        "conv2d:n2,c3-4,i7x9,k3x3,p0:1x2:0", "conv2d:n2,c3-4,i7x9,k3x3,s2,p0:1", "conv1d:n2,c3-20,i33,k4,p3:0",
        "conv2d:n1,c17-9,i6x6,k4x4,p1:2", "conv3d:n1,c2-3,i3x4x5,k3x3x3,p2:0x0:2x1:3",
        "conv2d:n2,c6-6,g6,i7x7,k3x3,s2,p0:1",
    ],
    "padding_of_a_kernel_and_more": [
        "conv2d:n1,c2-3,i3x3,k2x2,p2", "conv2d:n2,c5-4,i4x4,k3x3,p5", "conv1d:n1,c3-3,i4,k1,p3",
        "conv2d:n1,c2-3,i2x2,k1x1,s2,p4", "conv3d:n1,c2-2,i2x2x2,k2x2x2,p3", "conv2d:n2,c3-3,g3,i4x4,k3x3,p4",
        "conv1d:n1,c1-1,i4,k1,s1000,p100000", "conv2d:n1,c20-20,i2x2,k3x3,p3",
    ],
    "kernel_of_the_input": [
        "conv2d:n5,c16-30,i5x5,k5x5", "conv2d:n1,c3-70,i7x6,k7x6", "conv1d:n4,c9-9,i33,k33",
        "conv3d:n2,c3-5,i3x4x2,k3x4x2", "conv2d:n3,c4-4,g4,i6x6,k6x6", "conv2d:n2,c3-2,i1x1,k1x1",
    ],
    "groups": [
        f"conv2d:n2,c{g * c}-{g * k},g{g},i6x7,k3x3,s{s},p1"
        for g, s in ((2, 1), (3, 2), (17, 1))
        for c in range(1, 6)
        for k in (1, c, 6 - c)
    ],
    "depthwise": [f"conv2d:n2,c{r}-{r},g{r},i5x9,k3x3,s{1 + r % 2},p1" for r in REMAINDERS]
    + [f"conv1d:n2,c{r}-{2 * r},g{r},i19,k3,p1" for r in (1, 3, 8, 17)],
    "strides": [
        "conv2d:n2,c3-4,i9x9,k3x3,s3", "conv2d:n2,c5-9,i13x13,k3x3,s2x3,p1", "conv2d:n1,c3-4,i9x9,k2x2,s5",
        "conv2d:n1,c3-4,i4x4,k2x2,s9,p1", "conv1d:n2,c3-17,i64,k8,s4,p2", "conv3d:n1,c2-3,i5x6x7,k3x3x3,s2,p1",
        "conv2d:n2,c16-16,i16x16,k4x4,s2,p1", "conv2d:n1,c33-18,i9x9,k5x5,s2,p2",
    ],
    "transposed": [
        "convT1d:n2,c3-4,i9,k4,s2,p1", "convT2d:n2,c5-3,i4x5,k3x3,s2,p1,o1", "convT2d:n1,c17-9,i4x4,k4x4,s2,p1",
        "convT2d:n2,c6-4,g2,i5x5,k3x3,s3,o2", "convT3d:n1,c2-3,i2x3x4,k2x3x2,s2x1x3", "convT2d:n1,c3-5,i3x3,k1x1,s2",
        "convT2d:n2,c4-4,g4,i5x5,k3x3,p1", "convT2d:n1,c3-3,i4x4,k2x2,s3,o1,d2", "convT1d:n2,c20-33,i7,k3,p-1",
        "convT2d:n2,c8-8,i6x6,k3x3,p1",
    ],
    "empty_batch": [
        "conv2d:n0,c3-4,i5x5,k3x3,p1", "conv2d:n0,c8-8,g8,i5x5,k3x3", "conv1d:n0,c3-4,i5,k1",
        "convT2d:n0,c3-4,i5x5,k3x3", "conv3d:n0,c1-1,i3x3x3,k2x2x2",
    ],
    "several_blocks": [
        "conv2d:n1,c130-70,i12x12,k3x3,p1", "conv2d:n2,c600-5,i5x5,k1x1", "conv2d:n2,c5-600,i5x5,k1x1",
        "conv2d:n1,c1-40,i50x50,k5x5", "conv2d:n40,c20-30,i4x4,k3x3,p1", "conv1d:n1,c3-5,i9000,k5,p2",
        "conv1d:n2,c70-33,i500,k3,p1", "conv2d:n1,c300-17,i6x6,k3x3,s2,p1", "conv2d:n2,c64-64,g64,i40x40,k3x3,p1",
        "conv3d:n1,c20-33,i5x9x9,k3x3x3,p1", "conv2d:n1,c3-64,i40x40,k7x7,s2,p3", "conv2d:n1,c1030-3,i3x3,k3x3,p1",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.native
def test_native_class_equals_the_definition_exactly(name: str) -> None:
    for number, text in enumerate(CLASSES[name]):
        g = ConvGeometry.parse(text)
        arrays = conv_arrays(g, seed=number)
        expected = conv_expected(g, arrays)
        for isa in ISAS:
            for layout, dtype in layouts_and_precisions():
                for count in sample(THREADS, 2):
                    with forced(isa, count=count):
                        actual = conv_pair(g, layout, dtype, arrays)
                    assert_same(actual, expected, f"{text} on {isa}, {layout}, {dtype}, {count} threads")


@given(g=conv_geometries(), layout=layouts, dtype=dtypes, seed=st.integers(0, 2**32 - 1))
@pytest.mark.native
def test_native_pairs_equal_loops_exactly(g: ConvGeometry, layout: str, dtype: str, seed: int) -> None:
    arrays = conv_arrays(g, seed)
    with engines.use("loops"):
        expected = conv_pair(g, layout, dtype, arrays)
    for isa in ISAS:
        with forced(isa, count=1 + seed % 4):
            assert_same(conv_pair(g, layout, dtype, arrays), expected, f"{g} on {isa}, {layout}, {dtype}")


@given(g=wide_conv_geometries(), layout=layouts, dtype=dtypes, seed=st.integers(0, 2**32 - 1))
@pytest.mark.native
def test_native_pairs_of_many_channels_equal_the_definition_exactly(
    g: ConvGeometry, layout: str, dtype: str, seed: int
) -> None:
    arrays = conv_arrays(g, seed)
    expected = conv_expected(g, arrays)
    for isa in ISAS:
        with forced(isa, count=1 + seed % 4):
            assert_same(conv_pair(g, layout, dtype, arrays), expected, f"{g} on {isa}, {layout}, {dtype}")


def _spoiled(arrays: list[Any], seed: int) -> list[Any]:
    """The arrays with infinities and NaN at a few random places of each, or at none."""
    rng = np.random.default_rng(seed)
    spoiled = [array.copy() for array in arrays]
    for array in spoiled:
        count = int(rng.integers(0, 2 + array.size // 60)) if array.size else 0
        array.flat[rng.integers(0, max(array.size, 1), count)] = rng.choice([np.inf, -np.inf, np.nan], count)
    return spoiled


@given(g=conv_geometries(), layout=layouts, dtype=dtypes, seed=st.integers(0, 2**32 - 1))
@pytest.mark.native
def test_native_direct_keeps_infinities_and_nan_to_what_reads_them(
    g: ConvGeometry, layout: str, dtype: str, seed: int
) -> None:
    arrays = _spoiled(conv_arrays(g, seed), seed)
    with engines.use("loops"):
        expected = conv_pair(g, layout, dtype, arrays)
    for isa in ISAS:
        with forced(isa, count=1 + seed % 4):
            assert_same(conv_pair(g, layout, dtype, arrays), expected, f"{g} on {isa}, {layout}, {dtype}")


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.native
def test_native_direct_keeps_infinities_and_nan_of_a_class_to_what_reads_them(name: str) -> None:
    for number, text in enumerate(sample(CLASSES[name], 3)):
        g = ConvGeometry.parse(text)
        arrays = _spoiled(conv_arrays(g, seed=number), number)
        expected = conv_expected(g, arrays)
        for isa in ISAS:
            for layout, dtype in layouts_and_precisions():
                with forced(isa):
                    actual = conv_pair(g, layout, dtype, arrays)
                assert_same(actual, expected, f"{text} on {isa}, {layout}, {dtype}")


@given(g=conv_geometries(transposed=False), seed=st.integers(0, 2**32 - 1), spoil=st.booleans())
def test_definition_over_whole_arrays_equals_loops_exactly(g: ConvGeometry, seed: int, spoil: bool) -> None:
    x, w, b, dy = conv_arrays(g, seed)
    if spoil:
        x, w, b, dy = _spoiled([x, w, b, dy], seed)
    passes = loops.ENGINE.functions
    with np.errstate(all="ignore"):
        expected = [
            passes["conv_forward"](g, "channels_first", x, w, b),
            passes["conv_grad_input"](g, "channels_first", w, dy),
            passes["conv_grad_weight"](g, "channels_first", x, dy),
        ]
    assert_same(conv_passes(g, x, w, b, dy), expected, str(g))
