"""The last step of the way back: the gradient on the pixels, and a check that it is true."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from backlit.ops.arrays import Array
from backlit.report.pictures import data_address, dotted, legend, photograph, plane, signed
from backlit.report.trace import Trace
from backlit.report.wording import extent, largest, norm, number, shape

__all__ = ["pixels_panel"]


def pixels_panel(
    trace: Trace, limits: tuple[float, float], loss_of: Callable[[Array], float], number_of: int
) -> str:
    """The gradient of the pixels beside the image and on it, and what changing one pixel really does to the loss.

    Args:
        trace: the way back.
        limits: black and white of the image.
        loss_of: the loss for other pixels.
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
    """A sentence that compares the gradient of the strongest pixel with what changing that pixel does."""
    at = np.unravel_index(int(np.argmax(np.abs(np.nan_to_num(trace.gradient)))), trace.gradient.shape)
    gradient = float(trace.gradient[at])
    # The change of the loss that rounding cannot blur, by a step so small that the slope hardly changes on the way.
    change, digits = (1e-3, 6) if trace.gradient.dtype == np.float32 else (1e-6, 9)
    span = limits[1] - limits[0] or 1.0
    step = float(f"{min(change / max(abs(gradient), 1e-30), 2e-2 * span):.0e}")
    losses = []
    for sign in (-1, 1):
        pixels = trace.pixels.copy()
        pixels[at] += sign * step
        losses.append(loss_of(pixels))
    slope = (losses[1] - losses[0]) / (2 * step)
    place = ", ".join(str(int(i)) for i in at)
    return (
        f"<p>Is it true? Change the strongest pixel, <code>x[{place}]</code>, by ±{number(step, 1)} and run "
        f"the network forwards again: the loss goes from {number(losses[0], digits)} to {number(losses[1], digits)}, "
        f"a slope of <b>{number(slope, 4)}</b>. The chain rule says <b>{number(gradient, 4)}</b>.</p>"
    )


def _strongest_channel(gradient: Array) -> Array:
    """(C, *spatial) as one plane (H, W): of the channels, the value of largest magnitude."""
    if gradient.ndim < 2:
        return plane(gradient)
    planes = np.stack([plane(channel) for channel in gradient])
    strongest = np.argmax(np.abs(planes), axis=0)[None]
    picked: Array = np.take_along_axis(planes, strongest, axis=0)[0]
    return picked
