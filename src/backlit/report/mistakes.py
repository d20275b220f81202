"""The section that shows which classes the model takes for which, and its most confident mistakes as images."""

from __future__ import annotations

import numpy as np

from backlit.html import escape
from backlit.report.pictures import data_address, photograph
from backlit.report.results import Results
from backlit.report.tables import table
from backlit.report.wording import percent, plural

__all__ = ["mistakes_section"]

MOST_CLASSES = 20  # with more, the table of all pairs gives way to a list of the worst
WORST_PAIRS = 20
WORST_IMAGES = 12
_THUMBNAIL = 96  # pixels


def mistakes_section(results: Results) -> str:
    """The section's HTML."""
    table = _matrix(results) if len(results.class_names) <= MOST_CLASSES else _pairs(results)
    return (
        '<section id="mistakes" aria-labelledby="mistakes-title"><h2 id="mistakes-title">What it confuses</h2>'
        f"{table}{_images(results)}</section>"
    )


def _matrix(results: Results) -> str:
    counts, names = results.confusion, results.class_names
    totals, answers = counts.sum(axis=1), counts.sum(axis=0)
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in names)
    upright = " upright" if max(map(len, names)) > 4 else ""
    rows = []
    for k, name in enumerate(names):
        cells = "".join(
            f'<td class="{_shade(counts[k, j], totals[k], right=j == k)}">{counts[k, j] or "·"}</td>'
            for j in range(len(names))
        )
        found = percent(counts[k, k] / totals[k]) if totals[k] else "–"
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}<td class="share">{found}</td></tr>')
    precision = "".join(
        f'<td class="share">{percent(counts[j, j] / answers[j], 0) if answers[j] else "–"}</td>'
        for j in range(len(names))
    )
    return (
        "<p>A row for each true class, a column for each answer: the diagonal is right, everything off it is a "
        "mistake. <span class=muted>At the end of a row, the share of that class that was found; at the foot of a "
        "column, the share of that answer that was right.</span></p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="confusion matrix">'
        f'<table class="confusion{upright}"><thead><tr><th scope="col"><span class="axis">true ↓ &nbsp;answer →'
        f'</span></th>{head}<th scope="col" class="share">found</th></tr></thead><tbody>{"".join(rows)}</tbody>'
        f'<tfoot><tr><th scope="row">right</th>{precision}<td></td></tr></tfoot></table></div>'
    )


def _shade(count: int, total: int, *, right: bool) -> str:
    """The class of a cell: green or red in steps of a tenth of the row, "empty" for none.

    Mistakes are what one looks for, and few: a single one is already seen, and half of a row is the full shade.
    """
    if not count:
        return "empty"
    share = float(count / total)
    return (
        f"right heat-{max(1, round(10 * share))}" if right else f"wrong heat-{min(10, 5 + round(10 * share))}"
    )


def _pairs(results: Results) -> str:
    counts = results.confusion.copy()
    totals = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    worst = np.argsort(-counts, axis=None, kind="stable")[:WORST_PAIRS]
    rows = ""
    for place in worst:
        true, said = divmod(int(place), len(counts))
        if counts[true, said]:
            rows += (
                f'<tr><th scope="row">{escape(results.class_names[true])}</th>'
                f"<td>{escape(results.class_names[said])}</td>"
                f'<td class="number">{counts[true, said]}</td>'
                f'<td class="number">{percent(counts[true, said] / totals[true])}</td></tr>'
            )
    if not rows:
        return ""
    pairs = table(
        "pairs most often confused", ("true class", "answer", ">times", ">of the class"), rows, kind=""
    )
    return (
        f"<p>With {len(counts)} classes the table of all pairs would be too large to read: these are the pairs most "
        f"often confused.</p>{pairs}"
    )


def _images(results: Results) -> str:
    wrong = results.mistakes
    if not len(wrong):
        return f"<p>Not one of the {plural(len(results.labels), 'test image')} is named wrongly.</p>"
    cards = ""
    for index in (int(i) for i in wrong[:WORST_IMAGES]):
        true, said = results.class_names[results.labels[index]], results.class_names[results.predicted[index]]
        pixels = photograph(results.x[index], *results.limits, longest=_THUMBNAIL)
        cards += (
            f'<li><img class="sample" src="{data_address(pixels)}" '
            f'alt="test image {index}"><p><b>{escape(true)}</b> taken for <b class="wrong-name">{escape(said)}</b><br>'
            f'<span class="small muted">{percent(results.confidence(index))} sure, image {index}</span></p></li>'
        )
    count = (
        f"The {WORST_IMAGES} of {len(wrong)} mistakes of which it was surest."
        if len(wrong) > WORST_IMAGES
        else f"All {len(wrong)} mistakes, the surest first."
        if len(wrong) > 2
        else ("The only mistake.", "Both mistakes, the surer first.")[len(wrong) - 1]
    )
    return f'<h3>Worst mistakes</h3><p>{count}</p><ul class="cards">{cards}</ul>'
