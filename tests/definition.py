"""The maps of convolutions and pools once more, tap by tap over whole arrays: fast enough for many channels.

It shares nothing with the engines but the equation. What a tap reads in the padding is left out, as in the definition
(engine loops), so that infinities and NaN reach what reads them and nothing else; tests/test_native_matrix.py holds it
to that engine bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any

import numpy as np

from backlit.geometry import ConvGeometry, PoolGeometry

Slices = tuple[slice, ...]


def taps(g: ConvGeometry) -> Iterator[tuple[tuple[int, ...], Slices, Slices]]:
    """Every tap that reads the input at all: its position, the outputs that read through it, and what they read."""
    for tap in product(*map(range, g.kernel_size)):
        outputs, inputs = [], []
        for axis, u in enumerate(tap):
            stride, start = g.stride[axis], g.dilation[axis] * u - g.padding[axis][0]
            first = max(0, -(start // stride))  # the first o with stride*o + start >= 0
            last = min(g.output_size[axis], (g.input_size[axis] - 1 - start) // stride + 1)
            if first >= last:
                break
            outputs.append(slice(first, last))
            inputs.append(slice(stride * first + start, stride * (last - 1) + start + 1, stride))
        else:
            yield tap, tuple(outputs), tuple(inputs)


def conv_passes(g: ConvGeometry, x: Any, w: Any, b: Any, dy: Any) -> list[Any]:
    """y, dx and dw in float64 of a plain convolution, from channels-first arrays."""
    # copies: einsum adds up before it multiplies by what has a stride of 0, which is another sum where it is infinite
    x, w, dy = (np.array(a, np.float64, order="C") for a in (x, w, dy))
    xs, ws, ys = g.shapes("channels_first")
    batch, groups, c, k = g.batch, g.groups, g.in_channels // g.groups, g.out_channels // g.groups
    x = x.reshape(batch, groups, c, *g.input_size)
    dy = dy.reshape(batch, groups, k, *g.output_size)
    w = w.reshape(groups, k, c, *g.kernel_size)
    y, dx, dw = np.zeros(dy.shape), np.zeros(x.shape), np.zeros(w.shape)
    with np.errstate(all="ignore"):
        for tap, outputs, inputs in taps(g):
            read, given = x[:, :, :, *inputs], dy[:, :, :, *outputs]
            weights = w[:, :, :, *tap]
            y[:, :, :, *outputs] += np.einsum("gkc,ngc...->ngk...", weights, read, optimize=_optimize(read))
            dx[:, :, :, *inputs] += np.einsum("gkc,ngk...->ngc...", weights, given, optimize=_optimize(given))
            dw[:, :, :, *tap] += np.einsum(
                "ngkp,ngcp->gkc",
                given.reshape(*given.shape[:3], prod(given.shape[3:])),
                read.reshape(*read.shape[:3], prod(read.shape[3:])),
                optimize=_optimize(read),
            )
        y = y.reshape(ys)
        if b is not None:
            y += np.reshape(b, (-1, *(1,) * g.axes))
    return [y, dx.reshape(xs), dw.reshape(ws)]


def max_pool_passes(g: PoolGeometry, x: Any, dy: Any) -> list[Any]:
    """y and dx in float64 of a max pool, from channels-first arrays; NaN wins, and so does the first of equals."""
    x, dy = np.asarray(x, np.float64), np.asarray(dy, np.float64)
    windows = g.windows
    y = np.full(dy.shape, -np.inf)
    winners = np.full(dy.shape, -1)
    reads = list(taps(windows))
    for number, (_, outputs, inputs) in enumerate(reads):
        value, best, won = x[:, :, *inputs], y[:, :, *outputs], winners[:, :, *outputs]
        wins = (won == -1) | (value > best) | (np.isnan(value) & ~np.isnan(best))
        best[wins], won[wins] = value[wins], number
    dx = np.zeros(x.shape)
    with np.errstate(all="ignore"):
        for number, (_, outputs, inputs) in enumerate(reads):
            dx[:, :, *inputs] += np.where(winners[:, :, *outputs] == number, dy[:, :, *outputs], 0.0)
    return [y, dx]


def avg_pool_passes(g: PoolGeometry, x: Any, dy: Any, divisors: Any) -> list[Any]:
    """y and dx in float64 of an average pool, from channels-first arrays and a divisor for every output position."""
    x, dy = np.asarray(x, np.float64), np.asarray(dy, np.float64)
    y, dx = np.zeros(dy.shape), np.zeros(x.shape)
    with np.errstate(all="ignore"):
        shares = dy / divisors
        for _, outputs, inputs in taps(g.windows):
            y[:, :, *outputs] += x[:, :, *inputs]
            dx[:, :, *inputs] += shares[:, :, *outputs]
        return [y / divisors, dx]


def _optimize(values: Any) -> bool:
    """Whether BLAS is to multiply: not where the arrays are so small that finding the order takes longer."""
    return values.size > 4096
