"""Pieces of work spread over threads: what the pieces are follows from the problem alone, never from the threads.

Each piece runs on one BLAS thread. Left alone, BLAS splits even products of some microseconds over all cores that it
sees, also where a container grants it fewer or others use them, and waits for the slowest thousands of times a second;
and its sums depend on how it splits. Here a result has the same bits for any number of threads.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from backlit.engines.memory import Array
from backlit.engines.threads import get_num_threads

WORTH = 0.5e-3  # seconds of work for each thread: less does not pay for handing it over
MULTIPLICATIONS = 40e9  # a second, on one thread: the scale of an estimate, not a measurement
MOST = 8  # threads at a time, so that their scratch space stays small

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def threads_for(seconds: float) -> int:
    """The number of threads that pay for so many seconds of work."""
    return max(1, min(get_num_threads(), MOST, int(seconds / WORTH)))


def spread(function: Callable[[_Item], _Result], items: Sequence[_Item], threads: int) -> list[_Result]:
    """function(item) for every item, in order, on up to so many threads, the calling one among them.

    The caller takes items as the others do, so that work is done even where no other thread is free: nested calls and
    calls from many threads at once cannot wait for one another.
    """
    results: list[Any] = [None] * len(items)
    numbers = itertools.count()  # its next() is one step for all threads

    def take() -> None:
        while (number := next(numbers)) < len(items):
            results[number] = function(items[number])

    others = [
        _executor().submit(copy_context().run, take)  # the context carries NumPy's errstate
        for _ in range(min(threads, len(items)) - 1)
    ]
    try:
        with single_blas_thread():
            take()
            for other in others:
                if not other.cancel():
                    other.result()
    finally:
        for other in others:
            other.cancel()
    return results


def product(a: Array, b: Array, out: Array) -> None:
    """out = a @ b for matrices (m, k), (k, n), (m, n), in blocks of rows that keep a core busy for a millisecond."""
    work = a.shape[0] * a.shape[1] * b.shape[1]
    blocks = max(1, min(16, a.shape[0], work // 50_000_000))
    step = -(-a.shape[0] // blocks) or 1
    rows = [slice(first, first + step) for first in range(0, a.shape[0], step)]

    def multiply(part: slice) -> None:
        np.matmul(a[part], b, out=out[part])

    spread(multiply, rows, threads_for(work / MULTIPLICATIONS))


class single_blas_thread:  # noqa: N801  # a function to its callers: `with single_blas_thread():`
    """Let BLAS use one thread in the `with` block.

    BLAS has one number for the whole process: of several threads in such blocks the first sets it, and the last gives
    back what was set before.
    """

    __slots__ = ("_setting",)

    def __enter__(self) -> None:
        self._setting = _setting
        self._setting.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._setting.leave()


class _Setting:
    """Who is in a block now, and what BLAS had before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: list[tuple[Any, int]] = []

    def enter(self) -> None:
        with self._lock:
            if self._users == 0:
                numbers = ((library, library.get_num_threads()) for library in _libraries())
                self._before = [(library, number) for library, number in numbers if number != 1]
                for library, _ in self._before:
                    library.set_num_threads(1)
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self.give_back()

    def give_back(self) -> None:
        for library, number in self._before:
            library.set_num_threads(number)
        self._before = []


_setting = _Setting()
_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def _executor() -> ThreadPoolExecutor:
    """The threads of this process, started when they are first needed."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(MOST, thread_name_prefix="backlit")
        return _pool


@cache
def _libraries() -> list[Any]:
    """The BLAS libraries of this process, found once; none where threadpoolctl knows of none."""
    from threadpoolctl import ThreadpoolController

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


def _after_fork() -> None:
    """Begin anew in a forked child, where the parent's other threads and their blocks do not exist."""
    global _setting, _pool, _pool_lock
    _setting.give_back()
    _setting, _pool, _pool_lock = _Setting(), None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
