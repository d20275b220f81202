"""The ways in which the native engine can be made to compute, and the pairs computed in one of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any, TypeVar

import numpy as np

import backlit as bl
from backlit import engines
from backlit.engines import module, native, threads
from backlit.geometry import ConvGeometry
from backlit.sizes import LAYOUTS
from configurations import integers
from definition import conv_passes

ENGINE = "native"
ISAS = module.isas()
PRECISIONS = ("float32", "float64")
THREADS = (1, 2, 3, 4, 4 * module.usable_threads())  # the last is more than there are cores
FULL = os.environ.get("HYPOTHESIS_PROFILE") == "full"

_Item = TypeVar("_Item")


def sample(items: Sequence[_Item], every: int) -> list[_Item]:
    """All of them under the profile "full", else every so many-th of a fixed order that mixes them."""
    if FULL or every <= 1:
        return list(items)
    order = np.random.default_rng(0).permutation(len(items))
    return [items[int(n)] for n in order[: -(-len(items) // every)]]


@contextmanager
def forced(isa: str | None, algorithm: str | None = "direct", count: int = 1) -> Iterator[None]:
    """The native engine on an instruction set, with an algorithm, work split over `count` threads however little."""
    before = threads._chosen, native.WORTH
    threads._chosen, native.WORTH = count, 1e-12
    try:
        with engines.use(ENGINE, algorithm=algorithm, isa=isa):
            yield
    finally:
        threads._chosen, native.WORTH = before


def layouts_and_precisions() -> list[tuple[str, str]]:
    return list(product(LAYOUTS, PRECISIONS))


def conv_arrays(g: ConvGeometry, seed: int = 0, dtype: str = "float64") -> list[Any]:
    """x, w, b and dy, channels first, of small integers."""
    x, w, y = g.shapes("channels_first")
    return [integers(seed + n, shape, dtype) for n, shape in enumerate((x, w, (g.out_channels,), y))]


def conv_pair(g: ConvGeometry, layout: str, dtype: str, arrays: Sequence[Any]) -> list[Any]:
    """y, dx, dw and db by the pairs in a layout, all channels first, as are x, w, b and dy, which they come from."""
    x, w, b, dy = (np.asarray(a, dtype) for a in arrays)
    keywords: dict[str, Any] = {
        "stride": g.stride, "padding": g.padding, "dilation": g.dilation, "groups": g.groups, "layout": layout
    }  # fmt: skip
    forward, backward = bl.conv_forward, bl.conv_backward
    if g.transposed:
        forward, backward = bl.conv_transpose_forward, bl.conv_transpose_backward
        keywords["output_padding"] = g.output_padding
    last = layout == "channels_last"
    if last:
        x, dy, w = np.moveaxis(x, 1, -1), np.moveaxis(dy, 1, -1), np.moveaxis(w, (0, 1), (-1, -2))
    y, cache = forward(x, w, b, **keywords)
    dx, dw, db = backward(dy, cache)
    for result in (y, dx, dw, db):
        assert result.dtype == dtype
        assert result.flags.c_contiguous
    if last:
        y, dx, dw = np.moveaxis(y, -1, 1), np.moveaxis(dx, -1, 1), np.moveaxis(dw, (-1, -2), (0, 1))
    return [y, dx, dw, db]


def conv_expected(g: ConvGeometry, arrays: Sequence[Any]) -> list[Any]:
    """What `conv_pair` has to give, in float64, from the equation."""
    x, w, b, dy = (np.asarray(a, np.float64) for a in arrays)
    with np.errstate(all="ignore"):
        db = dy.sum(axis=(0, *range(2, dy.ndim)))
        if not g.transposed:
            return [*conv_passes(g, x, w, b, dy), db]
        dx, y, dw = conv_passes(g.convolution, dy, w, None, x)
        return [y + b.reshape(-1, *(1,) * g.axes), dx, dw, db]


def assert_same(actual: Sequence[Any], expected: Sequence[Any], what: str) -> None:
    """Fail unless all results are equal, NaN equal to NaN, naming the one that is not and `what` was computed."""
    for name, a, e in zip(("y", "dx", "dw", "db"), actual, expected, strict=False):
        np.testing.assert_array_equal(a, e, f"{name} of {what}")


def each_isa() -> Iterator[str]:
    """Let the body of a loop run by whatever engine is chosen, then by the native one on every instruction set."""
    yield "as chosen"
    for isa in ISAS:
        with forced(isa):
            yield str(isa)
