"""A module's state as a dictionary of arrays, and back into the module, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from backlit.ops.arrays import Array, as_array, as_integers
from backlit.sizes import shown

if TYPE_CHECKING:
    from backlit.nn.module import Module

_LISTED = 6  # names in one message; a model of another architecture differs in hundreds


def collect(module: Module) -> dict[str, Array]:
    """C-contiguous copies of all parameters and buffers of `module`, under every name they have."""
    return {name: np.array(array, order="C") for name, array in _entries(module)}


def restore(module: Module, state: Mapping[str, Any], *, strict: bool) -> tuple[list[str], list[str]]:
    """Copy `state` into `module`; `Module.load_state_dict` says what it takes, returns and raises."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state_dict is {shown(state)}, and a dict of name -> array is needed.")
    targets = dict(_entries(module))
    missing = [name for name in targets if name not in state]
    unexpected = [str(name) for name in state if name not in targets]
    problems = [f"missing {_names(missing)}"] if missing and strict else []
    problems += [f"unexpected {_names(unexpected)}"] if unexpected and strict else []
    values: dict[str, Array] = {}
    misfits: list[str] = []
    for name, target in targets.items():
        if name in state:
            value = (as_array if target.dtype.kind == "f" else as_integers)(name, state[name])
            if not target.flags.writeable:
                misfits.append(
                    f"{name!r} is read-only in the model (assign it an array of its own, .data = .data.copy())"
                )
            elif value.shape != target.shape:
                misfits.append(f"{name!r} has shape {value.shape} where the model has {target.shape}")
            elif value.dtype != target.dtype and target.dtype.kind == "f":
                misfits.append(
                    f"{name!r} is {value.dtype} where the model is {target.dtype} "
                    f"(convert the model first, model.astype(np.{value.dtype}))"
                )
            else:
                values[name] = value
    problems += misfits[:_LISTED] + [f"{len(misfits) - _LISTED} more that do not fit"] * (
        len(misfits) > _LISTED
    )
    if problems:
        raise ValueError(f"state_dict does not fit {type(module).__name__}: {'; '.join(problems)}.")
    for name, value in values.items():
        targets[name][...] = value
    return missing, unexpected


def _entries(module: Module) -> Iterator[tuple[str, Array]]:
    """(dotted name, array) of all parameters and buffers, shared ones under each name, in PyTorch's order."""
    pending: list[tuple[str, Module]] = [("", module)]
    while pending:
        prefix, part = pending.pop()
        for name, parameter in part._parameters.items():
            if parameter is not None:
                yield prefix + name, parameter.data
        for name, buffer in part._buffers.items():
            if buffer is not None:
                yield prefix + name, buffer
        pending += [(f"{prefix}{name}.", child) for name, child in reversed(list(part.named_children()))]


def _names(names: list[str]) -> str:
    """Names for a message: quoted, and cut where there are many."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(repr(name) for name in names[:_LISTED]) + more
