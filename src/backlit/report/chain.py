"""The section that follows one input backwards, from the loss to the pixels, a step at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from backlit.html import escape
from backlit.ops.arrays import Array
from backlit.report import panels
from backlit.report.pictures import data_address, photograph
from backlit.report.pixels import pixels_panel
from backlit.report.results import Results
from backlit.report.trace import Step, Trace
from backlit.report.wording import number, percent, plural
from backlit.report.worked import conv_input, conv_weight, linear_input

__all__ = ["chain_section"]

_MOST_PICTURES = 256  # channels shown in all steps together
_KEY = "<kbd>←</kbd> <kbd>→</kbd>"

# rule -> its name on the page, and what happens to the gradient there, in plain words
_RULES = {
    "cross_entropy": (
        "Loss",
        "The loss is −ln p of the true class. Its gradient with respect to the logits is as simple as can be: the "
        "probabilities, less 1 at the true class. They add up to zero: what one class gains the others lose.",
    ),
    "linear": (
        "Linear layer",
        "Every input feeds every output. Backwards, an input collects the gradients of all outputs, each times the "
        "weight that joins the two; a weight gets its input times the gradient of its output.",
    ),
    "conv": (
        "Convolution",
        "One small kernel read the input at every position. Backwards, an input position collects the gradient of "
        "every output that read it, times the weight it was read with (dx). A weight was used at every position, so "
        "its gradient adds up input times gradient over all of them (dw).",
    ),
    "conv_transpose": (
        "Transposed convolution",
        "Forwards it spreads each input over a window of outputs, as the gradient of a convolution does. Backwards it "
        "is therefore a plain convolution.",
    ),
    "relu": ("ReLU", "The gradient passes where the input was positive, and stops where it was not."),
    "sigmoid": (
        "Sigmoid",
        "The gradient is damped by y (1 − y): by a quarter at best, to almost nothing at the ends.",
    ),
    "tanh": (
        "Tanh",
        "The gradient is damped by 1 − y²: not at all around zero, to almost nothing at the ends.",
    ),
    "max_pool": (
        "Max pooling",
        "Each window passed on its largest value alone. So that position gets the whole gradient, and the others, "
        "which had no part in the loss, get none.",
    ),
    "avg_pool": (
        "Average pooling",
        "Every position had an equal share in its window's mean, and gets an equal share.",
    ),
    "adaptive_avg_pool": (
        "Average pooling",
        "Every position had an equal share in its window's mean, and gets an equal share of the gradient.",
    ),
    "global_avg_pool": (
        "Global average",
        "Every position had an equal share in its channel's mean, and gets an equal share of the gradient.",
    ),
    "batch_norm": (
        "Batch norm",
        "Outside of training its statistics are fixed, so each channel's gradient is scaled by one number, "
        "gamma / sqrt(var + eps).",
    ),
    "dropout": ("Dropout", "Outside of training it does nothing, and the gradient passes unchanged."),
    "flatten": ("Flatten", "Only the shape changes. The same numbers pass back in the shape they had."),
    "reshape": ("Reshape", "Only the shape changes. The same numbers pass back in the shape they had."),
    "transpose": (
        "Transpose",
        "Only the order of the axes changes. The same numbers pass back in the old order.",
    ),
    "add": ("Addition", "A sum sends the same gradient on to each of its terms, unchanged."),
    "sub": (
        "Subtraction",
        "The gradient passes to the first term unchanged, and to the second with the sign turned.",
    ),
    "mul": ("Multiplication", "Each factor gets the gradient times the other factor."),
    "div": ("Division", "The numerator gets the gradient divided by the denominator."),
    "mean": (
        "Mean",
        "Every element had an equal share in the mean, and gets an equal share of the gradient.",
    ),
    "sum": ("Sum", "Every element counted once, and each gets the whole gradient of its sum."),
    "max": ("Maximum", "Only the largest element had a part in the result, and it gets the whole gradient."),
    "getitem": ("Indexing", "The elements that were picked get the gradient, the others none."),
    "softmax": (
        "Softmax",
        "Only differences between the gradients of the classes pass: the mean is taken out.",
    ),
    "log_softmax": ("Log-softmax", "What comes back is the gradient less the probabilities times its sum."),
}


def chain_section(trace: Trace, results: Results, index: int, loss_of: Callable[[Array], float]) -> str:
    """The section's HTML: an introduction, the rail of steps, and a panel for each.

    Args:
        trace: the way back.
        results: the test data, for names and the range of the pixels.
        index: which test input it is.
        loss_of: the loss for other pixels, by which the last panel checks the gradient.
    """
    names = results.class_names
    last = len(trace.steps) + 1
    rail = "".join(
        f'<li><a href="#step-{n}"><b>{escape(title)}</b>{f"<small>{escape(module)}</small>" if module else ""}</a></li>'
        for n, (title, module) in enumerate([*map(_title, trace.steps), ("Pixels", "")], 1)
    )
    most = max(4, min(16, _MOST_PICTURES // len(trace.steps)))
    articles = "".join(_panel(step, trace, names, most, last) for step in trace.steps)
    return (
        '<section id="backward" aria-labelledby="backward-title"><h2 id="backward-title">One input, followed backwards'
        f"</h2>{_introduction(trace, results, index)}"
        f'<div class="stepper" data-steps="{last}"><nav aria-label="steps from the loss to the pixels">'
        f'<ol class="rail">{rail}</ol></nav>'
        f'<div class="controls" hidden><button type="button" data-go="-1">← Previous</button>'
        f'<p class="where" aria-live="polite"></p><button type="button" data-go="1">Next →</button>'
        f'<p class="small muted hint">or {_KEY}</p></div>'
        f"{articles}{pixels_panel(trace, results.limits, loss_of, last)}</div></section>"
    )


def _introduction(trace: Trace, results: Results, index: int) -> str:
    names, p = results.class_names, results.probabilities[index]
    order = np.argsort(-p, kind="stable")
    truth, said = escape(names[trace.label]), escape(names[order[0]])
    second = (
        f", {escape(names[order[1]])} comes next with {percent(float(p[order[1]]))}" if len(order) > 1 else ""
    )
    right = order[0] == trace.label
    why = (
        "It was chosen because the network is right about it and still hesitates: where it is sure, hardly any "
        "gradient flows."
        if right and index == results.hesitant
        else "The network names it rightly."
        if right
        else "The network gets it wrong."
    )
    picture = data_address(photograph(trace.pixels[0], *results.limits))
    return (
        f'<div class="intro"><img class="sample" src="{picture}" alt="test image {index}, class {truth}">'
        f"<div><p>Test image {index} is of class <b>{truth}</b>. The network says {said} with probability "
        f"{percent(float(p[order[0]]))}{second}; its loss is −ln p(true) = <b>{number(trace.loss, 4)}</b>. {why}</p>"
        f"<p>Each step below is one operation that the network recorded. It takes the gradient <var>dy</var> that "
        f"comes back from the loss, multiplies it with its own local gradient, and hands the result on as the next "
        f"one's <var>dy</var>: that is the chain rule. <span class=muted>Gradients are of the loss of this one image, "
        f"in evaluation mode. In the pictures <i class=neg>blue</i> is below zero, <i class=pos>orange</i> above, "
        f"and zero is the colour of the page.</span></p></div></div>"
    )


def _panel(step: Step, trace: Trace, names: Sequence[str], most: int, last: int) -> str:
    title, module = _title(step)
    words = _RULES.get(step.rule, ("", ""))[1]
    body = panels.class_table(trace, names) if step.rule == "cross_entropy" else ""
    body = body or panels.maps(step, most, names)
    sums = []
    if step.rule in ("conv", "conv_transpose"):
        first = not any(s.rule in ("conv", "conv_transpose") for s in trace.steps[step.number :])
        weight = conv_weight(step)
        if weight:
            sums.append(
                panels.written_out(
                    weight,
                    step,
                    "The weight with the largest gradient: input times gradient, added up over every position at "
                    "which the kernel read with this weight.",
                )
            )
        across = conv_input(step) if first else None
        if across:
            what = "pixel" if step.number == len(trace.steps) else "input position"
            sums.append(
                panels.written_out(
                    across,
                    step,
                    f"The {what} with the largest gradient: weight times gradient, added up over every output that "
                    f"read it.",
                )
            )
    elif step.rule == "linear" and (dx := linear_input(step)):
        sums.append(
            panels.written_out(
                dx, step, "The input with the largest gradient: weight times gradient, over all outputs."
            )
        )
    onward = _onward(step, last)
    return (
        f'<article class="step" id="step-{step.number}" aria-labelledby="step-{step.number}-title">'
        f'<p class="eyebrow">Step {step.number} of {last}</p>'
        f'<h3 id="step-{step.number}-title">{escape(title)}{f" <code>{escape(module)}</code>" if module else ""}</h3>'
        f"<p>{words}</p>{panels.rules(step)}{body}{_tally(step)}{panels.numbers(step)}{''.join(sums)}"
        f"<details><summary>What the graph itself prints</summary>"
        f'<pre class="scroll" tabindex="0" role="region" aria-label="rule and shapes">'
        f"{escape(step.node.describe())}</pre></details>{onward}</article>"
    )


def _tally(step: Step) -> str:
    """For operations that choose, how much of the gradient they let through."""
    x = step.inputs[0]
    if step.rule not in ("relu", "max_pool") or x.gradient is None:
        return ""
    reached = int(np.count_nonzero(x.gradient))
    return (
        f"<p>Here {reached:,} of {plural(x.value.size, 'input')} receive a gradient; the rest get none.</p>"
    )


def _onward(step: Step, last: int) -> str:
    links = " and ".join(
        f'<a href="#step-{n}">{"the pixels" if n == last else f"step {n}"}</a>' for n in step.sources
    )
    return f'<p class="small muted">What it passes on goes to {links}.</p>'


def _title(step: Step) -> tuple[str, str]:
    """The operation's name on the page, and its module's, unless that says the same."""
    title = _RULES.get(step.rule, (step.rule.replace("_", " ").capitalize(), ""))[0]
    same = title.lower().replace(" ", "") == step.module.lower().replace("_", "")
    return title, "" if same else step.module
