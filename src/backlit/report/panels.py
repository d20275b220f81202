"""What one step of the way back shows: its maps and gradients as pictures, its numbers, its sums written out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backlit.html import escape
from backlit.ops.arrays import Array
from backlit.report.pictures import legend, marked, plane, signed, tiles
from backlit.report.tables import table
from backlit.report.trace import Step, Trace
from backlit.report.wording import aligned, extent, largest, norm, number, percent, plural, shape
from backlit.report.worked import Product, Worked

__all__ = ["class_table", "maps", "numbers", "rules", "written_out"]

MOST_PRODUCTS = 400  # of a sum in its unfolded list
MOST_CLASSES = 12  # rows of the table of classes, and named tiles of a vector


def rules(step: Step) -> str:
    """The operation's formula, its local gradients and the chain rule, as the graph's table has them."""
    rule = step.node.rule
    given = {i.name for i in step.inputs}
    rows = [("forward", rule.formula)]
    chosen = [index for index, name in enumerate(rule.inputs) if name in given]
    rows += [("local gradient", rule.partial[index]) for index in chosen]
    rows += [("chain rule", rule.local[index]) for index in chosen]
    groups: dict[str, list[str]] = {}
    for name, text in rows:
        groups.setdefault(name, []).append(f"<code>{escape(text)}</code>")
    items = "".join(
        f"<div><dt>{name}</dt><dd>{'<br>'.join(texts)}</dd></div>" for name, texts in groups.items()
    )
    return f'<dl class="rules">{items}</dl>'


def maps(step: Step, most: int, class_names: Sequence[str]) -> str:
    """The output beside its upstream gradient, of at most so many channels: those with the largest gradients."""
    if step.output.ndim < 2 or step.output.size == 1:
        return ""
    y, dy = step.output[0], step.upstream[0]
    if y.ndim == 1:
        return _vectors(y, dy, class_names if step.rule != "flatten" and len(y) == len(class_names) else ())
    strength = np.linalg.norm(dy.reshape(len(dy), -1).astype(np.float64), axis=1)
    chosen = np.sort(np.argsort(-strength, kind="stable")[:most])
    few = f"{len(chosen)} of {len(y)} channels: those with the largest gradients."
    return _side_by_side(
        ([plane(y[c]) for c in chosen], largest(y[chosen])),
        ([plane(dy[c]) for c in chosen], largest(dy[chosen])),
        [str(c) for c in chosen],
        few if len(y) > most else f"All {plural(len(y), 'channel')}." if len(y) > 1 else "",
    )


def numbers(step: Step) -> str:
    """The shapes, ranges and norms of everything that takes part."""
    rows: list[tuple[str, str, Array, Array | None]] = [("y", "output", step.output, step.upstream)]
    rows += [
        (i.name, i.parameter or ("input" if i.flows else "constant"), i.value, i.gradient)
        for i in step.inputs
    ]
    body = "".join(
        f'<tr><th scope="row"><var>{escape(name)}</var> <span class="muted">{escape(what)}</span></th>'
        f'<td>{shape(value.shape)}</td><td class="number">{extent(value)}</td>'
        f'<td class="number">{"not asked for" if gradient is None else extent(gradient)}</td>'
        f'<td class="number">{"–" if gradient is None else number(norm(gradient))}</td></tr>'
        for name, what, value, gradient in rows
    )
    columns = ("array", "shape", ">values", ">gradient", ">norm of gradient")
    return table("shapes and numbers of this step", columns, body)


def class_table(trace: Trace, class_names: Sequence[str]) -> str:
    """Logit, probability and gradient of each class, of many classes those with the largest gradients."""
    z = trace.logits.astype(np.float64)
    p = np.exp(z - z.max())
    p /= p.sum()
    dz = p - (np.arange(len(p)) == trace.label)
    chosen = np.sort(np.argsort(-np.abs(dz), kind="stable")[:MOST_CLASSES])
    top = largest(dz)
    rows = "".join(
        f'<tr{" class=truth" if k == trace.label else ""}><th scope="row">{escape(class_names[k])}'
        f"{' <span class=muted>(true)</span>' if k == trace.label else ''}</th>"
        f'<td class="number">{logit}</td><td class="number">{percent(float(p[k]))}</td>'
        f'<td class="number">{gradient}</td><td>{_bar(float(dz[k]), top)}</td></tr>'
        for k, logit, gradient in zip(
            chosen,
            aligned([float(v) for v in z[chosen]], 3),
            aligned([float(v) for v in dz[chosen]], 4),
            strict=True,
        )
    )
    columns = (
        "class",
        ">logit z",
        ">probability p",
        ">dz = p − [true]",
        '<span class="hidden-text">bar of dz</span>',
    )
    few = (
        f"The {len(chosen)} of {len(p)} classes with the largest gradients." if len(p) > MOST_CLASSES else ""
    )
    return table("logits, probabilities and gradients by class", columns, rows, caption=few)


def written_out(worked: Worked, step: Step, meaning: str) -> str:
    """A worked sum as a table that adds up, beside the arrays it reads with the elements framed."""
    element = f"{worked.name}[{_index(worked.at)}]"
    values = [*(product.value for product in worked.shown), worked.rest, worked.total]
    *texts, rest, total = aligned(values)
    rows = "".join(
        _row(place, product, text)
        for place, (product, text) in enumerate(zip(worked.shown, texts, strict=True))
    )
    if worked.others:
        rows += (
            f'<tr><th scope="row" colspan="2">{plural(worked.others, "further product")}</th>'
            f'<td class="number" data-rest="{worked.rest!r}">{rest}</td></tr>'
        )
    zeros = f" {plural(worked.zeros, 'product')} with a zero left out." if worked.zeros else ""
    agrees = abs(worked.total - worked.gradient) <= 1e-4 * max(abs(worked.gradient), largest(_values(worked)))
    verdict = "the same number" if agrees else "which is not what the sum gives"
    if not np.isfinite(worked.gradient):
        verdict = "for some factor is infinite or no number"
    foot = (
        f'<tr data-element="{element}"><th scope="row" colspan="2">sum = {element}</th>'
        f'<td class="number" data-gradient="{worked.gradient!r}">{total}</td></tr>'
    )
    columns = ("product", ">in numbers", ">value")
    adding = table(f"{element} written out", columns, rows, foot=foot, kind="small worked")
    pictures = _sources(worked, step) if worked.name == "dw" else ""
    return (
        f'<section class="sum"><h4><code>{element}</code> written out</h4>'
        f"<p>{meaning}{zeros} The backward pass says <b>{aligned([worked.gradient])[0]}</b>, {verdict}.</p>"
        f'<div class="sum-body">{adding}{pictures}</div>{_all_products(worked, element)}</section>'
    )


def _all_products(worked: Worked, element: str) -> str:
    """A list to unfold of every product, the largest first, where the table above has only some."""
    if not worked.others:
        return ""
    listed, count = worked.products[:MOST_PRODUCTS], len(worked.products)
    rows = "".join(
        _row(None, product, text)
        for product, text in zip(listed, aligned([product.value for product in listed]), strict=True)
    )
    title = (
        f"all {count} products"
        if len(listed) == count
        else f"the {len(listed)} largest of {count:,} products"
    )
    listing = table(f"{title} of {element}", ("product", ">in numbers", ">value"), rows, kind="small worked")
    return f"<details><summary>{title}</summary>{listing}</details>"


def _row(place: int | None, product: Product, value: str) -> str:
    """A row of a sum; one with a place lights up with its two factors in the pictures."""
    values = f"{product.left_value!r} {product.right_value!r}"
    left, right = _index(product.left_at), _index(product.right_at)
    term = "" if place is None else f' data-term="{place}"'
    return (
        f'<tr{term} data-values="{values}"><th scope="row">'
        f"<code>{product.left}[{left}]</code> <code>· {product.right}[{right}]</code></th>"
        f'<td class="number">{number(product.left_value, 4)} · {_signed(product.right_value)}</td>'
        f'<td class="number">{value}</td></tr>'
    )


def _sources(worked: Worked, step: Step) -> str:
    """The channel of x and the channel of dy that a weight's gradient is made of, with the terms framed."""
    if not worked.shown or step.output.ndim != 4:
        return ""
    figures = []
    x = step.input("x")
    assert x is not None  # the sum was made from it
    for name, field, index in (("x", x.value, 0), ("dy", step.upstream, 1)):
        cells = [(product.left_at, product.right_at)[index] for product in worked.shown]
        channel = field[cells[0][0], cells[0][1]]
        what = f"{name}[{cells[0][0]}, {cells[0][1]}]"
        picture = marked(
            signed(channel, largest(channel)),
            (channel.shape[0], channel.shape[1]),
            [(cell[2], cell[3]) for cell in cells],
            label=f"{what} with the elements of the sum framed",
        )
        figures.append(f"<figure>{picture}<figcaption><code>{what}</code></figcaption></figure>")
    return f'<div class="sources">{"".join(figures)}</div>'


def _vectors(y: Array, dy: Array, names: Sequence[str]) -> str:
    """Vectors: named cells where there is one for each class and few, else strips."""
    named = bool(names) and len(names) <= MOST_CLASSES
    planes = [[plane(v[i : i + 1]) for i in range(len(v))] if named else [plane(v)] for v in (y, dy)]
    return _side_by_side(
        (planes[0], largest(y)),
        (planes[1], largest(dy)),
        list(names) if named else [],
        "",
        kind="row" if named else "",
    )


def _side_by_side(
    forward: tuple[list[Array], float],
    backward: tuple[list[Array], float],
    names: Sequence[str],
    note: str,
    kind: str = "",
) -> str:
    """The pictures of y and of dy, each with its own scale; the note stands below both."""
    figures = "".join(
        f"<figure><figcaption><var>{name}</var>, {text}</figcaption>"
        f"{tiles(planes, scale, label=f'{name}, {text}. {note}', names=names, kind=kind)}{legend(scale)}</figure>"
        for name, text, (planes, scale) in (
            ("y", "what it computed", forward),
            ("dy", "what comes back from the loss", backward),
        )
    )
    below = f'<p class="small muted">{note}</p>' if note else ""
    return f'<div class="pair">{figures}</div>{below}'


def _bar(value: float, top: float) -> str:
    """A bar from the middle to the left below zero, to the right above."""
    length = 50 * abs(value) / top if top else 0
    start, colour = (50 - length, "negative") if value < 0 else (50, "positive")
    return (
        f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect x="{start:.1f}" '
        f'y="1" width="{length:.1f}" height="8" fill="var(--{colour})"/><path d="M50 0v10" stroke="var(--edge)" '
        f'vector-effect="non-scaling-stroke"/></svg>'
    )


def _index(at: tuple[int, ...]) -> str:
    return ", ".join(map(str, at))


def _signed(value: float) -> str:
    return f"({number(value, 4)})" if value < 0 else number(value, 4)


def _values(worked: Worked) -> Array:
    return np.array([product.value for product in worked.shown] or [0.0])
