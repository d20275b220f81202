"""The native engine: plans of the C++ module, made once for every problem, and the functions that run them.

The module is compiled for several instruction sets, and the widest that the processor has is used. Its algorithms:

    direct      sums of products in registers, for every configuration
    winograd    3x3 kernels of stride 1 in float32, with fewer multiplications and a little more rounding error
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from backlit.engines import forcing
from backlit.engines.engine import PASSES, POOLS, Engine, Figures, Geometry, Plan
from backlit.engines.memory import Array
from backlit.engines.module import isas, loaded
from backlit.engines.workers import threads_for
from backlit.geometry import ConvGeometry, PoolGeometry
from backlit.incidence import axes, count

if TYPE_CHECKING:
    from backlit import _native

WORTH = 10e-6  # seconds of work for each thread: less does not pay for waking it
ALGORITHMS = ("direct", "winograd")

_RESULT = {"conv_forward": 2, "conv_grad_input": 0, "conv_grad_weight": 1}  # of geometry.shapes(layout)


def conv_forward(g: ConvGeometry, layout: str, x: Array, w: Array, b: Array | None) -> Array:
    """y, in one pass over x."""
    return _run(native_plan("conv_forward", g, x.dtype.name, layout), x, w, b)


def conv_grad_input(g: ConvGeometry, layout: str, w: Array, dy: Array) -> Array:
    """dx, in one pass over dy."""
    return _run(native_plan("conv_grad_input", g, dy.dtype.name, layout), w, dy)


def conv_grad_weight(g: ConvGeometry, layout: str, x: Array, dy: Array) -> Array:
    """dw, in one pass over x and dy."""
    return _run(native_plan("conv_grad_weight", g, x.dtype.name, layout), x, dy)


def native_plan(operation: str, g: ConvGeometry, dtype: str, layout: str) -> _native.ConvPlan:
    """The plan of a pass, under what is forced now.

    Raises:
        ValueError: the algorithm that is forced cannot serve the problem; the message says why.
    """
    forced = forcing.current()
    return _conv_plan(operation, g, dtype, layout, forced.isa or isas()[-1], forced.algorithm or "")


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


def _run(how: _native.ConvPlan, first: Array, second: Array, bias: Array | None = None) -> Array:
    return how.run(first, second, bias, threads_for(how.seconds, how.pieces, WORTH))


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
    operation: str, g: ConvGeometry, dtype: str, layout: str, isa: str, algorithm: str
) -> _native.ConvPlan:
    shape = g.shapes(layout)[_RESULT[operation]]
    wide = dtype == "float64"
    how: _native.ConvPlan = loaded().ConvPlan(operation, _problem(g, layout), wide, isa, algorithm, shape)
    return how


@lru_cache(maxsize=4096)
def _shown(operation: str, g: ConvGeometry, dtype: str, layout: str, isa: str, algorithm: str) -> Plan:
    """The words and figures of a native plan."""
    how = _conv_plan(operation, g, dtype, layout, isa, algorithm)
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
)
