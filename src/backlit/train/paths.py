"""Paths as arguments give them, checked before the work whose result they are for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from backlit.sizes import shown


def as_path(name: str, value: Any) -> Path:
    """The argument `name` as a path.

    Raises:
        TypeError: it is none.
        ValueError: it holds a NUL character, which no name of a file can.
    """
    try:
        encoded = os.fsencode(value)
    except TypeError:
        raise TypeError(f"{name} is {shown(value)}, and a path is needed.") from None
    except UnicodeEncodeError:
        raise ValueError(f"{name} is {shown(value)}, which this system cannot name a file.") from None
    if b"\0" in encoded:
        raise ValueError(f"{name} is {shown(value)}, and a path holds no NUL character: leave it out.")
    return Path(os.fsdecode(encoded))
