"""The native engine at real sizes: the adjoint identity, float32 against float64, the same bits for any threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backlit.geometry import ConvGeometry
from backlit.sizes import LAYOUTS
from tolerance import assert_close, assert_close_to_winograd
from ways import FULL, ISAS, THREADS, conv_pair, forced, sample

LAYERS = [
    "conv2d:n64,c6-16,i14x14,k5x5", "conv2d:n64,c16-120,i5x5,k5x5", "conv2d:n128,c3-16,i32x32,k3x3,p1",
    "conv2d:n128,c16-32,i32x32,k1x1,s2", "conv2d:n128,c32-64,i16x16,k3x3,s2,p1", "conv2d:n64,c256-512,i4x4,k3x3,p1",
    "conv2d:n64,c512-512,i2x2,k3x3,p1", "conv2d:n16,c3-64,i224x224,k7x7,s2,p3", "conv2d:n16,c64-256,i56x56,k1x1",
    "conv2d:n16,c256-512,i56x56,k1x1,s2", "conv2d:n16,c128-128,i56x56,k3x3,s2,p1", "conv2d:n16,c256-256,i14x14,k3x3,p1",
    "conv2d:n16,c2048-512,i7x7,k1x1", "conv2d:n16,c512-512,i7x7,k3x3,p1", "conv2d:n4,c64-128,i112x112,k3x3,p1",
    "conv2d:n16,c64-64,g64,i112x112,k3x3,s2,p1", "conv2d:n16,c512-512,g512,i14x14,k3x3,p1",
    "conv1d:n8,c1-64,i4096,k3,p1", "conv1d:n8,c64-128,i4096,k2,d16", "conv1d:n8,c64-128,i4096,k3,p64,d64",
    "conv3d:n2,c64-128,i8x28x28,k3x3x3,p1", "conv3d:n2,c32-32,i8x14x14,k3x3x3,p1",
    "conv2d:n16,c64-96,g4,i28x28,k3x3,p1", "convT2d:n8,c64-32,i28x28,k4x4,s2,p1",
]  # fmt: skip


def _layer(text: str) -> ConvGeometry:
    """The layer; with fewer samples, down to one, where the full profile does not ask for all of its work."""
    g = ConvGeometry.parse(text)
    work = (
        int(np.prod((*g.convolution.output_size, *g.kernel_size)))
        * g.in_channels
        * g.out_channels
        // g.groups
    )
    batch = g.batch if FULL else min(g.batch, max(1, 200_000_000 // work))
    return ConvGeometry.parse(text.replace(f"n{g.batch},", f"n{batch},"))


def _normal(g: ConvGeometry, dtype: str) -> list[Any]:
    rng = np.random.default_rng(7)
    x, w, y = g.shapes("channels_first")
    return [rng.standard_normal(shape).astype(dtype) for shape in (x, w, (g.out_channels,), y)]


@pytest.mark.native
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("text", sample(LAYERS, 4))
def test_native_adjoint_identity_holds_at_real_sizes(text: str, layout: str) -> None:
    g = _layer(text)
    x, w, b, dy = _normal(g, "float64")
    b[:] = 0
    for isa in ISAS:
        with forced(isa, None, 2):
            y, dx, dw, _ = conv_pair(g, layout, "float64", [x, w, b, dy])
        magnitude = float(np.sqrt(np.sum(y * y) * np.sum(dy * dy)))
        assert_close(np.sum(dx * x), np.sum(y * dy), terms=y.size, scale=magnitude)
        assert_close(np.sum(dw * w), np.sum(y * dy), terms=y.size, scale=magnitude)


@pytest.mark.native
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("text", sample(LAYERS, 4))
def test_native_float32_is_near_float64_at_real_sizes(text: str, layout: str) -> None:
    g = _layer(text)
    arrays = _normal(g, "float32")
    with forced(ISAS[-1], "direct", 2):
        expected = conv_pair(g, layout, "float64", arrays)
    plain = g.convolution
    taps = int(np.prod(g.kernel_size))
    terms = {
        "y": taps * plain.in_channels // g.groups,
        "dx": taps * plain.out_channels // g.groups,
        "dw": g.batch * int(np.prod(plain.output_size)),
    }
    if g.transposed:
        terms["y"], terms["dx"] = terms["dx"], terms["y"]
    for isa in ISAS:
        with forced(isa, None, 2):
            actual = conv_pair(g, layout, "float32", arrays)
        for which, a, e in zip(terms, actual, expected, strict=False):
            assert_close_to_winograd(a, e, which, terms[which])


@pytest.mark.native
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("text", sample(LAYERS, 4))
def test_native_bits_are_the_same_for_any_number_of_threads_and_run_to_run(text: str, layout: str) -> None:
    g = _layer(text)
    arrays = _normal(g, "float32")
    for isa in ISAS:
        found = []
        for count in (*sample(THREADS, 2), 1):
            with forced(isa, None, count):
                found.append([result.tobytes() for result in conv_pair(g, layout, "float32", arrays)])
        assert found == [found[0]] * len(found)
