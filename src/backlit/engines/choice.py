"""The choice among engines: the first in an ordered list that supports a problem runs it; every level can be forced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from backlit.engines import forcing, gemm, loops, module, native
from backlit.engines.engine import OPERANDS, PASSES, Engine, Geometry, Plan
from backlit.engines.forcing import Forced
from backlit.geometry import ConvGeometry, PoolGeometry
from backlit.sizes import check_layout, shown

_BUILT = (native.ENGINE,) if module.available() else ()
ENGINES: tuple[Engine, ...] = (
    *_BUILT,
    gemm.ENGINE,
    loops.ENGINE,
)  # fastest first; the last serves everything

_DTYPES = ("float32", "float64")
_ADJOINT = {
    "conv_forward": "conv_grad_input",
    "conv_grad_input": "conv_forward",
}  # what a transposed one computes


class use:  # noqa: N801  # a function to its callers: `with use("loops"):`
    """Force an engine, and inside it an algorithm and an instruction set, for the `with` block, in this Python thread.

    Args:
        engine: one of `names()`. algorithm, isa: of that engine; None leaves the choice to it.

    Raises:
        ValueError: a value that does not exist. Inside the block, a problem that the engine cannot serve is an error.

    Example:
        >>> with use("loops"):
        ...     print(explain_choice("conv1d:n1,c1-1,i5,k3")["conv_forward"].engine)
        loops
    """

    def __init__(self, engine: str, algorithm: str | None = None, isa: str | None = None) -> None:
        for name, value in (("engine", engine), ("algorithm", algorithm), ("isa", isa)):
            if not isinstance(value, str) and (value is not None or name == "engine"):
                raise TypeError(
                    f"{name} is {shown(value)}, and a name is needed: the engines are {_words(names())}."
                )
        _candidates(Forced(engine, algorithm, isa))
        self._forced = forcing.forced(engine, algorithm, isa)

    def __enter__(self) -> None:
        forcing.push(self._forced)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        forcing.pop()


@dataclass(frozen=True)
class Choice(Mapping[str, Plan]):
    """The plans of all three passes of a problem, by name; printing it tells what was chosen and why."""

    geometry: ConvGeometry
    dtype: str
    layout: str
    plans: tuple[tuple[str, Plan], ...]

    def __getitem__(self, name: str) -> Plan:
        return dict(self.plans)[name]

    def __iter__(self) -> Any:
        return iter(dict(self.plans))

    def __len__(self) -> int:
        return len(self.plans)

    def __str__(self) -> str:
        lines = [f"{self.geometry}  {self.dtype}, {self.layout}"]
        for name, plan in self.plans:
            how = [plan.engine, plan.kernel or plan.algorithm, plan.isa, plan.tile and f"tile {plan.tile}"]
            lines.append(f"  {name}: {', '.join(filter(None, how))}, threads {plan.threads}: {plan.reason}")
            lines += [f"    {figure}: {value:,}" for figure, value in plan.figures.items()]
        return "\n".join(lines)


def names() -> tuple[str, ...]:
    """The engines that are here, in the order in which they are tried.

    Example:
        >>> names()[-2:]  # the native engine comes first where it was built
        ('gemm', 'loops')
    """
    return tuple(engine.name for engine in ENGINES)


def offers() -> str:
    """The engines that are here with their algorithms and instruction sets, in words: all that can be forced.

    Example:
        >>> print(offers().splitlines()[-1])
        loops     definition
    """
    rows = [("engine", "algorithms", "ISAs")]
    rows += [(engine.name, _words(engine.algorithms), _words(engine.isas)) for engine in ENGINES]
    return "\n".join(f"{name:10}{algorithms:20}{isas}".rstrip() for name, algorithms, isas in rows)


def explain_choice(
    geometry: ConvGeometry | str, dtype: Any = "float32", layout: str = "channels_first"
) -> Choice:
    """Which engine and algorithm would compute each of the three passes of a convolution, and why.

    Args:
        geometry: a ConvGeometry or its descriptor.
        dtype: "float32" or "float64". layout: "channels_first" or "channels_last".

    Returns:
        The choice: choice[operation] is the plan of one of the three passes, and print(choice) says it in words.

    Raises:
        TypeError, ValueError: no such geometry, dtype or layout; or what is forced cannot serve it.

    Example:
        >>> with use("gemm"):
        ...     print(explain_choice("conv1d:n1,c1-1,i5,k3")["conv_forward"].algorithm)
        im2col
    """
    if not isinstance(geometry, ConvGeometry):
        geometry = ConvGeometry.parse(geometry)
    named = isinstance(dtype, (str, type, np.dtype))
    name = (getattr(dtype, "__name__", None) or str(dtype)) if named else ""
    if name not in _DTYPES:
        raise ValueError(f"dtype is {shown(dtype)}, and it has to be 'float32' or 'float64'.")
    check_layout(layout)
    plain, plans = geometry.convolution, []
    for asked in PASSES:
        operation = _ADJOINT.get(asked, asked) if geometry.transposed else asked
        engine = engine_for(operation, plain, name, layout)
        plans.append((asked, engine.plan(operation, plain, name, layout)))
    return Choice(geometry, name, layout, tuple(plans))


def engine_for(operation: str, geometry: Geometry, dtype: str, layout: str) -> Engine:
    """The first engine, of those not excluded by force, that has an operation and supports a problem."""
    refusals = []
    for engine in _candidates(forcing.current()):
        refusal = (
            engine.refusal(operation, geometry, dtype, layout)
            if operation in engine.functions
            else f"it has no {operation}"
        )
        if not refusal:
            return engine
        refusals.append(f"engine {engine.name}: {refusal}")
    raise ValueError(f"{operation} of {geometry} cannot be served as forced: {'; '.join(refusals)}.")


def computation(
    operation: str, geometry: Geometry, dtype: str, layout: str, bare: bool = False
) -> Callable[..., Any]:
    """The function of validated arrays that computes an operation, under what is forced now.

    Args:
        operation, geometry, dtype, layout: as `Engine` has them.
        bare: whether the arrays, and so the result, have no batch and channel axes.
    """
    engine = engine_for(operation, geometry, dtype, layout)
    if engine.prepare is not None:
        return engine.prepare(operation, geometry, dtype, layout, bare)

    def compute(*arrays: Any) -> Any:
        with np.errstate(all="ignore"):  # infinity and NaN are results
            return engine.functions[operation](geometry, layout, *arrays)

    if not bare or isinstance(geometry, PoolGeometry):
        return compute
    operands, result = OPERANDS[operation]
    whole = [geometry.shapes(layout)[operand] for operand in operands]
    shape = () if result is None else geometry.shapes(layout, bare=True)[result]

    def compute_bare(*arrays: Any) -> Any:
        grown = (array.reshape(full) for array, full in zip(arrays, whole, strict=False))
        return compute(*grown, *arrays[len(whole) :]).reshape(shape)

    return compute_bare


def _candidates(forced: Forced) -> tuple[Engine, ...]:
    """The engines that have all that is forced, or the error that tells what there is."""
    engines = [e for e in ENGINES if forced.engine in (None, e.name)]
    if not engines:
        raise ValueError(
            f"{forced.source[0]} is {shown(forced.engine)}, and the engines are {_words(names())}."
        )
    for level, wanted, offers in ((1, forced.algorithm, "algorithms"), (2, forced.isa, "isas")):
        if wanted is None:
            continue
        fitting = [e for e in engines if wanted in getattr(e, offers)]
        if not fitting:
            there = "; ".join(f"{e.name} has {_words(getattr(e, offers)) or 'none'}" for e in engines)
            raise ValueError(
                f"{forced.source[level]} is {shown(wanted)}, and of the {offers} of the engines {there}."
            )
        engines = fitting
    return tuple(engines)


def _words(values: tuple[str, ...]) -> str:
    return ", ".join(values)
