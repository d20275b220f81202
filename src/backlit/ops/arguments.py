"""What every pair asks of its plain arguments: axes, numbers, flags, words and the names of gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from backlit.sizes import integer, shown

__all__ = ["as_axis", "as_choice", "as_flag", "as_needs", "as_number"]


def as_axis(name: str, value: Any, array_name: str, shape: tuple[int, ...]) -> int:
    """The axis `value` of an array of this shape, counted from the front.

    Raises:
        TypeError: it is no integer (bool is none).
        ValueError: the array has no such axis.

    Example:
        >>> as_axis("axis", -1, "x", (2, 3, 4))
        2
    """
    axis = integer(name, value, None)
    count = len(shape)
    if count == 0:
        raise ValueError(
            f"{array_name} has shape () and so no axis {axis}: give it one, {array_name}.reshape(1)."
        )
    if not -count <= axis < count:
        raise ValueError(
            f"{name} is {axis}, and {array_name} of shape {shape} has the axes {-count} to {count - 1}."
        )
    return axis % count


def as_number(name: str, value: Any, low: float, high: float, *, below: bool = False) -> float:
    """The number `value` from `low` to `high`, and below `high` where `below` is set.

    Raises:
        TypeError: it is no real number (bool and arrays are none).
        ValueError: it is NaN or lies outside.

    Example:
        >>> as_number("p", 1.5, 0, 1)
        Traceback (most recent call last):
        ValueError: p is 1.5, and a number from 0 to 1 is needed.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {shown(value)}, and a number {_interval(low, high, below)} is needed.")
    try:
        number = float(value)
    except OverflowError:  # an int beyond every float
        number = math.inf if value > 0 else -math.inf
    if not low <= number <= high or (below and number == high):
        raise ValueError(f"{name} is {number:g}, and a number {_interval(low, high, below)} is needed.")
    return number


def as_flag(name: str, value: Any) -> bool:
    """The truth value `value`, which has to be True or False and no mere stand-in.

    Raises:
        TypeError: it is neither.
    """
    if not isinstance(value, (bool, np.bool_)):
        fix = f": pass {name}={bool(value)}" if isinstance(value, (int, float)) else ""
        raise TypeError(f"{name} is {shown(value)}, and True or False is needed{fix}.")
    return bool(value)


def as_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """The word `value`, which has to be one of `choices`.

    Raises:
        TypeError: it is no string.
        ValueError: it is another word.
    """
    known = " or ".join(f'"{choice}"' for choice in choices)
    if not isinstance(value, str):
        raise TypeError(f"{name} is {shown(value)}, and {known} is needed.")
    if value not in choices:
        raise ValueError(f"{name} is {shown(value)}, and {known} is needed.")
    return value


def as_needs(value: Any, gradients: Sequence[str]) -> frozenset[str]:
    """Which of an operation's `gradients` the argument `needs` asks for.

    Raises:
        TypeError: it is no tuple, list or set of strings.
        ValueError: it names a gradient that the operation does not have.

    Example:
        >>> as_needs(("dx", "dy"), ("dx", "dw"))
        Traceback (most recent call last):
        ValueError: needs names "dy", and the gradients here are "dx", "dw".
    """
    if value is gradients:  # all of them, as by default
        return frozenset(value)
    if not isinstance(value, (tuple, list, set, frozenset)) or not all(
        isinstance(name, str) for name in value
    ):
        raise TypeError(
            f'needs is {shown(value)}, and a tuple of names is needed: pass needs=("{gradients[0]}",).'
        )
    for name in value:
        if name not in gradients:
            known = ", ".join(f'"{gradient}"' for gradient in gradients)
            raise ValueError(f'needs names "{name}", and the gradients here are {known}.')
    return frozenset(value)


def _interval(low: float, high: float, below: bool) -> str:
    if math.isinf(high):
        return f"of at least {low:g}" if not below else f"of at least {low:g} and finite"
    return f"from {low:g} up to, but not including, {high:g}" if below else f"from {low:g} to {high:g}"
