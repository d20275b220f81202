"""What a benchmark found out: a row for each pass, its ratios, and geometric means of many."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import exp, log, prod
from typing import Any

from backlit.geometry import ConvGeometry
from backlit.trial import PASSES

AGREEMENT = 1e-4  # RMS over that of the exact result: rounding stays far below, a missing term far above
_TINY = 1e6  # operations: below, the call costs more than the arithmetic
_FIRST = 4  # input channels of a first layer, at most
_WIDE, _LARGE = 64, 7  # channels and image from which 3x3 convolutions count as such


@dataclass(frozen=True)
class Timing:
    """How long a pass took on one side.

    Args:
        seconds: the median of one call.
        layout: the layout or memory format that was faster.
        fastest: seconds of the fastest call, which a busy machine disturbs least; None where it was not noted.
    """

    seconds: float
    layout: str
    fastest: float | None = None


@dataclass(frozen=True)
class Row:
    """One pass of one problem.

    Args:
        geometry, family: the problem.
        name: "forward", "dx" or "dw".
        threads: how many each side was allowed.
        ours: our time.
        algorithm: the engine, algorithm and instruction set that computed it.
        peak: what the machine can do at most, in GFLOP/s; None where it is not known.
        error: RMS of our difference from the result in float64, relative to the RMS of that.
        called, kept: PyTorch's time as a user runs it, and with its memory kept; None where it was not timed.
        torch_error: PyTorch's error, as ours.
        note: a sentence about why PyTorch was not timed; else "".
        trouble: a sentence where a result is wrong; else "".
    """

    geometry: ConvGeometry
    family: str
    name: str
    threads: int
    ours: Timing
    algorithm: str
    peak: float | None
    error: float
    called: Timing | None = None
    kept: Timing | None = None
    torch_error: float | None = None
    note: str = ""
    trouble: str = ""

    @property
    def gflops(self) -> float:
        """GFLOP/s of our side, two operations for each multiplication."""
        return operations(self.geometry) / self.ours.seconds / 1e9

    @property
    def share(self) -> float | None:
        """Our share of the machine's peak; above 1 where an algorithm saves multiplications."""
        return self.gflops / self.peak if self.peak else None

    def ratio(self, side: str) -> float | None:
        """How many times as fast as PyTorch we are, "called" or "kept"; None where it was not timed."""
        theirs: Timing | None = getattr(self, side)
        return theirs.seconds / self.ours.seconds if theirs else None

    def record(self) -> dict[str, Any]:
        """The row as names and plain values, for files."""
        return {
            "descriptor": str(self.geometry),
            "family": self.family,
            "kind": kind(self.geometry),
            "pass": self.name,
            "threads": self.threads,
            "ms": _ms(self.ours.seconds),
            "fastest_ms": _ms(self.ours.fastest),
            "gflops": self.gflops,
            "peak_share": self.share,
            "algorithm": self.algorithm,
            "layout": self.ours.layout,
            "error": self.error,
            **{
                f"torch_{side}_{what}": value
                for side, timing in (("called", self.called), ("kept", self.kept))
                for what, value in (
                    ("ms", timing and _ms(timing.seconds)),
                    ("fastest_ms", timing and _ms(timing.fastest)),
                    ("format", timing and timing.layout),
                    ("ratio", self.ratio(side)),
                )
            },
            "torch_error": self.torch_error,
            "note": self.note,
            "trouble": self.trouble,
        }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def operations(geometry: ConvGeometry) -> float:
    """Multiplications and additions of a pass, counted over the whole kernel at every output position.

    Example:
        >>> operations(ConvGeometry.parse("conv2d:n2,c4-6,g2,i5x5,k3x3,p1"))  # 2 * (2 * 25) * 6 * (4 / 2) * 9
        10800.0
    """
    g = geometry.convolution
    positions, taps = prod(g.output_size), prod(g.kernel_size)
    return 2.0 * g.batch * positions * g.out_channels * (g.in_channels // g.groups) * taps


def kind(geometry: ConvGeometry) -> str:
    """What sort of problem it is, so that problems that ask for the same kernels are added up together.

    Example:
        >>> kind(ConvGeometry.parse("conv2d:n16,c64-64,i56x56,k3x3,p1"))
        '3x3, 64+ channels'
        >>> kind(ConvGeometry.parse("conv2d:n16,c64-64,g64,i56x56,k3x3,p1"))
        'depthwise'
    """
    g = geometry
    plain = set(g.stride) == {1} and set(g.dilation) == {1}
    if operations(g) < _TINY:
        return "tiny"
    if g.transposed:
        return "transposed"
    if g.groups > 1:
        return "depthwise" if g.groups == g.in_channels else "grouped"
    if g.axes != 2:
        return f"{g.axes}-D"
    if g.in_channels <= _FIRST:
        return "first layer"
    if g.kernel_size == (1, 1):
        return "1x1" if plain else "1x1 strided"
    if g.kernel_size == (3, 3) and plain:
        if min(g.in_channels, g.out_channels) < _WIDE:
            return "3x3, fewer channels"
        return "3x3, 64+ channels" if min(g.input_size) >= _LARGE else "3x3 on small images"
    return "other" if plain else "strided"


def geometric_means(rows: Iterable[Row], key: Callable[[Row], str], side: str) -> dict[str, dict[str, float]]:
    """Geometric means of the ratios to PyTorch, by key and pass; keys in the order of their first rows.

        mean = (product of ratios) ** (1 / how many there are)

    Args:
        rows: those without a ratio do not count.
        key: what to group by, such as `lambda row: row.family`.
        side: "called" or "kept".

    Returns:
        means[key][pass]; a key or a pass without a ratio is not there.
    """
    logs: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        ratio = row.ratio(side)
        if ratio is not None:
            logs.setdefault(key(row), {}).setdefault(row.name, []).append(log(ratio))
    return {
        group: {name: exp(sum(found[name]) / len(found[name])) for name in PASSES if name in found}
        for group, found in logs.items()
    }
