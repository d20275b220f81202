"""What a caller forces: an engine, an algorithm, an instruction set, by `use` in one thread or by the environment."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, eq=False)  # compared by identity: see `forced`
class Forced:
    """What has been asked for; None leaves a level open."""

    engine: str | None = None
    algorithm: str | None = None
    isa: str | None = None
    source: tuple[str, str, str] = ("engine", "algorithm", "isa")  # what to call them in a message


def current() -> Forced:
    """What holds in this thread now: the innermost `use` block, or else the environment."""
    stack = _thread.stack
    return stack[-1] if stack else _environment()


@cache
def forced(engine: str, algorithm: str | None, isa: str | None) -> Forced:
    """What `use` forces, once it is known to exist; the same object for the same names."""
    return Forced(engine, algorithm, isa)


def push(now: Forced) -> None:
    """Let `now` hold in this thread until `pop`."""
    _thread.stack = (*_thread.stack, now)


def pop() -> None:
    """Let hold again what held before the last `push`."""
    _thread.stack = _thread.stack[:-1]


class _Stack(threading.local):
    """What the open `use` blocks of a thread force, the innermost last."""

    stack: tuple[Forced, ...] = ()


_thread = _Stack()


@cache
def _environment() -> Forced:
    """What BACKLIT_ENGINE, BACKLIT_ALGORITHM and BACKLIT_ISA force, read once, at the first computation."""
    variables = ("BACKLIT_ENGINE", "BACKLIT_ALGORITHM", "BACKLIT_ISA")
    engine, algorithm, isa = (os.environ.get(name) or None for name in variables)
    return Forced(engine, algorithm, isa, variables)
