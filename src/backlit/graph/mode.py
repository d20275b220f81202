"""Whether operations are recorded: a switch of its own for every thread."""

from __future__ import annotations

import threading
from contextlib import ContextDecorator
from typing import Self


class _Mode(threading.local):
    """How many no_grad blocks the current thread is in."""

    depth = 0


_mode = _Mode()


class no_grad(ContextDecorator):  # noqa: N801  (a keyword in all but grammar, and PyTorch's name)
    """Compute without recording: results inside need no gradient, and hold neither graph nor cache.

    It binds the current thread only, nests, and works as a context manager and as a decorator.

    Example:
        >>> from backlit.graph import Tensor, no_grad
        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> with no_grad():
        ...     y = x * 3
        >>> y.requires_grad
        False
        >>> @no_grad()
        ... def triple(x):
        ...     return x * 3
        >>> triple(x).node is None
        True
    """

    def __enter__(self) -> Self:
        _mode.depth += 1
        return self

    def __exit__(self, *exception: object) -> None:
        _mode.depth -= 1


def is_grad_enabled() -> bool:
    """Whether operations of the current thread are recorded: True outside of every `no_grad`."""
    return not _mode.depth
