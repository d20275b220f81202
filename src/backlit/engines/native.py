"""The native engine: plans of the C++ module, made once for every problem, and the functions that run them.

The module is compiled for several instruction sets, and the widest that the processor has is used. Its algorithms:

    direct      sums of products in registers, for every configuration
    winograd    3x3 kernels of stride 1 in float32, with fewer multiplications and a little more rounding error
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from backlit.engines import forcing
from backlit.engines.engine import OPERANDS, OPERATIONS, Engine, Figures, Geometry, Plan
from backlit.engines.module import isas, loaded
from backlit.engines.workers import threads_for
from backlit.geometry import ConvGeometry, PoolGeometry
from backlit.incidence import axes, count

if TYPE_CHECKING:
    from backlit import _native

    _NativePlan: TypeAlias = _native.ConvPlan | _native.PoolPlan | _native.BiasPlan

WORTH = 10e-6  # seconds of work for each thread: less does not pay for waking it
ALGORITHMS = ("direct", "winograd")
REMEMBERED = 4096  # plans


def prepare(operation: str, geometry: Geometry, dtype: str, layout: str, bare: bool) -> Callable[..., Any]:
    """The function of the arrays that runs a plan: the plan's own where there is but one piece of work."""
    how = native_plan(operation, geometry, dtype, layout, bare)
    run: Callable[..., Any] = how.run
    seconds, pieces = how.seconds, how.pieces
    if pieces == 1:
        return run
    return lambda *arrays: run(*arrays, threads=threads_for(seconds, pieces, WORTH))


def plan(operation: str, geometry: Geometry, dtype: str, layout: str) -> Plan:
    """How an operation is computed under what is forced now, for people to read."""
    forced = forcing.current()
    return _shown(operation, geometry, dtype, layout, forced.isa or isas()[-1], forced.algorithm or "")


def refusal(operation: str, geometry: Geometry, dtype: str, layout: str) -> str:
    """Why what is forced cannot serve a problem; without force everything is served."""
    try:
        native_plan(operation, geometry, dtype, layout)
    except ValueError as error:
        return str(error)
    return ""


def native_plan(
    operation: str, geometry: Geometry, dtype: str, layout: str, bare: bool = False
) -> _NativePlan:
    """The plan of an operation under what is forced now.

    Raises:
        ValueError: the algorithm that is forced cannot serve the problem; the message says why.
    """
    forced = forcing.current()
    chosen = forced.isa or isas()[-1], forced.algorithm or ""
    return _made_plan(operation, geometry, dtype, layout, bare, *chosen)


@lru_cache(REMEMBERED)
def _made_plan(
    operation: str, geometry: Geometry, dtype: str, layout: str, bare: bool, isa: str, algorithm: str
) -> _NativePlan:
    """The module's plan. Its result has the shape that the caller sees: of bare arrays, the spatial sizes alone."""
    module, wide = loaded(), dtype == "float64"
    if isinstance(geometry, PoolGeometry):
        if algorithm == "winograd":
            raise ValueError("winograd computes convolutions alone; direct computes pools too")
        windows = geometry.windows
        shape = windows.shapes(layout)[2 if operation.endswith("forward") else 0]
        return cast(
            "_native.PoolPlan", module.PoolPlan(operation, _problem(windows, layout), wide, isa, shape)
        )
    if operation == "conv_grad_bias":
        positions = prod(geometry.output_size)
        outer, inner = (1, positions) if layout == "channels_first" else (positions, 1)
        sizes = geometry.batch * outer, geometry.out_channels, inner
        return cast("_native.BiasPlan", module.BiasPlan(*sizes, wide, () if bare else sizes[1:2]))
    shape = geometry.shapes(layout, bare)[OPERANDS[operation][1] or 0]
    problem = _problem(geometry, layout)
    return cast("_native.ConvPlan", module.ConvPlan(operation, problem, wide, isa, algorithm, shape))


@lru_cache(REMEMBERED)
def _problem(g: ConvGeometry, layout: str) -> _native.Problem:
    """The sizes of a plain convolution, as the module takes them."""
    spatial = axes(g)
    problem: _native.Problem = loaded().Problem(
        g.batch,
        g.in_channels,
        g.out_channels,
        g.groups,
        [axis.size for axis in spatial],
        [axis.outputs for axis in spatial],
        [axis.kernel for axis in spatial],
        [axis.stride for axis in spatial],
        [axis.dilation for axis in spatial],
        [axis.pad for axis in spatial],
        layout == "channels_last",
    )
    return problem


@lru_cache(REMEMBERED)
def _shown(operation: str, geometry: Geometry, dtype: str, layout: str, isa: str, algorithm: str) -> Plan:
    """The words and figures of a native plan."""
    how = _made_plan(operation, geometry, dtype, layout, False, isa, algorithm)
    time = {"estimated_microseconds_on_one_thread": round(how.seconds * 1e6, 1)}
    memory_bound = Plan("native", "direct", isa, "one pass over memory", Figures(**time))
    shown = replace(memory_bound, pieces=how.pieces, seconds=how.seconds, worth=WORTH)
    if isinstance(geometry, PoolGeometry) or operation == "conv_grad_bias":
        return shown
    conv = cast("_native.ConvPlan", how)
    figures = Figures(multiply_adds=count(geometry), **time)
    shown = replace(shown, algorithm=conv.algorithm, reason=conv.reason, figures=figures)
    return replace(shown, kernel=conv.kernel, tile=conv.tile)


def _function(operation: str) -> Callable[..., Any]:
    """An operation as a row of the engine's table."""

    def compute(geometry: Geometry, layout: str, *arrays: Any) -> Any:
        return prepare(operation, geometry, arrays[0].dtype.name, layout, False)(*arrays)

    return compute


ENGINE = Engine(
    name="native",
    functions={operation: _function(operation) for operation in OPERATIONS},
    plan=plan,
    refusal=refusal,
    algorithms=ALGORITHMS,
    isas=isas(),
    prepare=prepare,
)
