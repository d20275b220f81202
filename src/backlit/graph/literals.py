"""How what Python writes without NumPy, numbers, lists and sizes, becomes what a graph is made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backlit.ops.arrays import Array, from_sequence

PLAIN = (int, float, np.integer, np.floating, list, tuple)  # what takes the dtype of the tensors it meets
_LARGEST = float(np.finfo(np.float32).max)


def as_numbers(name: str, value: Any, dtype: np.dtype[Any]) -> Array:
    """A Python number as an array without axes, or a list of numbers as an array, of this dtype."""
    if isinstance(value, (list, tuple)):
        array = from_sequence(name, value)
        if array.dtype.kind not in "biuf" and not _holds_large_integers(array):
            raise TypeError(
                f"{name} is a {type(value).__name__} that holds more than numbers: pass a list of numbers, or an "
                f"array of {dtype}."
            )
        if array.dtype.kind in "iuO" or array.dtype.itemsize > dtype.itemsize:
            for number in np.ravel(array)[_too_large(array, dtype)][:1].tolist():
                _check_range(f"{name} is a {type(value).__name__} with an element that", number, dtype)
        with np.errstate(all="ignore"):
            return array.astype(dtype)
    _check_range(name, value, dtype)
    return np.array(float(value), dtype)


def _check_range(what: str, value: Any, dtype: np.dtype[Any]) -> None:
    """Raise OverflowError where a finite number is infinite in this dtype."""
    try:
        number = float(value)
    except OverflowError:
        number = math.inf  # an int beyond float64
    grew = math.isinf(number) and isinstance(value, int)
    if grew or (dtype == np.float32 and _LARGEST < abs(number) < math.inf):
        raise OverflowError(f"{what} is {number:g}, which is too large for {dtype}: scale the computation.")


def _too_large(array: Array, dtype: np.dtype[Any]) -> Array:
    """Where numbers (any shape) are finite but beyond this dtype, as one axis."""
    limit = _LARGEST if dtype == np.float32 else float(np.finfo(np.float64).max)
    if array.dtype.kind == "O":
        return np.array([abs(number) > limit for number in array.flat], bool)
    size = np.abs(array.reshape(-1).astype(np.float64))
    return np.asarray((size > limit) & (size < math.inf))


def _holds_large_integers(array: Array) -> bool:
    """Whether this is what NumPy makes of integers beyond 64 bits: objects, all of them numbers."""
    return array.dtype.kind == "O" and all(isinstance(number, (int, float)) for number in array.flat)


def from_python(data: Any) -> Any:
    """A list or number as an array, if it holds floats; anything else as it is."""
    if isinstance(data, (int, list, tuple)) and not isinstance(data, bool):
        array = from_sequence("data", data)
        if array.size and (array.dtype.kind in "iu" or _holds_large_integers(array)):
            raise TypeError(
                f"data holds integers, and gradients need floats: write {array.reshape(-1)[0]}.0 for "
                f"{array.reshape(-1)[0]}, or pass np.asarray(data, np.float32)."
            )
        return array if array.dtype.kind == "f" else data
    return data


def as_sizes(numbers: tuple[Any, ...]) -> tuple[int, ...]:
    """(2, 3) from both (2, 3) and ((2, 3),)."""
    if len(numbers) == 1 and isinstance(numbers[0], (tuple, list)):
        return tuple(numbers[0])
    return numbers
