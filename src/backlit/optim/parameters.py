"""What optimisers and clipping are given: an iterable of parameters, each there once, and their gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from backlit.graph import Tensor
from backlit.nn.module import Module, Parameter
from backlit.ops.arrays import Array


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
        if not isinstance(parameter, Parameter):
            raise TypeError(
                f"parameters holds a {type(parameter).__name__} at position {index}, and nn.Parameter is needed: "
                f"pass model.parameters(), and make one optimiser for each group that has settings of its own."
            )
        if id(parameter) in seen:
            raise ValueError(
                f"parameters holds one parameter twice, at positions {seen[id(parameter)]} and {index}: "
                f"pass it once."
            )
        seen[id(parameter)] = index
    return result


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
