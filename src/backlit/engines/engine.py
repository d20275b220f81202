"""What an engine is: a named table of functions, with a plan that can be shown before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backlit.engines.workers import threads_for
from backlit.geometry import ConvGeometry, PoolGeometry

Geometry = ConvGeometry | PoolGeometry

PASSES = ("conv_forward", "conv_grad_input", "conv_grad_weight")
# Which of a geometry's (x, w, y) an operation takes, a bias apart, and which it returns; None is b.
OPERANDS: dict[str, tuple[tuple[int, ...], int | None]] = {
    "conv_forward": ((0, 1), 2),
    "conv_grad_input": ((1, 2), 0),
    "conv_grad_weight": ((0, 2), 1),
    "conv_grad_bias": ((2,), None),
}
POOLS = ("max_pool_forward", "max_pool_backward", "avg_pool_forward", "avg_pool_backward")
OPERATIONS = (*OPERANDS, *POOLS)


class Figures(Mapping[str, float]):
    """Names and numbers that cannot be changed; equal ones have the same hash, so that plans can be compared."""

    def __init__(self, **numbers: float) -> None:
        self._pairs = tuple((name.replace("_", " "), number) for name, number in numbers.items())

    def __getitem__(self, name: str) -> float:
        return dict(self._pairs)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._pairs))

    def __len__(self) -> int:
        return len(self._pairs)

    def __hash__(self) -> int:
        return hash(self._pairs)

    def __repr__(self) -> str:
        return ", ".join(f"{name}: {number:,}" for name, number in self._pairs)


@dataclass(frozen=True)
class Plan:
    """How an engine computes one operation: decided from geometry, dtype and layout alone, once for each of them.

    Args:
        engine, algorithm: who computes, and how.
        isa: the instruction set; "" where the engine has none to choose from.
        reason: why this algorithm.
        figures: what the choice was made by.
        block: samples, and output positions per axis, that are computed at a time; () where there are no blocks.
        pieces: how many pieces of work can be computed side by side.
        seconds: an estimate of the work on one thread.
        kernel: which of its ways the algorithm takes, and tile: the results that it keeps in registers at a time; ""
            where there is one way, and no such tile.
        worth: seconds of work for which a thread pays; None for those of `workers`.
    """

    engine: str
    algorithm: str
    isa: str
    reason: str
    figures: Figures
    block: tuple[int, ...] = ()
    pieces: int = 1
    seconds: float = 0.0
    kernel: str = ""
    tile: str = ""
    worth: float | None = None

    @property
    def threads(self) -> int:
        """The number of threads that it is worth using now; it splits the pieces, and changes nothing else."""
        return threads_for(self.seconds, self.pieces, self.worth)


@dataclass(frozen=True)
class Engine:
    """A table of functions over arrays.

    Every function is called as function(geometry, layout, *arrays) with arrays that are already validated, never writes
    to them, and returns new aligned arrays:

        conv_forward(g, layout, x, w, b or None) -> y          conv_grad_input(g, layout, w, dy) -> dx
        conv_grad_weight(g, layout, x, dy) -> dw               conv_grad_bias(g, layout, dy) -> db
        max_pool_forward(g, layout, x) -> (y, winners)         max_pool_backward(g, layout, dy, winners) -> dx
        avg_pool_forward(g, layout, x, divisors) -> y          avg_pool_backward(g, layout, dy, divisors) -> dx

    The geometry of the convolution functions is plain (`geometry.convolution`), but for conv_grad_bias, where dy is the
    upstream gradient of the problem as it was asked; it sums in float64. `winners` holds, for every output, the
    row-major number of the tap that won, or the number of taps where a window reads nothing. `divisors` has the
    output's spatial shape.

    Args:
        name: how it is listed and forced.
        functions: the table, by operation.
        plan: plan(operation, geometry, dtype, layout) -> Plan; the functions compute by the same plan.
        refusal: refusal(operation, geometry, dtype, layout) -> why it cannot serve a problem, "" if it can.
        algorithms: what can be forced inside it.
        isas: the instruction sets that can be forced inside it.
        prepare: prepare(operation, geometry, dtype, layout, bare) -> the function of the arrays alone, under what is
            forced now; bare arrays have no batch and channel axes, nor has the result. None: `functions` are called.
    """

    name: str
    functions: Mapping[str, Callable[..., Any]]
    plan: Callable[[str, Geometry, str, str], Plan]
    refusal: Callable[[str, Geometry, str, str], str]
    algorithms: tuple[str, ...]
    isas: tuple[str, ...] = ()
    prepare: Callable[[str, Geometry, str, str, bool], Callable[..., Any]] | None = None
