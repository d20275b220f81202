"""Where arrays live: fresh aligned results, and scratch space that a thread uses again and again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from backlit.engines import module

# Memory that the native module keeps for the next array, aligned: fresh memory costs a page fault for every 4 KB.
_kept = module.loaded().memory if module.available() else None

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
    if _kept is not None:
        return np.ndarray(shape, dtype, _kept(size))
    raw = np.empty(size + ALIGNMENT, np.uint8)
    return np.ndarray(shape, dtype, raw, -raw.__array_interface__["data"][0] % ALIGNMENT)


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """A new C-contiguous array of zeros whose first element lies at a multiple of 64 bytes."""
    result = empty(shape, dtype)
    result.fill(0)
    return result


class Scratch:
    """Memory for the temporaries of one block of work, handed out front to back and used again for the next block.

    Fresh memory costs a page fault for every 4 KB; a thread's scratch pays them once. What does not fit is fresh.
    """

    def __init__(self, size: int) -> None:
        self._raw = empty((size,), np.uint8)
        self._used = 0

    def reset(self) -> None:
        """Take back all that was handed out; arrays handed out before are overwritten from now on."""
        self._used = 0

    def take(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """An array of undefined content, valid until `reset`."""
        dtype = np.dtype(dtype)
        start = self._used
        stop = start + prod(shape) * dtype.itemsize
        if stop > self._raw.size:
            return empty(shape, dtype)
        self._used = -(-stop // ALIGNMENT) * ALIGNMENT
        return np.ndarray(shape, dtype, self._raw, start)


@contextmanager
def scratch_space(size: int) -> Iterator[Scratch]:
    """Scratch space of `size` bytes for the `with` block: this thread's, or another where that is in use already."""
    free: list[Scratch] = _thread.__dict__.setdefault("free", [])
    scratch = free.pop() if free else Scratch(size)  # in use: a signal handler computes amid a computation
    scratch.reset()
    try:
        yield scratch
    finally:
        if not free:
            free.append(scratch)


_thread = threading.local()
