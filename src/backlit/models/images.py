"""The settings that the networks share: how many classes, channels and pixels."""

from __future__ import annotations

from typing import Any

from backlit.sizes import integer, per_axis


def image_settings(
    model: str, classes: Any, in_channels: Any, image_size: Any, smallest: int
) -> tuple[int, int, tuple[int, int]]:
    """The three settings as integers, once they are known to make a network.

    Args:
        model: its name, for messages. classes: at least 2. in_channels: at least 1.
        image_size: one int for square images, or (height, width); both at least `smallest`.

    Returns:
        classes, in_channels, (height, width).

    Raises:
        TypeError, ValueError: a setting is no integer, or too small.
    """
    height, width = per_axis("image_size", image_size, 2, 1)
    if min(height, width) < smallest:
        raise ValueError(
            f"image_size is {height}x{width}, and {model} needs at least {smallest}x{smallest} pixels: "
            f"enlarge the images, or choose a network with fewer poolings."
        )
    return integer("classes", classes, 2), integer("in_channels", in_channels, 1), (height, width)
