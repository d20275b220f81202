"""Pieces of work spread over threads: what the pieces are follows from the problem alone, never from the threads.

Each piece runs on one BLAS thread. Left alone, BLAS splits even products of some microseconds over all cores that it
sees, also where a container grants it fewer or others use them, and waits for the slowest thousands of times a second;
and its sums depend on how it splits. Here a result has the same bits for any number of threads.

A signal handler, a finaliser or a forked child may compute while a computation is going on: nothing here is held, or
half done, in a way that it would have to wait for.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import cache
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeVar
from weakref import ReferenceType, ref

import numpy as np

from backlit.engines.memory import Array
from backlit.engines.threads import get_num_threads

WORTH = 2e-3  # seconds of work for each thread: less does not pay for handing it over
MULTIPLICATIONS = 40e9  # a second, on one thread: the scale of an estimate, not a measurement
MOST = 8  # threads at a time, so that their scratch space stays small

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def threads_for(seconds: float, pieces: int, worth: float | None = None) -> int:
    """The number of threads that pay for so many seconds of work in so many pieces, of those there may be now.

    Args:
        seconds: of the work on one thread. pieces: of work.
        worth: seconds of work for which a thread pays; None for the threads of this module, of which there are few.
    """
    paying = min(pieces, MOST, int(seconds / WORTH)) if worth is None else min(pieces, int(seconds / worth))
    return 1 if paying <= 1 else min(paying, get_num_threads())  # asking takes longer than a small problem


def spread(function: Callable[[_Item], _Result], items: Sequence[_Item], threads: int) -> list[_Result]:
    """function(item) for every item, in order, on up to so many threads, the calling one among them.

    The caller takes items as the others do, so that work is done even where no other thread is free: nested calls and
    calls from many threads at once cannot wait for one another. The first error reaches the caller, after all items.
    """
    pending = deque(range(len(items)))
    done: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()

    def take() -> None:
        while pending:
            try:
                number = pending.popleft()  # one step for all threads
            except IndexError:
                return
            try:
                done.put((number, function(items[number]), None))
            except BaseException as error:
                done.put((number, None, error))

    results: list[Any] = [None] * len(items)
    with single_blas_thread():
        for _ in range(min(threads, len(items)) - 1):
            _pool.submit(copy_context().run, take)  # the context carries NumPy's errstate
        take()
        errors = []
        for _ in items:
            number, results[number], error = done.get()
            if error is not None:
                errors.append(error)
    if errors:
        raise errors[0]
    return results


def product(a: Array, b: Array, out: Array) -> None:
    """out = a @ b for matrices (m, k), (k, n), (m, n), in blocks of rows that keep a core busy for a millisecond."""
    work = a.shape[0] * a.shape[1] * b.shape[1]
    blocks = max(1, min(16, a.shape[0], work // 50_000_000))
    step = -(-a.shape[0] // blocks) or 1
    rows = [slice(first, first + step) for first in range(0, a.shape[0], step)]

    def multiply(part: slice) -> None:
        np.matmul(a[part], b, out=out[part])

    spread(multiply, rows, threads_for(work / MULTIPLICATIONS, len(rows)))


class single_blas_thread:  # noqa: N801  # a function to its callers: `with single_blas_thread():`
    """Let BLAS use one thread in the `with` block.

    BLAS has one number for the whole process: it is 1 while anyone is in such a block, and what it was before when the
    last has left. A block that an interrupt ended in the middle of leaving it counts as left from the next one on.
    """

    __slots__ = ("__weakref__",)

    def __enter__(self) -> None:
        try:
            _blas.enter(self)
        except BaseException:
            _blas.leave(self)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            _blas.leave(self)
        except BaseException:  # an interrupt in the middle of it
            _blas.leave(self)
            raise


class _Blas:
    """Who is in a block now, and what BLAS had before; right at every line, as an interrupt may come at any."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may enter while its thread does
        self._inside: list[ReferenceType[single_blas_thread]] = []
        self._before: list[tuple[Any, int]] = []

    def enter(self, user: single_blas_thread) -> None:
        with self._lock:
            self._inside.append(ref(user))
            if not self._before:
                numbers = [(library, library.get_num_threads()) for library in _libraries()]
                self._before = [(library, number) for library, number in numbers if number != 1]
            for library, _ in self._before:
                library.set_num_threads(1)

    def leave(self, user: single_blas_thread) -> None:
        with self._lock:
            self._inside = [other for other in self._inside if other() is not None and other() is not user]
            if not self._inside:
                self.give_back()

    def give_back(self) -> None:
        for library, number in self._before:
            library.set_num_threads(number)
        self._before = []


class _Pool:
    """Threads that wait for something to do; started when there is more to do than threads."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[Callable[[], Any]] = SimpleQueue()  # may be put to from a signal handler
        self._threads = 0

    def submit(self, function: Callable[..., Any], *arguments: Any) -> None:
        if self._threads < MOST - 1:
            try:
                threading.Thread(target=self._serve, name="backlit", daemon=True).start()
                self._threads += 1
            except (
                RuntimeError
            ):  # the system grants no more: those that there are will do, the caller at the least
                if not self._threads:
                    return
        self._tasks.put(lambda: function(*arguments))

    def _serve(self) -> None:
        while True:
            self._tasks.get()()


_blas = _Blas()
_pool = _Pool()


@cache
def _libraries() -> list[Any]:
    """The BLAS libraries of this process, found once; none where threadpoolctl knows of none."""
    from threadpoolctl import ThreadpoolController

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


def _after_fork() -> None:
    """Begin anew in a forked child, where the parent's other threads and their blocks do not exist."""
    global _blas, _pool
    _blas.give_back()
    _blas, _pool = _Blas(), _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
