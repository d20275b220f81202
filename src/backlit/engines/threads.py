"""How many threads a computation may use: what the program said, else the environment, else the machine."""

from __future__ import annotations

import os
from operator import index
from typing import Any

from backlit.engines import native

_chosen: int | None = None
_VARIABLES = ("BACKLIT_NUM_THREADS", "OMP_NUM_THREADS")


def set_num_threads(count: int) -> None:
    """Let every later computation use at most `count` threads; results are the same bits for any number.

    Raises:
        TypeError, ValueError: count is no integer of at least 1.

    Example:
        >>> set_num_threads(get_num_threads())
    """
    global _chosen
    _chosen = _checked("count", count)


def get_num_threads() -> int:
    """The number of threads: `set_num_threads`, else BACKLIT_NUM_THREADS, else OMP_NUM_THREADS, else usable cores.

    Raises:
        ValueError: BACKLIT_NUM_THREADS is no integer of at least 1.
    """
    if _chosen is not None:
        return _chosen
    for name in _VARIABLES:
        text = os.environ.get(name, "").strip()
        if text.isdecimal() and int(text) >= 1:
            return int(text)
        if text and name == "BACKLIT_NUM_THREADS":  # OMP_NUM_THREADS is not ours, and may hold a list
            raise ValueError(f"{name} is {text!r}, and an integer of at least 1 is needed: export {name}=4.")
    return native.usable_threads()


def _checked(name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} is {value!r}, and an integer is needed.")
    if index(value) < 1:
        raise ValueError(f"{name} is {value}, and it has to be at least 1.")
    return index(value)
