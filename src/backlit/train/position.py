"""Where a run stands according to a checkpoint, checked piece by piece before anything takes it over."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from backlit.ops.arrays import Array
from backlit.sizes import shown
from backlit.train.history import COLUMNS

_PARTS = {"epochs", "step", "sums", "history", "random", "optimizer"}
_SUMS = {"images", "loss", "right", "seconds", "elapsed"}


def check_position(
    progress: Mapping[str, Any], order: Array, *, samples: int, batch_size: int, steps: int
) -> None:
    """Raise unless `progress` and `order` say where a run can stand that has these numbers.

    Args:
        progress, order: a checkpoint's.
        samples: how many the run trains on.
        batch_size: of its steps.
        steps: how many an epoch has.

    Raises:
        ValueError: they do not; the message says which part of them, and is no sentence yet.
    """
    if progress.keys() != _PARTS:
        raise ValueError(f"it tells {shown(sorted(progress))} of the run, and {sorted(_PARTS)} are needed")
    epochs, step = progress["epochs"], progress["step"]
    if not _is_count(epochs) or epochs < 1:
        raise ValueError(f"epochs is {shown(epochs)}")
    if not _is_count(step) or step >= steps:
        raise ValueError(f"step is {shown(step)}, and an epoch has {steps} steps")
    _check_order(order, samples if step else 0)
    _check_sums(progress["sums"], step * batch_size)
    _check_history(progress["history"])
    _check_random(progress["random"])
    if not isinstance(progress["optimizer"], dict):
        raise ValueError(f"the optimiser's state is {shown(progress['optimizer'])}")


def arrays_of(state: Mapping[str, Array]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> dtype and shape, which say whether one state can take the place of another."""
    return {name: (str(array.dtype), array.shape) for name, array in state.items()}


def _check_order(order: Array, samples: int) -> None:
    """An order names each sample once, and there is none between epochs."""
    if order.ndim != 1 or order.dtype != np.int64 or not np.array_equal(np.sort(order), np.arange(samples)):
        raise ValueError(f"its order of the samples does not name each of the {samples} once")


def _check_sums(sums: Any, images: int) -> None:
    """The sums of an epoch in which so many images have been seen."""
    if not isinstance(sums, dict) or sums.keys() != _SUMS:
        raise ValueError(f"the sums of the epoch are {shown(sums)}")
    if sums["images"] != images:
        raise ValueError(
            f"{shown(sums['images'])} images were seen in the epoch, and its steps have {images}"
        )
    for name, value in sums.items():
        if not _is_number(value) or not math.isfinite(value) or (name != "loss" and value < 0):
            raise ValueError(f"the sum {name!r} of the epoch is {shown(value)}")


def _check_history(history: Any) -> None:
    """A row for each epoch, with the columns of every run."""
    if not isinstance(history, list):
        raise ValueError(f"its history is {shown(history)}, and a list of rows is needed")
    for number, row in enumerate(history, start=1):
        if not isinstance(row, dict) or not set(COLUMNS) <= row.keys():
            raise ValueError(f"row {number} of its history is {shown(row)}")
        if row["epoch"] != number or row["loss"] is None:
            raise ValueError(f"row {number} of its history is that of epoch {shown(row['epoch'])}")
        for name, value in row.items():
            if value is not None and not _is_number(value):
                raise ValueError(f"row {number} of its history has {shown(value)} as {name!r}")


def _check_random(state: Any) -> None:
    """The state of a PCG64 generator."""
    generator = np.random.PCG64(0)
    try:
        generator.state = state
        taken = generator.state == state
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        taken = False
    if not taken:
        raise ValueError(f"the state of its random numbers is {shown(state)}")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
    """Whether it is what JSON has as a number, and float64 holds."""
    return type(value) is float or (type(value) is int and abs(value) < 2**63)
