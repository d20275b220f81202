"""Convolution as matrix multiplication in NumPy: im2col, its adjoint col2im, and a product of matrices per block.

A block is some samples, or some output positions of one sample, whose columns fit into the workspace. In it the
samples are the innermost axis, so that copying a tap's window moves long runs:

    columns[g, (c, tap), (o, n)] = x[n, g*C + c, stride*o + dilation*tap - pad], zero in the padding        im2col
    y  = w @ columns            dcolumns = w^T @ dy, dx = col2im(dcolumns)            dw = dy @ columns^T

Zeros stand for the padding, so an infinite or NaN weight (or upstream gradient) also reaches the outputs (or weight
gradients) that meet it only in the padding; the loops engine does not spread it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby, product
from math import prod
from typing import Any

import numpy as np

from backlit.engines.engine import OPERATIONS, Engine, Figures, Geometry, Plan
from backlit.engines.memory import Array, Scratch, empty, scratch_space, zeros
from backlit.engines.workers import MULTIPLICATIONS, spread
from backlit.geometry import ConvGeometry, PoolGeometry
from backlit.incidence import Axis, axes, count

WORKSPACE = 6 << 20  # bytes of the temporaries of one block, kept by each thread that computes
PARTIAL_SUMS = 8 << 20  # bytes of gradients of the weights that wait to be added up
COPIES = 0.8e9  # elements of columns a second, on one thread: the scale of an estimate, not a measurement
REMEMBERED = 128  # taps of a kernel up to which their slices are kept for the next call
NARROW = 64  # filters up to which BLAS is faster when they are the columns, not the rows, of a long product

Slices = tuple[slice, ...]
Tap = tuple[int, Slices, Slices]  # its number, the output positions that read at it, and what they read
Block = tuple[slice, Slices]  # samples, and output positions per axis


def conv_forward(g: ConvGeometry, layout: str, x: Array, w: Array, b: Array | None) -> Array:
    """y = w @ im2col(x) + b, block by block."""
    y = empty(g.shapes(layout)[2], x.dtype)
    xs, ys, matrix = _grouped(x, g, layout), _grouped(y, g, layout), _matrix(w, g, layout)
    bias = 0 if b is None else b.reshape(g.groups, -1, *(1,) * g.axes, 1)

    def compute(block: Block) -> None:
        samples, rows = block
        with scratch_space(WORKSPACE) as scratch:
            columns = _im2col(*_padded(g, xs[..., samples], scratch), layout, rows, scratch)
            target = ys[_at(..., *rows, samples)]
            product = scratch.take((*target.shape[:2], columns.shape[2]), y.dtype)
            np.add(np.matmul(matrix, columns, out=product).reshape(target.shape), bias, out=target)

    how = plan("conv_forward", g, x.dtype.name, layout)
    spread(compute, list(_blocks(g, how)), how.threads)
    return y


def conv_grad_input(g: ConvGeometry, layout: str, w: Array, dy: Array) -> Array:
    """dx = col2im(w^T @ dy), block by block; the blocks of one sample overlap in dx and stay together."""
    dx = zeros(g.shapes(layout)[0], dy.dtype)
    dxs, dys, matrix = _grouped(dx, g, layout), _grouped(dy, g, layout), _matrix(w, g, layout)

    def compute(blocks: list[Block]) -> None:
        for samples, rows in blocks:
            with scratch_space(WORKSPACE) as scratch:
                upstream = _flat(_gathered(dys[_at(..., *rows, samples)], scratch))
                columns = scratch.take((g.groups, matrix.shape[2], upstream.shape[2]), dx.dtype)
                np.matmul(matrix.swapaxes(1, 2), upstream, out=columns)
                _col2im(g, layout, columns, dxs[..., samples], rows, scratch)

    how = plan("conv_grad_input", g, dy.dtype.name, layout)
    together = groupby(_blocks(g, how), key=lambda block: block[0].start)
    spread(compute, [list(blocks) for _, blocks in together], how.threads)
    return dx


def conv_grad_weight(g: ConvGeometry, layout: str, x: Array, dy: Array) -> Array:
    """dw = sum over the blocks, in their order, of dy @ im2col(x)^T."""
    dw = zeros(g.shapes(layout)[1], x.dtype)
    xs, dys, matrix = _grouped(x, g, layout), _grouped(dy, g, layout), _matrix(dw, g, layout)

    def compute(task: tuple[Block, slice]) -> Array:
        (samples, rows), part = task
        with scratch_space(WORKSPACE) as scratch:
            columns = _im2col(*_padded(g, xs[..., samples], scratch), layout, rows, scratch)
            upstream = _flat(_gathered(dys[_at(..., *rows, samples)], scratch))[:, part]
            if matrix.shape[1] > NARROW:
                return np.asarray(upstream @ columns.swapaxes(1, 2))
            return np.asarray(columns @ upstream.swapaxes(1, 2)).swapaxes(1, 2)

    filters = min(matrix.shape[1], max(1, PARTIAL_SUMS // (dw.nbytes // matrix.shape[1])))
    parts = [slice(first, first + filters) for first in range(0, matrix.shape[1], filters)]
    how = plan("conv_grad_weight", g, x.dtype.name, layout)
    tasks = [(block, part) for block in _blocks(g, how) for part in parts]
    at_once = max(1, min(how.threads, PARTIAL_SUMS // (dw.nbytes // len(parts))))
    for first in range(0, len(tasks), at_once):
        now = tasks[first : first + at_once]
        for (_, part), partial in zip(now, spread(compute, now, at_once), strict=True):
            matrix[:, part] += partial
    return dw


def conv_grad_bias(g: ConvGeometry, layout: str, dy: Array) -> Array:
    """db = the sum of dy over all but its channels."""
    first = _channels_first(dy, layout)
    db = empty((g.out_channels,), dy.dtype)
    db[...] = first.sum(axis=(0, *range(2, first.ndim)), dtype=np.float64)
    return db


def max_pool_forward(g: PoolGeometry, layout: str, x: Array) -> tuple[Array, Array]:
    """y = the largest of each window, tap by tap; its winner = the number of taps before the first that equals it."""
    windows, taps = g.windows, prod(g.windows.kernel_size)
    shape = windows.shapes(layout)[2]
    y, winners = empty(shape, x.dtype), zeros(shape, np.min_scalar_type(taps))
    y.fill(-np.inf)
    xs, ys, won = (_channels_first(a, layout) for a in (x, y, winners))
    together = _sample_bytes(windows) <= WORKSPACE
    for samples in _sample_blocks(windows):
        has_nan, best, values = bool(np.isnan(xs[samples].min())), ys[samples], []
        for _, rows, reads in _taps(windows):
            value = xs[_at(samples, slice(None), *reads)]
            values.append(
                value.copy(order="K") if together else value
            )  # strided reads are slow: once, if it fits
            part = best[_at(..., *rows)]
            np.maximum(part, values[-1], out=part)  # NaN wins
        found, passed = np.zeros_like(best, bool), 0
        for (tap, rows, _), value in zip(_taps(windows), values, strict=True):
            skipped = won.dtype.type(tap - passed)  # taps that read the padding alone among them
            won[samples] += (~found).view(np.uint8) * skipped
            here = _at(..., *rows)
            found[here] |= value == best[here]
            if has_nan:
                found[here] |= np.isnan(value)
            passed = tap
        won[samples] += (~found).view(np.uint8) * won.dtype.type(taps - passed)
    return y, winners


def max_pool_backward(g: PoolGeometry, layout: str, dy: Array, winners: Array) -> Array:
    """dx = dy, sent to the tap that won each window."""
    dx = zeros(g.windows.shapes(layout)[0], dy.dtype)
    dxs, dys, won = (_channels_first(a, layout) for a in (dx, dy, winners))
    for samples in _sample_blocks(g.windows):
        for tap, rows, reads in _taps(g.windows):
            here = _at(samples, slice(None), *rows)
            dxs[_at(samples, slice(None), *reads)] += _where(won[here] == tap, dys[here])
    return dx


def avg_pool_forward(g: PoolGeometry, layout: str, x: Array, divisors: Array) -> Array:
    """y = sum of each window, tap by tap, over its divisor."""
    y = zeros(g.windows.shapes(layout)[2], x.dtype)
    xs, ys = _channels_first(x, layout), _channels_first(y, layout)
    for _, rows, reads in _taps(g.windows):
        ys[_at(..., *rows)] += xs[_at(..., *reads)]
    ys /= divisors.astype(x.dtype)
    return y


def avg_pool_backward(g: PoolGeometry, layout: str, dy: Array, divisors: Array) -> Array:
    """dx = dy over its divisor, sent to every tap of the window."""
    dx = zeros(g.windows.shapes(layout)[0], dy.dtype)
    dxs, dys = _channels_first(dx, layout), _channels_first(dy, layout)
    shares = dys / divisors.astype(dy.dtype)
    for _, rows, reads in _taps(g.windows):
        dxs[_at(..., *reads)] += shares[_at(..., *rows)]
    return dx


def _blocks(g: ConvGeometry, how: Plan) -> Iterator[Block]:
    """The blocks of a problem: a slice of samples and one of output positions per axis."""
    totals = (g.batch, *g.output_size)
    for starts in product(*(range(0, total, step) for total, step in zip(totals, how.block, strict=True))):
        block = zip(starts, how.block, totals, strict=True)
        samples, *rows = (slice(start, min(start + step, total)) for start, step, total in block)
        yield samples, tuple(rows)


def _sample_bytes(g: ConvGeometry) -> int:
    """What a pool makes of one sample in between: all taps of its outputs, and a little more."""
    return g.out_channels * prod(g.output_size) * (8 * prod(g.kernel_size) + 16)


def _sample_blocks(g: ConvGeometry) -> Iterator[slice]:
    """Slices of samples that stay within the workspace, or of one sample."""
    samples = max(1, WORKSPACE // _sample_bytes(g))
    return (slice(first, min(first + samples, g.batch)) for first in range(0, g.batch, samples))


def _taps(g: ConvGeometry, rows: Slices | None = None) -> Iterable[Tap]:
    """For every tap, by row-major number: the output positions (within `rows`) that read at it, and what they read."""
    bounds = (
        tuple((row.start, row.stop) for row in rows) if rows else tuple((0, size) for size in g.output_size)
    )
    return _remembered_taps(g, bounds) if prod(g.kernel_size) <= REMEMBERED else _each_tap(g, bounds)


@lru_cache(maxsize=128)
def _remembered_taps(g: ConvGeometry, bounds: tuple[tuple[int, int], ...]) -> tuple[Tap, ...]:
    return tuple(_each_tap(g, bounds))


def _each_tap(g: ConvGeometry, bounds: tuple[tuple[int, int], ...]) -> Iterator[Tap]:
    found = (_axis_taps(axis, *bound) for axis, bound in zip(axes(g), bounds, strict=True))
    for choice in product(*found):
        number = 0
        for (tap, _, _), kernel in zip(choice, g.kernel_size, strict=True):
            number = number * kernel + tap
        yield number, tuple(outs for _, outs, _ in choice), tuple(reads for _, _, reads in choice)


@lru_cache(maxsize=256)
def _axis_taps(axis: Axis, begin: int, end: int) -> tuple[tuple[int, slice, slice], ...]:
    """The taps along one axis, for output positions from begin to end."""
    found = []
    for tap in range(axis.kernel):
        outputs = axis.of_tap(tap)
        first, stop = max(outputs.start, begin), min(outputs.stop, end)
        if first < stop:
            reads = slice(axis.reads(first, tap), axis.reads(stop - 1, tap) + 1, axis.stride)
            found.append((tap, slice(first - begin, stop - begin), reads))
    return tuple(found)


def _im2col(g: ConvGeometry, x: Array, layout: str, rows: Slices, scratch: Scratch) -> Array:
    """The columns (groups, C*taps, positions*n) of a block, from x (groups, C, *spatial, n)."""
    shape = (*(row.stop - row.start for row in rows), x.shape[-1])
    column = g.in_channels // g.groups * prod(g.kernel_size)
    columns = scratch.take((g.groups, column, prod(shape)), x.dtype)
    by_tap = _by_tap(g, layout, columns, shape)
    done = 0
    for tap, outs, reads in _taps(g, rows):
        inside = by_tap[tap][_at(..., *outs, slice(None))]
        whole = inside.size == by_tap[tap].size
        if not whole or done < tap:
            by_tap[done : tap if whole else tap + 1].fill(0)  # what reads the padding
        inside[...] = x[_at(..., *reads, slice(None))]
        done = tap + 1
    by_tap[done:].fill(0)
    return columns


def _col2im(g: ConvGeometry, layout: str, columns: Array, dx: Array, rows: Slices, scratch: Scratch) -> None:
    """The adjoint of im2col: add every element of the columns to the input element that im2col copies it from."""
    total = dx
    if dx.shape[-1] > 1:  # contiguous with the samples innermost
        total = scratch.take(dx.shape, dx.dtype)
        total.fill(0)
    by_tap = _by_tap(g, layout, columns, (*(row.stop - row.start for row in rows), dx.shape[-1]))
    for tap, outs, reads in _taps(g, rows):
        total[_at(..., *reads, slice(None))] += by_tap[tap][_at(..., *outs, slice(None))]
    if total is not dx:
        dx[...] = total


def _by_tap(g: ConvGeometry, layout: str, columns: Array, shape: tuple[int, ...]) -> Array:
    """A view (taps, groups, C, *positions, n) of columns, whose rows are in the order of the weights in memory."""
    channels, taps = g.in_channels // g.groups, prod(g.kernel_size)
    if layout == "channels_first":
        return np.moveaxis(columns.reshape(g.groups, channels, taps, *shape), 2, 0)
    return np.moveaxis(columns.reshape(g.groups, taps, channels, *shape), 1, 0)


def _gathered(x: Array, scratch: Scratch) -> Array:
    """The samples of a block, contiguous with the samples innermost; one sample alone stays where it is."""
    if x.shape[-1] == 1:
        return x
    result = scratch.take(x.shape, x.dtype)
    result[...] = x
    return result


def _padded(g: ConvGeometry, x: Array, scratch: Scratch) -> tuple[ConvGeometry, Array]:
    """The samples of a block as `_gathered`, the zeros of the padding around them, and the problem that is left."""
    if x.shape[-1] == 1:
        return g, x
    inner, inside = _inner(g)
    if inner == g:
        return g, _gathered(x, scratch)
    result = scratch.take((*x.shape[:2], *inner.input_size, x.shape[-1]), x.dtype)
    result.fill(0)
    result[_at(..., *inside, slice(None))] = x
    return inner, result


@lru_cache(maxsize=256)
def _inner(g: ConvGeometry) -> tuple[ConvGeometry, Slices]:
    """The problem on an input that has the zeros that are read around it, and where in that the input lies."""
    sizes = _padded_sizes(g)
    lows = [max(0, axis.pad) for axis in axes(g)]
    pads = tuple(
        (axis.pad - low, axis.reads(axis.outputs - 1, axis.kernel - 1) + 1 + low - size)
        for axis, low, size in zip(axes(g), lows, sizes, strict=True)
    )
    inside = tuple(slice(low, low + size) for low, size in zip(lows, g.input_size, strict=True))
    around = (sizes, g.kernel_size, g.stride, pads, g.dilation, g.groups)
    return ConvGeometry(g.batch, g.in_channels, g.out_channels, *around), inside


def _padded_sizes(g: ConvGeometry) -> tuple[int, ...]:
    """The sizes of the input with the zeros that are read around it."""
    ends = (axis.reads(axis.outputs - 1, axis.kernel - 1) + 1 for axis in axes(g))
    return tuple(max(0, axis.pad) + max(axis.size, end) for axis, end in zip(axes(g), ends, strict=True))


def _flat(y: Array) -> Array:
    """(groups, filters, *positions, n) as (groups, filters, positions*n)."""
    return y.reshape(*y.shape[:2], -1)


def _grouped(x: Array, g: ConvGeometry, layout: str) -> Array:
    """A view (groups, channels of a group, *spatial, N) of x or y."""
    first = np.moveaxis(_channels_first(x, layout), 0, -1)  # (C, *spatial, N)
    return first.reshape(g.groups, first.shape[0] // g.groups, *first.shape[1:])


def _matrix(w: Array, g: ConvGeometry, layout: str) -> Array:
    """The weights as (groups, filters, C*taps), or taps*C for channels_last: a view where w is contiguous."""
    filters = g.out_channels // g.groups
    if layout == "channels_first":
        return w.reshape(g.groups, filters, -1)
    return w.reshape(-1, g.groups, filters).transpose(1, 2, 0)


def _channels_first(x: Array, layout: str) -> Array:
    """A view (N, C, *spatial) of x."""
    return x if layout == "channels_first" else np.moveaxis(x, -1, 1)


def _where(condition: Array, values: Array) -> Array:
    """The values where the condition holds, and zero elsewhere, by bits: no branch, and no infinity times zero."""
    bits = np.dtype(f"u{values.dtype.itemsize}")
    kept: Array = np.bitwise_and(values.view(bits), np.negative(condition.astype(bits))).view(values.dtype)
    return kept


def _at(*index: Any) -> Any:
    """An index of slices; a plain tuple, which type checkers will not take for one."""
    return index


@lru_cache(maxsize=1024)
def plan(operation: str, geometry: Geometry, dtype: str, layout: str) -> Plan:
    """The blocks of a convolution: whole samples where they fit into the workspace, else positions of one sample."""
    if isinstance(geometry, PoolGeometry):
        figures = Figures(additions_or_comparisons=count(geometry.windows))
        return Plan("gemm", "im2col", "", "pools go tap by tap over whole arrays", figures)
    g, itemsize = geometry, np.dtype(dtype).itemsize
    rows = g.in_channels * prod(g.kernel_size)
    column = itemsize * (rows + g.out_channels)
    room, sizes = max(1, WORKSPACE // column), []
    for outputs in reversed(g.output_size):
        sizes.append(min(outputs, room))
        room //= sizes[-1]
    sample = column * prod(g.output_size) + itemsize * g.in_channels * prod(_padded_sizes(g))  # its x too
    samples = max(1, min(g.batch, WORKSPACE // sample)) if tuple(reversed(sizes)) == g.output_size else 1
    even = max(1, -(-g.batch // max(1, -(-g.batch // samples))))  # as many blocks, but of the same size
    block = (even, *reversed(sizes))
    blocks = prod(-(-total // size) for total, size in zip((g.batch, *g.output_size), block, strict=True))
    positions = g.batch * prod(g.output_size)
    return Plan(
        "gemm",
        "im2col",
        "",
        "columns go to NumPy's matrix product block by block",
        Figures(
            multiply_adds=count(g),
            workspace_bytes=column * prod(block),
            samples_in_a_block=even,
            output_positions_in_a_block=prod(sizes),
            blocks=blocks,
        ),
        block,
        pieces=max(1, -(-g.batch // even) if operation == "conv_grad_input" else blocks),
        seconds=positions * rows * (g.out_channels // g.groups / MULTIPLICATIONS + 1 / COPIES),
    )


ENGINE = Engine(
    name="gemm",
    functions={name: globals()[name] for name in OPERATIONS},
    plan=plan,
    refusal=lambda operation, geometry, dtype, layout: "",
    algorithms=("im2col",),
)
