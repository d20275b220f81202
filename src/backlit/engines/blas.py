"""How many threads NumPy's BLAS uses for one matrix product: as many as pay, and no more than the machine has free.

Left alone, BLAS splits products of some microseconds over all cores that it sees, also where a container grants it
fewer or others use them, and then waits for the slowest thread thousands of times a second.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from types import TracebackType
from typing import Any

from backlit.engines.threads import get_num_threads

NEVER_SPLIT = 200_000  # multiplications up to which BLAS itself stays on one thread
WORTH = 32_000_000  # multiplications for each thread: about half a millisecond, far more than it takes to wake one


def threads_for(multiplications: int) -> int:
    """The number of threads for a product of so many multiplications."""
    return max(1, min(get_num_threads(), multiplications // WORTH))


class blas_threads:  # noqa: N801  # a function to its callers: `with blas_threads(n):`
    """Let BLAS use the threads that pay for products of so many multiplications, in the `with` block.

    BLAS has one number for the whole process: of several Python threads in such blocks the first decides, and the last
    gives back what was set before. That can change speed, never what is computed.
    """

    __slots__ = ("_multiplications", "_setting")

    def __init__(self, multiplications: int) -> None:
        self._multiplications = multiplications
        self._setting: _Setting | None = None

    def __enter__(self) -> None:
        if self._multiplications > NEVER_SPLIT:
            self._setting = _setting
            self._setting.enter(threads_for(self._multiplications))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._setting is not None:
            self._setting.leave()


class _Setting:
    """The number of threads that is set for those who are in a block now, and what was set before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: list[tuple[Any, int]] = []

    def enter(self, wanted: int) -> None:
        with self._lock:
            if self._users == 0:
                self._before = [(library, library.get_num_threads()) for library in _libraries()]
                for library, number in self._before:
                    if number != wanted:
                        library.set_num_threads(wanted)
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


@cache
def _libraries() -> list[Any]:
    """The BLAS libraries of this process, found once; none where threadpoolctl knows of none."""
    from threadpoolctl import ThreadpoolController

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


def _after_fork() -> None:
    """Begin anew in a forked child, where the parent's other threads and their blocks do not exist."""
    global _setting
    _setting.give_back()
    _setting = _Setting()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
