"""The one relation of a convolution: which input, weight and output elements meet in a product.

Output position o at kernel tap k reads input position i = stride*o + dilation*k - pad, on every spatial axis, within
one group of channels. The set of all triples (input, weight, output) is the incidence. The scalar

    T(x, w, g) = sum over the incidence of x[input] * w[weight] * g[output]

is linear in each argument, and its partial derivatives are the forward pass (dT/dg), the gradient of the input (dT/dx)
and the gradient of the weights (dT/dw). A transposed convolution is the same relation with input and output exchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from math import prod
from typing import NamedTuple

from backlit.geometry import ConvGeometry

Index = tuple[int, ...]


class Term(NamedTuple):
    """One product: indices into x (n, c, *i), w (k, c within its group, *tap) and y (n, k, *o), channels first."""

    input: Index
    weight: Index
    output: Index


class Axis(NamedTuple):
    """The relation on one spatial axis."""

    size: int  # input positions
    kernel: int  # taps
    outputs: int  # output positions
    stride: int
    dilation: int
    pad: int  # on the low side; the high pad shows in `outputs` alone

    def reads(self, output: int, tap: int) -> int:
        """The input position that an output position reads at a tap; outside 0..size-1 it lies in the padding."""
        return self.stride * output + self.dilation * tap - self.pad

    def of_output(self, output: int, padded: bool = False) -> list[tuple[int, int]]:
        """(input position, tap) of all that one output position reads."""
        reads = ((self.reads(output, tap), tap) for tap in range(self.kernel))
        return [(i, tap) for i, tap in reads if padded or 0 <= i < self.size]

    def of_input(self, position: int) -> list[tuple[int, int]]:
        """(output position, tap) of all that read one input position."""
        result = []
        for tap in range(self.kernel):
            output, rest = divmod(position + self.pad - self.dilation * tap, self.stride)
            if rest == 0 and 0 <= output < self.outputs:
                result.append((output, tap))
        return result

    def of_tap(self, tap: int, padded: bool = False) -> range:
        """The output positions that read an input position, not the padding, at one tap."""
        if padded:
            return range(self.outputs)
        offset = self.pad - self.dilation * tap
        first = max(0, -(-offset // self.stride))
        last = min(self.outputs - 1, (self.size - 1 + offset) // self.stride)
        return range(first, max(first, last + 1))


def axes(geometry: ConvGeometry) -> tuple[Axis, ...]:
    """The relation of each spatial axis of a plain convolution (`geometry.convolution` of a transposed one)."""
    g = geometry.convolution
    lows = (low for low, _ in g.padding)
    return tuple(
        map(Axis, g.input_size, g.kernel_size, g.output_size, g.stride, g.dilation, lows),
    )


def terms(geometry: ConvGeometry, *, padded: bool = False) -> Iterator[Term]:
    """All terms of the convolution, one output after another, each one's taps in row-major order.

    Args:
        geometry: the problem.
        padded: also give the terms that read the padding; their input index lies outside the array.

    Example:
        >>> g = ConvGeometry.parse("conv1d:n1,c1-1,i3,k2")
        >>> [(t.input[-1], t.weight[-1], t.output[-1]) for t in terms(g)]
        [(0, 0, 0), (1, 1, 0), (1, 0, 1), (2, 1, 1)]
    """
    g = geometry.convolution
    for n in range(
        g.batch
    ):  # not in the product, which holds all its ranges in memory even where there is no sample
        for output in product((n,), range(g.out_channels), *map(range, g.output_size)):
            yield from _oriented(geometry, _of_output(g, output, padded))


def terms_of_output(geometry: ConvGeometry, index: Index, *, padded: bool = False) -> Iterator[Term]:
    """The terms of one output element (n, k, *o), without enumerating the others."""
    g = geometry.convolution
    found = _of_input(g, index) if geometry.transposed else _of_output(g, index, padded)
    return _oriented(geometry, found)


def terms_of_input(geometry: ConvGeometry, index: Index, *, padded: bool = False) -> Iterator[Term]:
    """The terms of one input element (n, c, *i), without enumerating the others."""
    g = geometry.convolution
    found = _of_output(g, index, padded) if geometry.transposed else _of_input(g, index)
    return _oriented(geometry, found)


def terms_of_weight(geometry: ConvGeometry, index: Index, *, padded: bool = False) -> Iterator[Term]:
    """The terms of one weight (k, c within its group, *tap), without enumerating the others."""
    return _oriented(geometry, _of_weight(geometry.convolution, index, padded))


def count(geometry: ConvGeometry) -> int:
    """The number of terms, that is of multiplications and additions, padding left out; no enumeration."""
    g = geometry.convolution
    per_axis = (_pairs(axis, axis.pad + axis.size - 1) - _pairs(axis, axis.pad - 1) for axis in axes(g))
    return g.batch * g.out_channels * (g.in_channels // g.groups) * prod(per_axis)


def _pairs(axis: Axis, limit: int) -> int:
    """The number of (output position, tap) for which stride*output + dilation*tap is at most `limit`."""
    if limit < 0:
        return 0
    taps = min(axis.kernel, limit // axis.dilation + 1)  # that some output has
    whole = (limit - axis.stride * (axis.outputs - 1)) // axis.dilation + 1  # that every output has
    whole = min(max(whole, 0), taps)
    rest = limit - axis.dilation * (taps - 1)  # what the last of them leaves to the outputs
    return whole * axis.outputs + _floors(taps - whole, axis.stride, axis.dilation, rest + axis.stride)


def _floors(n: int, m: int, a: int, b: int) -> int:
    """The sum of floor((a*i + b) / m) over 0 <= i < n, by Euclid's algorithm, for b >= 0."""
    total = 0
    while n > 0:
        total += n * (n - 1) // 2 * (a // m) + n * (b // m)
        a, b = a % m, b % m
        n, b = divmod(a * n + b, m)  # what is left is the same sum with the axes exchanged
        m, a = a, m
    return total


def _of_output(g: ConvGeometry, output: Index, padded: bool) -> Iterator[Term]:
    n, k, *position = output
    first = k // (g.out_channels // g.groups) * (g.in_channels // g.groups)  # first channel of k's group
    reads = [axis.of_output(o, padded) for axis, o in zip(axes(g), position, strict=True)]
    for c in range(g.in_channels // g.groups):
        for pairs in product(*reads):
            yield Term((n, first + c, *(i for i, _ in pairs)), (k, c, *(tap for _, tap in pairs)), output)


def _of_input(g: ConvGeometry, index: Index) -> Iterator[Term]:
    n, channel, *position = index
    group, c = divmod(channel, g.in_channels // g.groups)
    filters = g.out_channels // g.groups
    readers = [axis.of_input(i) for axis, i in zip(axes(g), position, strict=True)]
    for k in range(group * filters, (group + 1) * filters):
        for pairs in product(*readers):
            yield Term(index, (k, c, *(tap for _, tap in pairs)), (n, k, *(o for o, _ in pairs)))


def _of_weight(g: ConvGeometry, weight: Index, padded: bool) -> Iterator[Term]:
    k, c, *taps = weight
    channel = k // (g.out_channels // g.groups) * (g.in_channels // g.groups) + c
    lines = axes(g)
    for n, *output in product(
        range(g.batch), *(axis.of_tap(tap, padded) for axis, tap in zip(lines, taps, strict=True))
    ):
        reads = (axis.reads(o, tap) for axis, o, tap in zip(lines, output, taps, strict=True))
        yield Term((n, channel, *reads), weight, (n, k, *output))


def _oriented(geometry: ConvGeometry, found: Iterable[Term]) -> Iterator[Term]:
    """The terms as the problem names them: a transposed convolution reads what its convolution writes."""
    if not geometry.transposed:
        return iter(found)
    return (Term(term.output, term.weight, term.input) for term in found)
