"""Arrays as pictures: PNG data addresses for images and for signed fields, and the figures that hold them."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from backlit.html import escape
from backlit.ops.arrays import Array

__all__ = ["data_address", "dotted", "legend", "marked", "photograph", "plane", "signed", "tiles"]

# One red, green, blue for each sign, strong on light and on dark paper; the magnitude is the opacity, so zero shows
# the page itself. report.css has the same two as gradients of the legend.
NEGATIVE, POSITIVE = (43, 116, 219), (226, 98, 20)
LARGEST = 32  # pixels: a field with a longer side is reduced
LONGEST = 512  # pixels, for a field of one row


def data_address(pixels: Array) -> str:
    """The PNG of an image as a `data:` address.

    Args:
        pixels: uint8 of shape (H, W) grey, (H, W, 3) red, green, blue, or (H, W, 4) with opacity.
    """
    colour_type = {1: 0, 3: 2, 4: 6}[pixels.shape[2] if pixels.ndim == 3 else 1]
    height, width = pixels.shape[:2]
    rows = np.zeros(
        (height, 1 + pixels[0].size), np.uint8
    )  # each row: filter type 0 ("none"), then its bytes
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return "data:image/png;base64," + base64.b64encode(png).decode()


def plane(field: Array) -> Array:
    """One channel's field (*spatial) as a plane (H, W): a line becomes one row, of a volume the middle slice stays."""
    while field.ndim > 2:
        field = field[field.shape[0] // 2]
    return field.reshape(1, -1) if field.ndim < 2 else field


def signed(field: Array, scale: float) -> Array:
    """A signed plane (H, W) as uint8 (H, W, 4): blue below zero, orange above, as opaque as |value| / scale.

    A side that is too long is reduced to blocks that show their largest magnitude, so that nothing small is lost.
    What is not finite is shown fully opaque.
    """
    field = _extremes(np.nan_to_num(field, nan=np.inf), LARGEST if len(field) > 1 else LONGEST)
    share = np.minimum(np.abs(field) / scale, 1.0) if scale > 0 else np.zeros(field.shape)
    pixels = np.empty((*field.shape, 4), np.uint8)
    pixels[..., :3] = np.where(field[..., None] < 0, np.array(NEGATIVE), np.array(POSITIVE))
    pixels[..., 3] = np.rint(share * 255)
    pixels[pixels[..., 3] == 0] = 0  # one kind of nothing: compresses well
    return pixels


def photograph(sample: Array, low: float, high: float, *, longest: int = 160) -> Array:
    """One sample of the data as uint8 (H, W) grey or (H, W, 3): `low` is black, `high` white.

    Args:
        sample: (C, *spatial) with three channels for red, green, blue; of any other number the mean is shown; or (F,).
        low, high: the range of the data.
        longest: pixels; an image with a longer side is reduced.
    """
    channels = [plane(channel) for channel in sample] if sample.ndim > 1 else [plane(sample)]
    image = np.stack(channels, axis=-1) if len(channels) == 3 else np.mean(channels, axis=0)[..., None]
    image = _means(image, longest)
    levels = np.clip((np.nan_to_num(image) - low) / ((high - low) or 1.0), 0.0, 1.0)
    pixels: Array = np.rint(levels * 255).astype(np.uint8)
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def dotted(pixels: Array, field: Array, scale: float, *, label: str) -> str:
    """A photograph under a dot for each value of a signed plane (H, W): its area is |value|, its colour the sign."""
    field = _extremes(np.nan_to_num(field), LARGEST)
    height, width = field.shape
    dots = ""
    for (row, column), value in np.ndenumerate(field):
        share = abs(float(value)) / scale if scale > 0 else 0.0
        if share > 0.01:
            colour = "negative" if value < 0 else "positive"
            radius = 0.46 * math.sqrt(share)
            dots += (
                f'<circle cx="{column + 0.5}" cy="{row + 0.5}" r="{radius:.3f}" fill="var(--dot-{colour})"/>'
            )
    return (
        f'<svg class="dotted large" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}" '
        f'stroke="#fff" stroke-width="0.03"><image href="{data_address(pixels)}" width="{width}" height="{height}" '
        f'preserveAspectRatio="none"/>{dots}</svg>'
    )


def tiles(
    fields: Iterable[Array], scale: float, *, label: str, names: Sequence[str] = (), kind: str = ""
) -> str:
    """Signed planes as a row of small pictures that wraps, one image to a screen reader.

    Args:
        fields: planes (H, W), one for each tile.
        scale: the magnitude that is shown fully opaque.
        label: says in words what the row shows.
        names: a short name for each tile, shown below it; none for no names.
        kind: a class; "row" keeps all tiles in one row.
    """
    planes = list(fields)
    cells = []
    for index, field in enumerate(planes):
        name = f"<small>{escape(names[index])}</small>" if names else ""
        cells.append(
            f'<span class="tile"><img src="{data_address(signed(field, scale))}" alt="">{name}</span>'
        )
    shape = " long" if planes and planes[0].shape[0] * 3 < planes[0].shape[1] else ""
    return f'<div class="tiles {kind}{shape}" role="img" aria-label="{escape(label)}">{"".join(cells)}</div>'


def marked(pixels: Array, shape: tuple[int, int], cells: Iterable[tuple[int, int]], *, label: str) -> str:
    """A picture with frames around some elements, as inline SVG; each frame carries its number for the script.

    Args:
        pixels: the picture, as `signed` or `photograph` gives it.
        shape: (H, W) of the field that it shows, which may be larger than the picture.
        cells: (row, column) of the elements to frame.
        label: says in words what is shown.
    """
    height, width = shape
    cells = list(cells)
    stroke = max(height, width) / 110
    wider = max(
        0.0, 0.035 * max(height, width) - 1
    )  # frames that one can see around the pixels of large fields
    frames = "".join(
        f'<rect class="mark" data-term="{index}" x="{c - wider / 2:.4g}" y="{r - wider / 2:.4g}" '
        f'width="{1 + wider:.4g}" height="{1 + wider:.4g}" fill="none" '
        f'stroke="var(--ink)" stroke-width="{stroke:.3g}"/>'
        for index, (r, c) in enumerate(cells)
    )
    return (
        f'<svg class="marked" viewBox="{-stroke:.3g} {-stroke:.3g} {width + 2 * stroke:.4g} '
        f'{height + 2 * stroke:.4g}" role="img" '
        f'aria-label="{escape(label)}"><rect x="0" y="0" width="{width}" height="{height}" fill="none" '
        f'stroke="var(--edge)" stroke-width="{stroke / 2:.3g}"/><image href="{data_address(pixels)}" x="0" y="0" '
        f'width="{width}" height="{height}" preserveAspectRatio="none"/>{frames}</svg>'
    )


def legend(scale: float, what: str = "") -> str:
    """The key to the signed colours: from -scale through zero to +scale."""
    lead = f"{escape(what)} " if what else ""
    return (
        f'<p class="legend small muted">{lead}<span>−{scale:.2g}</span> <i class="ramp" aria-hidden="true"></i> '
        f"<span>+{scale:.2g}</span></p>"
    )


def _extremes(field: Array, largest: int) -> Array:
    """The field with no side longer than `largest`: of each block the value of largest magnitude."""
    for axis in (0, 1):
        size = field.shape[axis]
        if size > largest:
            starts = np.arange(largest) * size // largest
            top = np.maximum.reduceat(field, starts, axis=axis)
            bottom = np.minimum.reduceat(field, starts, axis=axis)
            field = np.where(-bottom > top, bottom, top)
    return field


def _means(image: Array, largest: int) -> Array:
    """The image (H, W, C) with no side longer than `largest`: of each block the mean."""
    shrink = max(image.shape[:2]) / largest
    for axis in (0, 1):
        size = image.shape[axis]
        if shrink > 1 and (target := max(1, round(size / shrink))) < size:
            starts = np.arange(target) * size // target
            counts = np.diff(np.append(starts, size)).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
            image = np.add.reduceat(image, starts, axis=axis) / counts
    return image
