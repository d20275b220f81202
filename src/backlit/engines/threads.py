"""How many threads a computation may use: what the program said, else the environment, else the machine."""

from __future__ import annotations

import os
import time

from backlit.engines import module
from backlit.sizes import integer, shown

_chosen: int | None = None
_VARIABLES = ("BACKLIT_NUM_THREADS", "OMP_NUM_THREADS")
_ASK_AGAIN = (
    1.0  # seconds after which the system is asked again: the answer takes it longer than many a computation
)
_usable: tuple[float, int] = (-_ASK_AGAIN, 1)  # when the system was asked last, and its answer


def set_num_threads(count: int) -> None:
    """Let every later computation use at most `count` threads; results are the same bits for any number.

    Raises:
        TypeError, ValueError: count is no integer of at least 1.

    Example:
        >>> set_num_threads(get_num_threads())
    """
    global _chosen
    _chosen = integer("count", count, 1)


def get_num_threads() -> int:
    """The number of threads: `set_num_threads`, else BACKLIT_NUM_THREADS, else OMP_NUM_THREADS, else usable cores.

    Raises:
        ValueError: BACKLIT_NUM_THREADS is no integer of at least 1.
    """
    if _chosen is not None:
        return _chosen
    for name in _VARIABLES:
        text = os.environ.get(name, "").strip()
        if text.isdecimal() and len(text) < 19 and int(text) >= 1:
            return int(text)
        if text and name == "BACKLIT_NUM_THREADS":  # OMP_NUM_THREADS is not ours, and may hold a list
            raise ValueError(
                f"{name} is {shown(text)}, and an integer of at least 1 is needed: export {name}=4."
            )
    return _usable_now()


def _usable_now() -> int:
    """What the affinity mask and the container's quota allow, both of which may change while the process runs."""
    global _usable
    now = time.monotonic()
    if now - _usable[0] >= _ASK_AGAIN:
        _usable = (now, module.usable_threads())
    return _usable[1]
