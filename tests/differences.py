"""Central finite differences: what a gradient has to be, computed from the forward pass alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def gradient_by_differences(f: Callable[[Any], Any], x: Any, upstream: Any, step: float = 1.0) -> Any:
    """The gradient of sum(f(x) * upstream) in every element of x.

    A step of 1 is exact for a function that is linear in x, and for one of second order.
    """
    gradient = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        sides = []
        for sign in (1, -1):
            moved = np.array(x)
            moved[index] += sign * step
            sides.append(np.sum(np.float64(f(moved)) * upstream))
        gradient[index] = (sides[0] - sides[1]) / (2 * step)
    return gradient
