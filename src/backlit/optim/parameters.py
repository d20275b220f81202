"""What optimisers and clipping are given: an iterable of parameters, each there once, and their gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from backlit.graph import Tensor
from backlit.nn.module import Module, Parameter
from backlit.ops.arrays import Array
from backlit.sizes import shown


def parameter_list(parameters: Any) -> list[Parameter]:
    """The parameters as a list, once they are known to be parameters, each there once.

    Raises:
        TypeError: parameters is no iterable of parameters.
        ValueError: one is there twice.
    """
    if isinstance(parameters, (Tensor, Module)) or not isinstance(parameters, Iterable):
        raise TypeError(
            f"parameters is a {type(parameters).__name__}, and an iterable of parameters is needed: pass "
            f"{'[p]' if isinstance(parameters, Tensor) else 'model.parameters()'}."
        )
    result = list(parameters)
    seen: dict[int, int] = {}
    for index, parameter in enumerate(result):
        if isinstance(parameter, Mapping):
            raise TypeError(
                f"parameters holds a dict at position {index}, and parameter groups are not supported: pass "
                f"model.parameters(), and make one optimiser for each group that has settings of its own."
            )
        if not isinstance(parameter, Parameter):
            raise TypeError(
                f"parameters holds a {type(parameter).__name__} at position {index}, and nn.Parameter is needed: "
                f"pass model.parameters()."
            )
        if id(parameter) in seen:
            raise ValueError(
                f"parameters holds one parameter twice, at positions {seen[id(parameter)]} and {index}: "
                f"pass it once."
            )
        seen[id(parameter)] = index
    return result


def check_others(optimizer: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise unless the settings that PyTorch's optimiser has beside ours are at their defaults there.

    Args:
        optimizer: its name, for the message. given: the settings.
        known: each setting of PyTorch's with its default. Where that is None, False asks for the same.

    Raises:
        TypeError: a setting that PyTorch's optimiser does not have.
        ValueError: one with another value than its default.
    """
    for name, value in given.items():
        if name not in known:
            raise TypeError(f"{optimizer} has no argument {name!r}: leave it out, or look at its signature.")
        default = known[name]
        if value is not default and value is not False:
            raise ValueError(
                f"{name} is {shown(value)}, and {optimizer} has only {name}={default}, taken because PyTorch has it: "
                f"leave it out."
            )


def gradient_of(index: int, parameter: Parameter) -> Array | None:
    """The gradient of the parameter at this position, None or an array like it.

    Raises:
        TypeError: it is something else than an array.
        ValueError: it has another shape or dtype.
    """
    gradient: Any = parameter.grad
    if gradient is None:
        return None
    fix = "assign .grad an array like the parameter, or None"
    if isinstance(gradient, np.generic):  # what NumPy makes of arrays without axes
        gradient = np.asarray(gradient)
    if not isinstance(gradient, np.ndarray):
        raise TypeError(
            f"grad of parameter {index} is a {type(gradient).__name__}, and a NumPy array is needed: {fix}."
        )
    if gradient.shape != parameter.shape or gradient.dtype != parameter.dtype:
        raise ValueError(
            f"grad of parameter {index} is {gradient.dtype} of shape {gradient.shape}, and the parameter is "
            f"{parameter.dtype} of shape {parameter.shape}: {fix}."
        )
    return gradient
