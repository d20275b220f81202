"""Fresh result arrays: C-contiguous and aligned to a cache line, so that other frameworks take them without a copy."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

ALIGNMENT = 64  # bytes: one cache line, and the widest vector register

Array = NDArray[Any]


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """A new C-contiguous array of undefined content whose first element lies at a multiple of 64 bytes.

    Args:
        shape: sizes of the axes.
        dtype: element type.

    Returns:
        The array. MemoryError, as from NumPy, when the system has not enough memory.

    Example:
        >>> empty((2, 3), "float32").ctypes.data % 64
        0
    """
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """A new C-contiguous array of zeros whose first element lies at a multiple of 64 bytes."""
    result = empty(shape, dtype)
    result.fill(0)
    return result
