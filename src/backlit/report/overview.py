"""The head of the report: what was trained on what, how well it went, and the learning curves."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping

import numpy as np

from backlit.html import escape
from backlit.nn import Module
from backlit.report.curves import Line, chart, key
from backlit.report.results import Results
from backlit.report.tables import table
from backlit.report.wording import duration, number, percent, plural, shape
from backlit.train import History

__all__ = ["curves_section", "header"]

_MOST_ROWS = 200  # of the table of epochs


def header(
    title: str, model: Module, history: History, results: Results, facts: Mapping[str, object], version: str
) -> str:
    """The page's header: the title, the test accuracy, and the facts.

    Args:
        title: the report's title.
        model, history, results: as measured.
        facts: what the caller knows; it comes first, and wins over what is found out here under the same name.
        version: backlit's version.
    """
    found: dict[str, object] = {
        "Model": type(model).__name__,
        "Parameters": f"{sum(parameter.size for parameter in model.parameters()):,}",
        "Epochs": _epochs(history),
        "Training time": _time(history),
        "Test data": f"{plural(len(results.x), 'input')} of shape {shape(results.x.shape[1:])}",
        "Classes": str(len(results.class_names)),
        "Versions": f"backlit {version}, NumPy {np.__version__}, Python {platform.python_version()}",
    }
    given = {_plain(name) for name in facts}
    rows = [*facts.items(), *((name, value) for name, value in found.items() if _plain(name) not in given)]
    listed = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows if str(value)
    )
    low, high = results.interval
    total = len(results.labels)
    broken = ""
    if not np.isfinite(results.probabilities).all():
        broken = (
            '<p class="broken">Some outputs of the model are infinite or no numbers, so its answers mean nothing. '
            "Training has diverged: a lower learning rate or <code>clip_norm</code> may keep it together.</p>"
        )
    return (
        f'<header><p class="eyebrow">backlit training report</p><h1>{escape(title)}</h1>'
        f'<div class="headline"><p class="score"><b>{percent(results.accuracy, 2)}</b>'
        f"<span>test accuracy</span></p>"
        f"<p>Of {plural(total, 'test input')} that it never trained on, the model names {results.right:,} rightly. "
        f'<span class="muted">On more data like these, expect between {percent(low)} and {percent(high)} '
        f"(95% interval).</span></p></div>{broken}"
        f'<dl class="facts">{listed}</dl></header>'
    )


def curves_section(history: History) -> str:
    """Loss and accuracy by epoch, as curves and as a table."""
    head = (
        '<section id="learning" aria-labelledby="learning-title"><h2 id="learning-title">How it learned</h2>'
    )
    if not len(history):
        return f"{head}<p>No epoch was completed.</p></section>"
    figures = ""
    lines: list[Line] = []
    for name, title, scale in (("loss", "Loss", "linear"), ("accuracy", "Accuracy", "share")):
        lines = [
            Line(label, history[column], colour, dash)
            for label, column, colour, dash in (("training", name, 1, 0), ("validation", f"val_{name}", 2, 1))
            if column in history.columns and any(v is not None for v in history[column])
        ]
        if lines:
            ends = ", ".join(f"{line.name} {number(line.values[-1])}" for line in lines)
            words = f"After {plural(len(history), 'epoch')}: {ends}."
            svg = chart(name, lines, title=f"{title} by epoch", description=words, scale=scale)
            figures += f"<figure><h3>{title}</h3>{key(lines)}{svg}</figure>"
    return f'{head}{_summary(history)}<div class="charts two">{figures}</div>{_table(history)}</section>'


def _summary(history: History) -> str:
    """A sentence on the best epoch, and one on how the run ended if it ended early."""
    words = ""
    values = [row.get("val_accuracy") for row in history.epochs]
    if known := [value for value in values if value is not None]:
        best = max(known)
        words = f"Validation accuracy first reached its best, {percent(best, 2)}, in epoch {values.index(best) + 1}. "
    if history.interrupted:
        words += "The run was interrupted before its last epoch."
    elif history.stopped_early:
        words += "The run was stopped early."
    return f"<p>{words.strip()}</p>" if words else ""


def _table(history: History) -> str:
    """The history's own columns as a table; of a long run evenly spread rows."""
    names = [
        n for n in history.columns if "/" not in n and any(row.get(n) is not None for row in history.epochs)
    ]
    every = -(-len(history) // _MOST_ROWS)
    rows = history.epochs[::every]
    if rows[-1] is not history.epochs[-1]:
        rows = [*rows, history.epochs[-1]]
    body = "".join(
        "<tr>" + "".join(f'<td class="number">{_cell(name, row.get(name))}</td>' for name in names) + "</tr>"
        for row in rows
    )
    which = "" if every == 1 else f"<p class='small muted'>One epoch in {every}, and the last.</p>"
    numbers = table("history by epoch", [">" + escape(name.replace("_", " ")) for name in names], body)
    return f"<details><summary>The numbers, epoch by epoch</summary>{which}{numbers}</details>"


def _cell(name: str, value: float | None) -> str:
    if name == "epoch":
        return str(value)
    if name.endswith("accuracy"):
        return percent(value, 2)
    return number(value)


def _epochs(history: History) -> str:
    ended = " (interrupted)" if history.interrupted else " (stopped early)" if history.stopped_early else ""
    return f"{len(history)}{ended}"


def _time(history: History) -> str:
    seconds = [row.get("seconds") for row in history.epochs]
    known = [s for s in seconds if s is not None]
    return duration(sum(known)) if known else ""


def _plain(name: object) -> str:
    """A fact's name without case and punctuation, so that "Training time" is "training_time"."""
    return re.sub(r"[\W_]+", "", str(name)).lower()
