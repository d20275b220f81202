"""The one source of random numbers: a generator for the whole process, and another for a thread that asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from backlit.sizes import integer, shown

__all__ = ["generator", "manual_seed", "using"]


class _Override(threading.local):
    """The generator that `using` has put in force on this thread, if any."""

    generator: np.random.Generator | None = None


_override = _Override()
_lock = threading.Lock()
_shared: np.random.Generator | None = None  # made on first use, from the system's entropy


def manual_seed(n: int) -> None:
    """Start the process's random numbers afresh from the seed `n`, for all threads.

    A generator that `using` has put in force on some thread stays in force there.

    Args:
        n: an integer of at least 0; the same seed gives the same numbers on every machine.

    Raises:
        TypeError: n is no integer (bool is none).
        ValueError: n is negative. OverflowError: it has more than 63 bits.

    Example:
        >>> manual_seed(0)
        >>> first = generator().random()
        >>> manual_seed(0)
        >>> generator().random() == first
        True
    """
    global _shared
    seeded = np.random.default_rng(integer("n", n, 0))
    with _lock:
        _shared = seeded


def generator() -> np.random.Generator:
    """The generator that random operations draw from on this thread when they are given none.

    NumPy's generators lock while they draw, so threads may share it; which thread draws which numbers is then
    a matter of timing, and `using` is the way to give each thread its own.

    Returns:
        The generator of the innermost `using` on this thread, else the one that all threads share.

    Example:
        >>> manual_seed(1)
        >>> generator() is generator()
        True
    """
    global _shared
    if _override.generator is not None:
        return _override.generator
    with _lock:
        if _shared is None:
            _shared = np.random.default_rng()
        return _shared


@contextmanager
def using(rng: np.random.Generator) -> Iterator[np.random.Generator]:
    """Let random operations of this thread draw from `rng` inside a with-block; other threads notice nothing.

    Args:
        rng: a NumPy Generator, such as np.random.default_rng(0).

    Raises:
        TypeError: rng is no np.random.Generator.

    Example:
        >>> mine = np.random.default_rng(0)
        >>> with using(mine):
        ...     generator() is mine
        True
    """
    checked = as_generator("rng", rng)
    before = _override.generator
    _override.generator = checked
    try:
        yield checked
    finally:
        _override.generator = before


def as_generator(name: str, value: object) -> np.random.Generator:
    """The argument `name` as a NumPy Generator.

    Raises:
        TypeError: it is none (the older np.random.RandomState and plain seeds are not).
    """
    if not isinstance(value, np.random.Generator):
        raise TypeError(
            f"{name} is {shown(value)}, and a NumPy Generator is needed: pass np.random.default_rng(0), say."
        )
    return value
