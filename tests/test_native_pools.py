"""The pools of the native engine on every instruction set, number of threads, layout and precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backlit as bl
from backlit import engines
from backlit.geometry import PoolGeometry
from configurations import dtypes, integers, layouts, pool_geometries
from definition import avg_pool_passes, max_pool_passes
from ways import ISAS, THREADS, assert_same, forced, layouts_and_precisions, sample

REMAINDERS = range(1, 34)

CLASSES: dict[str, list[tuple[Any, ...]]] = {  # arguments of PoolGeometry
    "channels": [(2, r, (6, 7), 2, 2) for r in REMAINDERS],
    "width": [(2, 3, (4, r), (2, min(r, 1 + r % 3)), 1 + r % 2, ((1, 0), (0, r % 2))) for r in REMAINDERS],
    "length": [(2, 3, (r,), min(3, r), 2, 1) for r in REMAINDERS],
    "usual": [
        (2, 16, (28, 28), 2, 2), (1, 64, (30, 30), 3, 2, 1), (2, 8, (13, 13), 3, 2), (1, 5, (9, 9), 3, 1, 1),
        (1, 20, (8, 8), 8, 1), (2, 3, (4, 6, 8), 2, 2), (3, 1, (50,), 3, 2), (1, 2048, (7, 7), 7, 7),
    ],
    "dilated": [(2, 5, (12, 12), 3, 2, 2, 3), (1, 17, (9, 9), 2, 1, 0, 4), (2, 2, (40,), 3, 1, 8, 8)],
    "windows_in_the_padding": [(1, 3, (3, 3), 2, 1, 4), (2, 9, (4,), 1, 3, 5), (1, 2, (2, 2, 2), 2, 2, 3)],
    "rounded_up": [
        (2, 5, (7, 8), 3, 2, 0, 1, True), (1, 9, (5, 5), 2, 3, 1, 1, True), (1, 3, (2, 2), 3, 3, 1, 1, True),
        (1, 1, (2, 2), 1, 2, 0, 1, True),
    ],
    "asymmetric_pads": [(2, 5, (7, 8), 3, 2, ((0, 1), (2, 0))), (1, 17, (9,), 4, 2, ((3, 0),))],
    "window_of_the_input": [(2, 33, (6, 7), (6, 7)), (1, 5, (1, 1), 1), (2, 4, (3, 4, 5), (3, 4, 5))],
    "large_window": [(1, 3, (40, 40), 31, 1, 15), (1, 9, (200,), 65, 3, 32)],
    "strides": [(2, 5, (9, 9), 2, 5), (1, 3, (4, 4), 2, 9), (1, 6, (20, 21), (1, 3), (3, 1))],
    "empty_batch": [(0, 3, (4, 4), 2), (0, 1, (5,), 3, 1, 1)],
    "many_blocks": [(9, 70, (20, 20), 3, 2, 1), (1, 3, (300, 300), 2), (1, 600, (9, 9), 3, 2)],
}  # fmt: skip


def _pool(
    kind: str, g: PoolGeometry, layout: str, dtype: str, x: Any, dy: Any, count: bool = True
) -> list[Any]:
    """y and dx by the pair, channels first, from channels-first arrays."""
    last = layout == "channels_last"
    x, dy = np.asarray(x, dtype), np.asarray(dy, dtype)
    if last:
        x, dy = np.moveaxis(x, 1, -1), np.moveaxis(dy, 1, -1)
    options: dict[str, Any] = {
        "stride": g.stride, "padding": g.padding, "ceil_mode": g.ceil_mode, "layout": layout
    }  # fmt: skip
    if kind == "max":
        y, cache = bl.max_pool_forward(x, g.kernel_size, dilation=g.dilation, **options)
        dx = bl.max_pool_backward(dy, cache)
    else:
        y, cache = bl.avg_pool_forward(x, g.kernel_size, count_include_pad=count, **options)
        dx = bl.avg_pool_backward(dy, cache)
    for result in (y, dx):
        assert result.dtype == dtype
        assert result.flags.c_contiguous
    return [np.moveaxis(a, -1, 1) for a in (y, dx)] if last else [y, dx]


def _arrays(g: PoolGeometry, seed: int, spoil: bool) -> tuple[Any, Any]:
    """x with many ties, and with NaN and infinities where `spoil` says so, and dy."""
    xs, _, ys = g.windows.shapes("channels_first")
    x, rng = integers(seed, xs, "float64"), np.random.default_rng(seed)
    if spoil:
        for bad in (np.nan, np.inf, -np.inf):
            x[rng.random(xs) < rng.random() / 10] = bad
    return x, integers(seed + 1, ys, "float64")


def _counts(g: PoolGeometry) -> Any:
    """How many positions of each window are not beyond the padding: the divisor (*output)."""
    counts = np.ones(g.output_size)
    for axis, (size, kernel, stride, (low, high)) in enumerate(
        zip(g.input_size, g.kernel_size, g.windows.stride, g.padding, strict=True)
    ):
        for o in range(g.output_size[axis]):
            inside = sum(-low <= stride * o + u - low < size + high for u in range(kernel))
            counts[(slice(None),) * axis + (o,)] *= max(inside, 1)
    return counts


@pytest.mark.native
@pytest.mark.parametrize("spoil", [False, True], ids=["finite", "nan"])
@pytest.mark.parametrize("name", CLASSES)
def test_native_max_pool_of_a_class_equals_the_definition_exactly(name: str, spoil: bool) -> None:
    for number, arguments in enumerate(CLASSES[name]):
        g = PoolGeometry(*arguments)
        x, dy = _arrays(g, number, spoil)
        expected = max_pool_passes(g, x, dy)
        for isa in ISAS:
            for layout, dtype in layouts_and_precisions():
                for count in sample(THREADS, 2):
                    with forced(isa, None, count):
                        actual = _pool("max", g, layout, dtype, x, dy)
                    assert_same(actual, expected, f"{g} on {isa}, {layout}, {dtype}, {count} threads")


@pytest.mark.native
@pytest.mark.parametrize("name", [name for name in CLASSES if name != "dilated"])
def test_native_avg_pool_of_a_class_equals_the_definition_exactly(name: str) -> None:
    for number, arguments in enumerate(CLASSES[name]):
        g = PoolGeometry(*arguments)
        x, dy = _arrays(g, number, spoil=False)
        divisors = _counts(g)
        dy = dy * divisors  # so that the division leaves integers
        y, dx = avg_pool_passes(g, x, dy, divisors)
        for isa in ISAS:
            for layout, dtype in layouts_and_precisions():
                for count in sample(THREADS, 2):
                    with forced(isa, None, count):
                        actual = _pool("avg", g, layout, dtype, x, dy)
                    what = f"{g} on {isa}, {layout}, {dtype}, {count} threads"
                    assert_same(actual, [y.astype(dtype), dx], what)


@pytest.mark.native
@given(g=pool_geometries(), layout=layouts, dtype=dtypes, seed=st.integers(0, 2**32 - 1), spoil=st.booleans())
def test_native_pools_equal_loops_exactly(
    g: PoolGeometry, layout: str, dtype: str, seed: int, spoil: bool
) -> None:
    x, dy = _arrays(g, seed, spoil)
    kinds = ("max", "avg") if not any(d > 1 for d in g.dilation) else ("max",)
    for kind in kinds:
        upstream = dy * 5040 if kind == "avg" else dy  # every divisor of a small window leaves an integer
        with engines.use("loops"):
            expected = _pool(kind, g, layout, dtype, x, upstream, count=bool(seed % 2))
        for isa in ISAS:
            with forced(isa, None, 1 + seed % 4):
                actual = _pool(kind, g, layout, dtype, x, upstream, count=bool(seed % 2))
            assert_same(actual, expected, f"{kind} pool {g} on {isa}, {layout}, {dtype}")


@given(g=pool_geometries(), seed=st.integers(0, 2**32 - 1), spoil=st.booleans())
def test_definition_of_pools_over_whole_arrays_equals_loops_exactly(
    g: PoolGeometry, seed: int, spoil: bool
) -> None:
    x, dy = _arrays(g, seed, spoil)
    with engines.use("loops"):
        assert_same(max_pool_passes(g, x, dy), _pool("max", g, "channels_first", "float64", x, dy), str(g))
        if not any(d > 1 for d in g.dilation):
            divisors = _counts(g)
            actual = avg_pool_passes(g, x, dy * divisors, divisors)
            assert_same(actual, _pool("avg", g, "channels_first", "float64", x, dy * divisors), str(g))
