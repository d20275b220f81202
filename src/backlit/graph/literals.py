"""How what Python writes without NumPy, numbers, lists and sizes, becomes what a graph is made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backlit.ops.arrays import Array

PLAIN = (int, float, np.integer, np.floating, list, tuple)  # what takes the dtype of the tensors it meets
_LARGEST = float(np.finfo(np.float32).max)


def as_numbers(name: str, value: Any, dtype: np.dtype[Any]) -> Array:
    """A Python number as an array without axes, or a list of numbers as an array, of this dtype."""
    if isinstance(value, (list, tuple)):
        try:
            return np.asarray(value, dtype)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name} is a list that is no array of numbers: {error}") from None
    try:
        number = float(value)
    except OverflowError:
        number = math.inf  # an int beyond float64
    grew = math.isinf(number) and isinstance(value, int)
    if grew or (dtype == np.float32 and _LARGEST < abs(number) < math.inf):
        raise OverflowError(f"{name} is {number:g}, which is too large for {dtype}: scale the computation.")
    return np.array(number, dtype)


def from_python(data: Any) -> Any:
    """A list or number as an array, if it holds floats; anything else as it is."""
    if isinstance(data, (int, list, tuple)):
        try:
            array = np.asarray(data)
        except ValueError as error:
            raise ValueError(
                f"data is a list that is no array ({error}): make its rows equally long."
            ) from None
        if array.dtype.kind in "iu":
            raise TypeError(
                f"data holds integers, and gradients need floats: write {array.reshape(-1)[0]}.0 for "
                f"{array.reshape(-1)[0]}, or pass np.asarray(data, np.float32)."
            )
        return array
    return data


def as_sizes(numbers: tuple[Any, ...]) -> tuple[int, ...]:
    """(2, 3) from both (2, 3) and ((2, 3),)."""
    if len(numbers) == 1 and isinstance(numbers[0], (tuple, list)):
        return tuple(numbers[0])
    return numbers
