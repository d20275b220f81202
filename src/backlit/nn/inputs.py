"""What modules ask of the inputs they are called with: the number of axes, and the right channels."""

from __future__ import annotations

from typing import Any

import numpy as np

_SPATIAL = {1: "L", 2: "H, W", 3: "D, H, W"}


def shape_of(x: Any) -> tuple[int, ...]:
    """The shape of a Tensor, an array or nested lists."""
    shape = getattr(x, "shape", None)
    return tuple(shape) if shape is not None else np.shape(x)


def check_images(
    module: Any, x: Any, axes: int, channels: int | None = None, setting: str = "in_channels"
) -> None:
    """Raise ValueError unless x is (N, C, *spatial) with `axes` spatial axes, and C is `channels`, if given.

    Args:
        module: the module that is called, for the message.
        x: its input. axes: 1, 2 or 3.
        channels: how many channels it was made for, as its argument `setting` says.
    """
    shape = shape_of(x)
    if len(shape) == axes + 2 and (channels is None or shape[1] == channels):
        return
    kind = type(module).__name__
    wanted = f"(N, {'C' if channels is None else channels}, {_SPATIAL[axes]})"
    if len(shape) != axes + 2:
        fix = " add the batch axis, x[None]" if len(shape) == axes + 1 else f" reshape it to {axes + 2} axes"
        raise ValueError(f"{kind} needs an input {wanted}, and x has shape {shape}:{fix}.")
    raise ValueError(
        f"{kind} was made with {setting}={channels}, and x of shape {shape} has {shape[1]} channels: pass an "
        f"input {wanted}, or make the module with {setting}={shape[1]}."
    )
