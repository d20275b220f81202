"""What a caller forces: an engine, an algorithm, an instruction set, by `use` in one thread or by the environment."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Forced:
    """What has been asked for; None leaves a level open."""

    engine: str | None = None
    algorithm: str | None = None
    isa: str | None = None
    source: tuple[str, str, str] = ("engine", "algorithm", "isa")  # what to call them in a message


def current() -> Forced:
    """What holds in this thread now: the innermost `use` block, or else the environment."""
    stack: tuple[Forced, ...] = getattr(_thread, "stack", ())
    return stack[-1] if stack else _environment()


def push(forced: Forced) -> None:
    """Let `forced` hold in this thread until `pop`."""
    _thread.stack = (*getattr(_thread, "stack", ()), forced)


def pop() -> None:
    """Let hold again what held before the last `push`."""
    _thread.stack = _thread.stack[:-1]


_thread = threading.local()


@cache
def _environment() -> Forced:
    """What BACKLIT_ENGINE, BACKLIT_ALGORITHM and BACKLIT_ISA force, read once, at the first computation."""
    variables = ("BACKLIT_ENGINE", "BACKLIT_ALGORITHM", "BACKLIT_ISA")
    engine, algorithm, isa = (os.environ.get(name) or None for name in variables)
    return Forced(engine, algorithm, isa, variables)
