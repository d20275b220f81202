"""The section that shows the kernels of the convolutions beside their gradients."""

from __future__ import annotations

import numpy as np

from backlit.graph import Tensor, apply, gradients
from backlit.html import escape
from backlit.nn import Module
from backlit.ops.arrays import Array
from backlit.report.pictures import legend, plane, tiles
from backlit.report.results import Results
from backlit.report.trace import Trace, recording
from backlit.report.wording import largest, norm, number, plural, shape

__all__ = ["filters_section"]

_MOST_FIRST = 32  # kernels of the first convolution
_MOST_LATER = 24  # and of each later one
_MOST_LAYERS = 8
_IMAGES = 256  # over which the gradient is averaged, fewer where they are large
_NUMBERS = 4_000_000  # elements of those images


def filters_section(model: Module, results: Results, trace: Trace) -> str:
    """The section's HTML; empty for a model without convolutions."""
    layers: dict[str, Array] = {}
    for step in reversed(trace.steps):  # in the order of the forward pass
        w = step.input("w") if step.rule in ("conv", "conv_transpose") else None
        if w is not None and w.parameter:
            layers.setdefault(w.parameter, w.value)
    if not layers:
        return ""
    count = int(max(1, min(_IMAGES, len(results.x), _NUMBERS // max(1, results.x[0].size))))
    received = _gradients(model, results.x[:count], results.labels[:count])
    shown = list(layers)[:_MOST_LAYERS]
    parts = "".join(
        _layer(name, layers[name], received.get(name), first=place == 0) for place, name in enumerate(shown)
    )
    rest = len(layers) - len(shown)
    more = f"<p>{plural(rest, 'later convolution')} left out.</p>" if rest else ""
    return (
        '<section id="filters" aria-labelledby="filters-title"><h2 id="filters-title">What it has learned to look for'
        "</h2><p>The kernels of the convolutions, each beside the gradient of the loss with respect to it: what the "
        "next step of gradient descent would subtract. <span class=muted>The gradient is that of the mean loss of "
        f"{plural(count, 'test image')}, in evaluation mode. <i class=neg>Blue</i> is below zero, "
        f"<i class=pos>orange</i> above.</span></p>{parts}{more}</section>"
    )


def _layer(name: str, w: Array, dw: Array | None, *, first: bool) -> str:
    filters, channels = w.shape[:2]
    kernels = [(k, c) for k in range(filters) for c in range(channels)]
    most = _MOST_FIRST if first else _MOST_LATER
    chosen, which = kernels, f"all {plural(len(kernels), 'kernel')}"
    if len(kernels) > most:
        measure = w if dw is None else dw
        strength = np.linalg.norm(measure.reshape(len(kernels), -1).astype(np.float64), axis=1)
        best = np.sort(np.argsort(-strength, kind="stable")[:most])
        chosen = [kernels[i] for i in best]
        which = f"{most} of {plural(len(kernels), 'kernel')}, those with the largest gradients"
    names = [str(k) if channels == 1 else f"{k}←{c}" for k, c in chosen]
    figures = ""
    for title, values in (("Weights", w), ("Gradients", dw)):
        if values is None:
            figures += f"<figure><figcaption>{title}</figcaption><p>Frozen: it has none.</p></figure>"
            continue
        planes = [plane(values[kernel]) for kernel in chosen]
        scale = largest(planes)
        figures += (
            f"<figure><figcaption>{title} <span class=muted>norm of all: {number(norm(values))}</span></figcaption>"
            f"{tiles(planes, scale, label=f'{title} of {name}: {which}', names=names, kind='kernels')}"
            f"{legend(scale)}</figure>"
        )
    arrow = "" if channels == 1 else " <span class=muted>7←2 is what filter 7 does with channel 2.</span>"
    return (
        f"<h3><code>{escape(name)}</code> <span class=muted>{shape(w.shape)}</span></h3>"
        f"<p>{which[0].upper()}{which[1:]}."
        f'{arrow}</p><div class="pair">{figures}</div>'
    )


def _gradients(model: Module, x: Array, labels: Array) -> dict[str, Array]:
    """The gradient of the mean loss with respect to every parameter, by name, in evaluation mode."""
    with recording(model):
        loss = apply("cross_entropy", model(Tensor(x)), labels=labels)
    received = gradients(loss)
    return {
        name: received[parameter] for name, parameter in model.named_parameters() if parameter in received
    }
