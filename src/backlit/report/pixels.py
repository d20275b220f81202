"""The last step of the way back: the gradient on the pixels, and a check that it is true."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from backlit.ops.arrays import Array
from backlit.report.pictures import data_address, dotted, legend, photograph, plane, signed
from backlit.report.trace import Trace
from backlit.report.wording import extent, largest, norm, number, shape

__all__ = ["pixels_panel"]

STEP = 1e-5  # how far a pixel is changed, of the range from black to white
FINER = 4  # how often that is divided by ten where the loss has a kink so close
SMOOTH = (
    0.01  # slopes on both sides that differ by more, relative to the steeper one, say that there is a kink
)


def pixels_panel(
    trace: Trace, limits: tuple[float, float], loss_of: Callable[[Array], float], number_of: int
) -> str:
    """The gradient of the pixels beside the image and on it, and what changing one pixel really does to the loss.

    Args:
        trace: the way back.
        limits: black and white of the image.
        loss_of: the loss for other pixels, in float64.
        number_of: the step's number, which is also how many there are.
    """
    gradient = trace.gradient
    shown = _strongest_channel(gradient[0])
    scale = largest(shown)
    image = photograph(trace.pixels[0], *limits)
    figures = (
        ("The image", f'<img class="large" src="{data_address(image)}" alt="the image">'),
        (
            "The gradient of each pixel",
            f'<img class="large" src="{data_address(signed(shown, scale))}" alt="the gradient of each pixel">',
        ),
        ("One on the other", dotted(image, shown, scale, label="the gradient as dots on the image")),
    )
    pictures = "".join(
        f"<figure>{picture}<figcaption>{caption}</figcaption></figure>" for caption, picture in figures
    )
    several = (
        " Of the channels, the strongest gradient at each pixel is shown." if len(gradient[0]) > 1 else ""
    )
    return (
        f'<article class="step" id="step-{number_of}" aria-labelledby="step-{number_of}-title">'
        f'<p class="eyebrow">Step {number_of} of {number_of}</p><h3 id="step-{number_of}-title">Pixels</h3>'
        "<p>The gradient has reached the image. <i class=pos>Orange</i>: making this pixel brighter raises the "
        "loss. <i class=neg>Blue</i>: making it brighter lowers the loss, so it makes the network surer of the "
        f"right answer.{several if gradient.ndim > 2 else ''}</p>"
        f'<div class="triple">{pictures}</div>{legend(scale)}'
        f"<p>dx has shape {shape(gradient.shape)}, values {extent(gradient)} and norm {number(norm(gradient))}.</p>"
        f"{_check(trace, limits, loss_of)}</article>"
    )


def _check(trace: Trace, limits: tuple[float, float], loss_of: Callable[[Array], float]) -> str:
    """Sentences that compare the gradient of the strongest pixel with what changing that pixel does."""
    at = np.unravel_index(int(np.argmax(np.abs(np.nan_to_num(trace.gradient)))), trace.gradient.shape)
    gradient = float(trace.gradient[at])
    pixels = trace.pixels.astype(np.float64)
    try:
        change = _measure(pixels, at, gradient, limits[1] - limits[0] or 1.0, loss_of)
    except (TypeError, ValueError):  # a constant of the model's own, in float32, refuses to be mixed
        return (
            "<p>The gradient is not checked here by changing a pixel: the network computes in "
            f"{trace.pixels.dtype} alone, whose rounding would blur a small change.</p>"
        )
    spread = abs(change.losses[1] - change.losses[0])
    decimals = 4 - math.floor(math.log10(spread)) if spread > 0 and math.isfinite(spread) else 6
    before, after = (
        f"{loss:.{min(16, max(0, decimals))}f}" if math.isfinite(loss) else number(loss)
        for loss in change.losses
    )
    digits = (
        4 if number(change.slope, 4) == number(gradient, 4) else 3
    )  # float32 has a doubt about the last one
    place = ", ".join(str(int(i)) for i in at)
    left, right = (number(side, digits) for side in change.sides)
    differ = abs(change.slope - gradient) > 5e-3 * abs(gradient)
    remark = (
        f" The pixel sits on a kink, where a ReLU or a maximum changes sides: the slope is {left} below it and "
        f"{right} above it, and the chain rule follows one choice."
        if change.bent
        else " They differ: so close to a kink, where a ReLU or a maximum changes sides, the network may take one "
        f"side in {trace.pixels.dtype} and the other in float64."
        if differ
        else ""
    )
    return (
        f"<p>Is it true? Change the strongest pixel, <code>x[{place}]</code>, by ±{number(change.step, 1)} and run "
        f"the network forwards again, in float64: the loss goes from {before} to {after}, a slope of "
        f"<b>{number(change.slope, digits)}</b>. The chain rule says <b>{number(gradient, digits)}</b>.{remark}</p>"
    )


class _Change(NamedTuple):
    """What changing one pixel does: by how much, the losses below and above, the slopes on both sides."""

    step: float
    losses: tuple[float, float]
    sides: tuple[float, float]

    @property
    def slope(self) -> float:
        """The central difference."""
        return (self.losses[1] - self.losses[0]) / (2 * self.step)

    @property
    def disagreement(self) -> float:
        """How far the slopes of the two sides are apart, relative to the steeper one."""
        low, high = self.sides
        return abs(high - low) / max(abs(low), abs(high), 1e-300)

    @property
    def bent(self) -> bool:
        """Whether the slopes of the two sides differ."""
        return self.disagreement > SMOOTH


def _measure(
    pixels: Array, at: tuple[np.intp, ...], gradient: float, span: float, loss_of: Callable[[Array], float]
) -> _Change:
    """Change the pixel by less and less, until no kink of the loss lies between, or the least of what was tried.

    The first step changes the loss by some 1e-10 at least, which is far above the rounding of float64.
    """
    first = span * max(STEP, min(1e-10 / max(span * abs(gradient), 1e-300), 1e-2))
    middle = loss_of(pixels)
    tried: list[_Change] = []
    for times in range(FINER + 1):
        step = float(f"{first / 10**times:.0e}")
        ends = []
        for sign in (-1, 1):
            changed = pixels.copy()
            changed[at] += sign * step
            ends.append(loss_of(changed))
        sides = ((middle - ends[0]) / step, (ends[1] - middle) / step)
        tried.append(_Change(step, (ends[0], ends[1]), sides))
        if not tried[-1].bent:
            return tried[-1]
    return min(tried, key=lambda change: change.disagreement)


def _strongest_channel(gradient: Array) -> Array:
    """(C, *spatial) as one plane (H, W): of the channels, the value of largest magnitude."""
    if gradient.ndim < 2:
        return plane(gradient)
    planes = np.stack([plane(channel) for channel in gradient])
    strongest = np.argmax(np.abs(planes), axis=0)[None]
    picked: Array = np.take_along_axis(planes, strongest, axis=0)[0]
    return picked
