"""What all sides of a benchmark have in common: the arrays of a problem, and how a pass is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

PASSES = ("forward", "dx", "dw")


def operands(shapes: tuple[tuple[int, ...], ...]) -> tuple[NDArray[np.float32], ...]:
    """The float32 arrays x, w and dy of a problem: normal numbers, the same in every process.

    Args:
        shapes: of x, w and y for channels_first.

    Example:
        >>> [array.shape for array in operands(((1, 1, 3), (2, 1, 2), (1, 2, 2)))]
        [(1, 1, 3), (2, 1, 2), (1, 2, 2)]
    """
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(shape, np.float32) for shape in shapes)


def samples(run: Callable[[], Any], calls: int, count: int, limit: float) -> list[float]:
    """Seconds of one call of `run`, each the mean of `calls` calls in a row, `count` times or until the time is over.

    One series goes before that is not counted: it brings the arrays back into the caches, and wakes the threads.

    Args:
        limit: seconds after which no other series begins, but at least one is counted.
    """
    taken: list[float] = []
    end = time.perf_counter() + limit
    while len(taken) <= count and (len(taken) < 2 or time.perf_counter() < end):
        start = time.perf_counter()
        for _ in range(calls):
            run()
        taken.append((time.perf_counter() - start) / calls)
    return taken[1:]


def one_call(run: Callable[[], Any], shortest: float = 5e-4) -> tuple[float, int]:
    """About how many seconds a call takes once it is warm, and how many calls together last long enough to be timed.

    Args:
        shortest: seconds that calls timed together should last at least.
    """
    run()  # makes plans, compiles code, maps memory
    calls = 1
    while True:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        elapsed = time.perf_counter() - start
        if elapsed >= shortest:
            return elapsed / calls, max(1, round(calls * shortest / elapsed))
        calls *= 2
