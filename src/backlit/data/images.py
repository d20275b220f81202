"""What the arrays of every file become: images (N, C, H, W) as floats, and labels (N,) as int64."""

from __future__ import annotations

from typing import Any

import numpy as np

from backlit.ops.arrays import Array


def check_images(name: str, array: Array, dtype: np.dtype[Any]) -> None:
    """Raise unless `as_images` can make images of an array.

    Args:
        name: what the array is and where it is from, for messages.
        array: (N, C, H, W), or (N, H, W) for one channel; uint8 from 0 to 255, or finite floats.
        dtype: float32 or float64, which has to hold the floats.

    Raises:
        ValueError: the array cannot be images.
    """
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise ValueError(
            f"{name} has shape {array.shape}, and images (N, C, H, W), or (N, H, W) for one channel, are "
            f"needed."
        )
    if array.ndim == 4 and array.shape[-1] in (1, 3, 4) and array.shape[1] > 4:  # colours come last
        raise ValueError(
            f"{name} has shape {array.shape}, which looks like (N, H, W, C), and images (N, C, H, W) are needed: "
            f"save x.transpose(0, 3, 1, 2)."
        )
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ValueError(
            f"{name} holds {array.dtype}, and images are uint8 from 0 to 255, or floats: save "
            f"x.astype(np.uint8)."
        )
    if array.dtype == np.uint8:
        return
    for first, image in enumerate(array):  # one by one, which takes no memory
        with np.errstate(over="ignore"):
            finite = np.isfinite(image.astype(dtype, copy=False)).all()
        if not finite:
            raise ValueError(
                f"{name} holds NaN, infinity or numbers beyond {dtype}, first in image {first}: clean the images."
            )


def as_images(array: Array, dtype: np.dtype[Any]) -> Array:
    """Images as floats (N, C, H, W), of what `check_images` has let through.

    Args:
        array: as above; it is the result itself where it is one already.
        dtype: as above.

    Returns:
        C-contiguous, of `dtype`; bytes 0 to 255 have become 0 to 1, floats are what they were.
    """
    images = np.asarray(array, dtype, order="C")
    if array.dtype == np.uint8:
        images /= 255
    return images if images.ndim == 4 else images[:, None]


def as_labels(name: str, array: Array, count: int) -> Array:
    """Labels as int64 (count,).

    Args:
        name: as above.
        array: (count,), integers of at least 0.
        count: how many images there are.

    Raises:
        ValueError: the array cannot be the labels of these images.
    """
    if array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} holds {array.dtype}, and labels are integers from 0 on: save y.astype(np.int64)."
        )
    if array.ndim != 1:
        fix = (
            "y.argmax(axis=1) turns one-hot rows into labels"
            if array.ndim == 2 and array.shape[1] > 1
            else "save y.ravel()"
        )
        raise ValueError(
            f"{name} has shape {array.shape}, and one label for each image, ({count},), is needed: {fix}."
        )
    if len(array) != count:
        raise ValueError(f"{name} has {len(array)} labels, and there are {count} images: each needs one.")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= 2**31:
        raise ValueError(f"{name} goes from {low} to {high}, and labels are class numbers from 0 on.")
    return array.astype(np.int64, copy=False)
