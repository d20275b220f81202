"""What an engine is: a named table of functions, with a plan that can be shown before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from backlit.geometry import ConvGeometry, PoolGeometry

Geometry = ConvGeometry | PoolGeometry

PASSES = ("conv_forward", "conv_grad_input", "conv_grad_weight")
POOLS = ("max_pool_forward", "max_pool_backward", "avg_pool_forward", "avg_pool_backward")


@dataclass(frozen=True)
class Plan:
    """How an engine will compute one operation: decided from the problem alone, never from its values."""

    engine: str
    algorithm: str
    isa: str  # "" where the engine has no instruction sets to choose from
    threads: str
    reason: str
    figures: Mapping[str, int | float] = field(
        default_factory=dict
    )  # what the choice was made by, each with its unit


@dataclass(frozen=True)
class Engine:
    """A table of functions over arrays.

    Every function is called as function(geometry, layout, *arrays) with arrays that are already validated, never writes
    to them, and returns new aligned arrays:

        conv_forward(g, layout, x, w, b or None) -> y          conv_grad_input(g, layout, w, dy) -> dx
        conv_grad_weight(g, layout, x, dy) -> dw
        max_pool_forward(g, layout, x) -> (y, winners)         max_pool_backward(g, layout, dy, winners) -> dx
        avg_pool_forward(g, layout, x, divisors) -> y          avg_pool_backward(g, layout, dy, divisors) -> dx

    The geometry of the convolution functions is plain (`geometry.convolution`). `winners` holds, for every output, the
    row-major number of the tap that won, or the number of taps where a window reads nothing. `divisors` has the
    output's spatial shape.

    Args:
        name: how it is listed and forced.
        functions: the table, by operation.
        plan: plan(operation, geometry, dtype, layout) -> Plan.
        refusal: refusal(operation, geometry, dtype, layout) -> why it cannot serve a problem, "" if it can.
        algorithms: what can be forced inside it.
        isas: the instruction sets that can be forced inside it.
    """

    name: str
    functions: Mapping[str, Callable[..., Any]]
    plan: Callable[[str, Geometry, str, str], Plan]
    refusal: Callable[[str, Geometry, str, str], str]
    algorithms: tuple[str, ...]
    isas: tuple[str, ...] = ()
