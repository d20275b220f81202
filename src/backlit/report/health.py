"""The section on how the gradient flowed through the layers while the model trained."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from backlit.html import escape
from backlit.nn import Module
from backlit.report.curves import SERIES, Line, chart, key
from backlit.report.tables import table
from backlit.report.wording import number, percent
from backlit.train import History

__all__ = ["health_section", "reading_of_dead", "reading_of_ratio"]

HEALTHY = (1e-4, 1e-2)  # update / weight in one step
_GRADIENT, _RATIO, _DEAD = "grad_norm/", "update_ratio/", "dead/"

Values = Sequence[float | None]


def health_section(model: Module, history: History) -> str:
    """The section's HTML; a hint how to get one where the history lacks the measurements."""
    head = '<section id="flow" aria-labelledby="flow-title"><h2 id="flow-title">How the gradient flowed</h2>'
    columns = history.columns
    if not any(name.startswith((_GRADIENT, _RATIO, _DEAD)) for name in columns):
        return (
            f"{head}<p>Not measured in this run. Pass <code>callbacks=[backlit.inspect.GradientHealth(x, y)]</code> to "
            "<code>fit</code>, and it will be.</p></section>"
        )
    weights = [name for name, parameter in model.named_parameters() if parameter.ndim > 1]
    gradient = {name: history[_GRADIENT + name] for name in weights if _GRADIENT + name in columns}
    ratio = {name: history[_RATIO + name] for name in weights if _RATIO + name in columns}
    dead = {name.removeprefix(_DEAD): history[name] for name in columns if name.startswith(_DEAD)}
    layers = list(dict.fromkeys([*gradient, *ratio]))
    drawn = _spread(layers)
    body = "<p>Curves for each layer's weights, first to last."
    if len(drawn) < len(layers):
        body += f" <span class=muted>{len(drawn)} of {len(layers)} are drawn, evenly spread; the table has all.</span>"
    body += "</p>"
    body += key(_lines(drawn, gradient or ratio))
    figures = ""
    if gradient:
        figures += _figure(
            "Norm of the gradient",
            "If it shrinks by orders of magnitude from the last layer to the first, the first ones cannot learn.",
            chart("flow", _lines(drawn, gradient), title="Norm of the gradient by epoch", scale="log",
                  description=_last(gradient)),
        )  # fmt: skip
    if ratio:
        figures += _figure(
            "Update ÷ weight",
            "How far one step moves the weights, relative to their size. Shaded: what is considered healthy.",
            chart("ratio", _lines(drawn, ratio), title="Ratio of update to weight by epoch", scale="log",
                  description=_last(ratio), band=HEALTHY),
        )  # fmt: skip
    died = [name for name, values in dead.items() if any(values)]
    units = _spread(list(dead) if len(dead) <= SERIES else died)
    if died:
        figures += _figure(
            "Dead units",
            "The share of units that no probe image switches on: they pass no gradient.",
            chart("dead", _lines(units, dead), title="Share of dead units by epoch", scale="share",
                  description=_last({name: dead[name] for name in units})) + key(_lines(units, dead)),
        )  # fmt: skip
    tables = _weights_table(layers, gradient, ratio)
    if dead:
        tables += ("" if died else f"<p>{_none_died(dead)}</p>") + _dead_table(dead)
    return f'{head}{body}<div class="charts two">{figures}</div>{tables}</section>'


def reading_of_ratio(values: Values) -> tuple[str, str]:
    """What the median over the epochs of update / weight says: a tone ("good", "warn", "bad") and plain words.

    Example:
        >>> reading_of_ratio([2e-3, 1e-3, 1e-5])
        ('good', 'healthy: between 10⁻⁴ and 10⁻²')
    """
    known = [v for v in values if v is not None]
    if not known:
        return "", "not measured"
    if not all(map(math.isfinite, known)):
        return "bad", "broken: not a finite number"
    middle = statistics.median(known)
    if middle == 0:
        return "bad", "still: it never moved"
    if middle < HEALTHY[0]:
        return "warn", "slow: below 10⁻⁴"
    if middle <= HEALTHY[1]:
        return "good", "healthy: between 10⁻⁴ and 10⁻²"
    return ("warn", "fast: above 10⁻²") if middle <= 10 * HEALTHY[1] else ("bad", "too fast: above 10⁻¹")


def reading_of_dead(share: float | None) -> tuple[str, str]:
    """What a share of dead units says: a tone and plain words.

    Example:
        >>> reading_of_dead(0.0), reading_of_dead(0.75)
        (('good', 'all alive'), ('bad', 'most are dead: a lower learning rate may save them'))
    """
    if share is None or not math.isfinite(share):
        return "", "not measured"
    if share == 0:
        return "good", "all alive"
    if share <= 0.1:
        return "good", "nearly all alive"
    return (
        ("warn", "some are dead")
        if share <= 0.5
        else ("bad", "most are dead: a lower learning rate may save them")
    )


def _weights_table(layers: list[str], gradient: Mapping[str, Values], ratio: Mapping[str, Values]) -> str:
    rows = ""
    for name in layers:
        norms, ratios = _known(gradient.get(name, ())), _known(ratio.get(name, ()))
        tone, words = reading_of_ratio(ratio.get(name, ()))
        rows += (
            f'<tr><th scope="row"><code>{escape(name)}</code></th>'
            f'<td class="number">{number(norms[0] if norms else None)}</td>'
            f'<td class="number">{number(norms[-1] if norms else None)}</td>'
            f'<td class="number">{number(statistics.median(ratios) if ratios else None, 2)}</td>'
            f'<td class="number">{number(ratios[-1] if ratios else None, 2)}</td>'
            f'<td><span class="tone {tone}">{words}</span></td></tr>'
        )
    columns = (
        "weights",
        ">gradient, first",
        ">last epoch",
        ">update ÷ weight, median",
        ">last epoch",
        "reading",
    )
    caption = "Read by the median over the epochs: the last epoch's ratio also follows the learning rate."
    return table("gradient flow by layer", columns, rows, caption=caption)


def _dead_table(dead: Mapping[str, Values]) -> str:
    rows = ""
    for name, values in dead.items():
        known = _known(values)
        last = known[-1] if known else None
        tone, words = reading_of_dead(last)
        rows += (
            f'<tr><th scope="row"><code>{escape(name)}</code></th><td class="number">{percent(last)}</td>'
            f'<td class="number">{percent(max(known, default=None))}</td>'
            f'<td><span class="tone {tone}">{words}</span></td></tr>'
        )
    caption = "Dead: a unit that no probe image switches on, so that no gradient passes it."
    columns = ("activation", ">dead, last epoch", ">most, in any epoch", "reading")
    return table("dead units by layer", columns, rows, caption=caption)


def _none_died(dead: Mapping[str, Values]) -> str:
    """What takes the place of the chart, in which every curve would lie on the axis."""
    measured = max(len(_known(values)) for values in dead.values())
    if not measured:
        return "Dead units were not measured in any epoch."
    if measured == 1:
        return "No unit was dead in the one epoch that was measured."
    return f"No unit was dead in any of the {measured:,} epochs."


def _figure(title: str, words: str, svg: str) -> str:
    return f"<figure><h3>{title}</h3><p class='small muted'>{words}</p>{svg}</figure>"


def _lines(names: list[str], values: Mapping[str, Values]) -> list[Line]:
    return [Line(name, values[name], i % SERIES + 1, i % 2) for i, name in enumerate(names) if name in values]


def _spread(names: list[str]) -> list[str]:
    """At most as many names as there are colours: the first, the last, and others evenly between them."""
    if len(names) <= SERIES:
        return names
    return [names[round(i * (len(names) - 1) / (SERIES - 1))] for i in range(SERIES)]


def _last(values: Mapping[str, Values]) -> str:
    """A sentence with the last value of each curve, for who cannot see it."""
    ends = [f"{name} {number(known[-1])}" for name, v in values.items() if (known := _known(v))]
    return "In the last epoch: " + ", ".join(ends) + "."


def _known(values: Values) -> list[float]:
    return [v for v in values if v is not None]
