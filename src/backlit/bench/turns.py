"""Taking turns: several ways to compute one thing, timed in alternation so that all of them see the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import median

PAUSE = 0.02  # seconds before the other process's turn: OpenMP's idle threads spin for some 6 ms
ROUNDS = 7  # turns of each, at most
_LEAST = 3  # turns of each, however long one call takes
_HOPELESS = (
    1.3  # times its process's fastest: after two turns the slower one of two layouts is not timed any more
)
_TRIALS = 2
_OVERTIME = 3  # times as long as planned: no turn lasts longer, should calls turn out to be slower


@dataclass
class Contender:
    """One way to compute it.

    Args:
        side: the process it runs in, by name; those of one side stand next to one another.
        layout: the layout or memory format.
        one_call: -> (seconds of a call, calls that are timed together).
        samples: (calls, count, limit) -> so many times the seconds of a call, as `trial.samples`.
        taken: what has been measured.
    """

    side: str
    layout: str
    one_call: Callable[[], tuple[float, int]]
    samples: Callable[[int, int, float], list[float]]
    taken: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The median."""
        return median(self.taken)


def take_turns(
    contenders: Sequence[Contender], seconds: float, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Contender]:
    """Time all of them in rounds, and return the fastest of each side.

    Args:
        contenders: one or more of each side.
        seconds: how long to measure each of them, about, warming up not counted.
        sleep: how to wait.
    """
    sides = [(side, list(members)) for side, members in groupby(contenders, lambda c: c.side)]
    pace: dict[int, tuple[int, int]] = {}  # calls timed together, and how often in a turn
    rounds = _LEAST
    for _, members in sides:
        sleep(PAUSE)
        for contender in members:
            call, calls = contender.one_call()
            pace[id(contender)] = calls, max(1, int(seconds / ROUNDS / (call * calls)))
            rounds = max(rounds, min(ROUNDS, int(seconds / call)))
    for turn in range(rounds):
        for _, members in sides:
            if turn == _TRIALS:
                fastest = min(c.seconds for c in members)
                members[:] = [c for c in members if c.seconds <= _HOPELESS * fastest]
            sleep(PAUSE)
            for contender in members:
                contender.taken += contender.samples(*pace[id(contender)], _OVERTIME * seconds / ROUNDS)
    return {side: min(members, key=lambda c: c.seconds) for side, members in sides}
