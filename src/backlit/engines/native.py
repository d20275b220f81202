"""The native engine: plans of the C++ module, made once for every problem, and the functions that run them.

The module is compiled for several instruction sets, and the widest that the processor has is used. Its algorithms:

    direct      sums of products in registers, for every configuration
    winograd    3x3 kernels of stride 1 in float32, with fewer multiplications and a little more rounding error
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from backlit.engines import forcing
from backlit.engines.engine import OPERANDS, PASSES, POOLS, Engine, Figures, Geometry, Plan
from backlit.engines.memory import Array
from backlit.engines.module import isas, loaded
from backlit.engines.threads import get_num_threads
from backlit.engines.workers import paying_threads
from backlit.geometry import ConvGeometry, PoolGeometry
from backlit.incidence import axes, count

if TYPE_CHECKING:
    from backlit import _native

WORTH = 10e-6  # seconds of work for each thread: less does not pay for waking it
ALGORITHMS = ("direct", "winograd")


def conv_forward(g: ConvGeometry, layout: str, x: Array, w: Array, b: Array | None) -> Array:
    """y, in one pass over x."""
    return _computed("conv_forward", g, layout, x, w, b)


def conv_grad_input(g: ConvGeometry, layout: str, w: Array, dy: Array) -> Array:
    """dx, in one pass over dy."""
    return _computed("conv_grad_input", g, layout, w, dy)


def conv_grad_weight(g: ConvGeometry, layout: str, x: Array, dy: Array) -> Array:
    """dw, in one pass over x and dy."""
    return _computed("conv_grad_weight", g, layout, x, dy)


def prepare(operation: str, geometry: Geometry, dtype: str, layout: str, bare: bool) -> Callable[..., Any]:
    """The function of the arrays that runs a plan: the plan's own where one thread is all that ever pays."""
    how = native_plan(operation, geometry, dtype, layout, bare)
    paying = paying_threads(how.seconds, how.pieces, WORTH)
    if paying == 1:
        return how.run

    def run(first: Array, second: Array, bias: Array | None = None) -> Array:
        return how.run(first, second, bias, min(paying, get_num_threads()))

    return run


def native_plan(
    operation: str, geometry: Geometry, dtype: str, layout: str, bare: bool = False
) -> _native.ConvPlan:
    """The plan of a pass, under what is forced now.

    Raises:
        ValueError: the algorithm that is forced cannot serve the problem; the message says why.
    """
    forced = forcing.current()
    return _conv_plan(
        operation, geometry, dtype, layout, bare, forced.isa or isas()[-1], forced.algorithm or ""
    )


def plan(operation: str, geometry: Geometry, dtype: str, layout: str) -> Plan:
    """How a pass is computed under what is forced now, for people to read."""
    assert isinstance(geometry, ConvGeometry)
    forced = forcing.current()
    return _shown(operation, geometry, dtype, layout, forced.isa or isas()[-1], forced.algorithm or "")


def refusal(operation: str, geometry: Geometry, dtype: str, layout: str) -> str:
    """Why what is forced cannot serve a problem; without force everything is served."""
    if isinstance(geometry, PoolGeometry):
        if forcing.current().algorithm == "winograd":
            return "its algorithm winograd computes convolutions alone, and direct computes pools too"
        return ""
    try:
        native_plan(operation, geometry, dtype, layout)
    except ValueError as error:
        return str(error)
    return ""


def _computed(operation: str, g: ConvGeometry, layout: str, first: Array, *others: Array | None) -> Array:
    """The result of a pass whose arrays have all axes."""
    result: Array = prepare(operation, g, first.dtype.name, layout, False)(first, *others)
    return result


@lru_cache(maxsize=4096)
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


@lru_cache(maxsize=4096)
def _conv_plan(
    operation: str, g: ConvGeometry, dtype: str, layout: str, bare: bool, isa: str, algorithm: str
) -> _native.ConvPlan:
    shape = g.shapes(layout, bare)[OPERANDS[operation][1]]
    wide = dtype == "float64"
    how: _native.ConvPlan = loaded().ConvPlan(operation, _problem(g, layout), wide, isa, algorithm, shape)
    return how


@lru_cache(maxsize=4096)
def _shown(operation: str, g: ConvGeometry, dtype: str, layout: str, isa: str, algorithm: str) -> Plan:
    """The words and figures of a native plan."""
    how = _conv_plan(operation, g, dtype, layout, False, isa, algorithm)
    return Plan(
        "native",
        how.algorithm,
        how.isa,
        how.reason,
        Figures(multiply_adds=count(g), microseconds_on_one_thread=round(how.seconds * 1e6, 1)),
        kernel=how.kernel,
        tile=how.tile,
        pieces=how.pieces,
        seconds=how.seconds,
        worth=WORTH,
    )


ENGINE = Engine(
    name="native",
    functions={name: globals()[name] for name in (*PASSES, *POOLS) if name in globals()},
    plan=plan,
    refusal=refusal,
    algorithms=ALGORITHMS,
    isas=isas(),
    prepare=prepare,
)
