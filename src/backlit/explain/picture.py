"""The picture of a chain rule: boxes for tensors, labels for local gradients, in one SVG element."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from backlit.explain.layers import Link, Point, Size, arrange
from backlit.explain.vertices import Factor, Vertex, sum_of
from backlit.html import escape

# Colours are those of the page's custom properties; where there are none, ones that show on white and on black.
_INK = "var(--ink, currentColor)"
_MUTED = "var(--muted, #7a7f87)"
_LINE = "var(--edge, #878d95)"
_PANEL = "var(--panel, none)"
_VALUE = "var(--accent, #0b857c)"
_GRADIENT = "var(--positive, #d15a17)"
_MONO = "var(--mono, ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace)"

_WIDE = 0.62  # em: no common monospaced font has wider letters
_BOX, _LABEL = 13.0, 12.0  # font sizes in pixels
_LEADING = 1.5  # line height in em
_PAD = 11.0
_MARGIN = 14.0
_LONGEST = 46  # characters of a line
_MANY = 40  # vertices of a graph drawn in full
_MANY_ARRAYS = 10  # operations, if one of them is on arrays


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of text, after a key where there is one; keys of a box have a column of their own."""

    text: str
    colour: str = _INK
    bold: bool = False
    key: str = ""


def draw(vertices: Sequence[Vertex], description: str) -> str:
    """One SVG element with a box for every tensor and a label for every local gradient.

    A large graph is drawn with one box for each operation and no labels; its parameters are lines in these boxes.

    Args:
        vertices: as in `ChainRule.vertices`.
        description: what the picture shows, in words, for those who do not see it.
    """
    brief = _is_large(vertices)
    shown = [i for i, vertex in enumerate(vertices) if not brief or vertex.kind == "operation" or i == 0]
    place = {vertex: i for i, vertex in enumerate(shown)}
    texts = [_summary(vertices[i], vertices) if brief else _content(vertices[i]) for i in shown]
    links, labels = _links(vertices, place, brief=brief)
    layout = arrange(
        [_size(text, _BOX) for text in texts], links, gap=(44.0, 16.0) if brief else (34.0, 16.0)
    )

    width, height = layout.size[0] + 2 * _MARGIN, layout.size[1] + 2 * _MARGIN
    legend = (
        _Line("forward, left to right", _VALUE, key="value"),
        _Line("backward, right to left: upstream × local", _GRADIENT, key="gradient"),
    )
    width = max(width, _size(legend, _LABEL)[0] + 2 * _MARGIN)
    legend_at = (_MARGIN - _PAD, height)
    height += len(legend) * _LABEL * _LEADING + _MARGIN
    shift = ((width - layout.size[0]) / 2, _MARGIN)
    name = f"chain-{hashlib.sha256(description.encode(errors='replace')).hexdigest()[:10]}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="chain-rule" role="img" '
            f'aria-labelledby="{name}-title {name}-desc" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{_MONO}" font-size="{_BOX:g}">',
            f'<title id="{name}-title">The chain rule behind {escape(vertices[0].name)}</title>',
            f'<desc id="{name}-desc">{escape(description)}</desc>',
            f'<g transform="translate({shift[0]:.1f} {shift[1]:.1f})">',
            *(_path(route) for route in layout.routes),
            *(
                _label(lines, at)
                for lines, at in zip(labels, layout.labels, strict=True)
                if lines is not None and at is not None
            ),
            *(
                _box(lines, where, vertices[i].kind)
                for lines, where, i in zip(texts, layout.boxes, shown, strict=True)
            ),
            "</g>",
            *_lines(legend, legend_at, _LABEL),
            "</svg>",
        ]
    )


def standalone(svg: str) -> str:
    """The picture as a file of its own, with the colours that a page would have given it."""
    head, rest = svg.split("\n", 1)
    return f"{head}\n<style>{_PALETTE}</style>\n{rest}\n"


_PALETTE = """
svg { background: var(--paper); color: var(--ink);
  --paper: #fbfaf8; --panel: #ffffff; --ink: #1b1e22; --muted: #59616b; --edge: #878d95;
  --accent: #0a6660; --positive: #b84a0c; }
@media (prefers-color-scheme: dark) { svg {
  --paper: #14171a; --panel: #1b1f24; --ink: #e8e6e1; --muted: #a0a8b1; --edge: #77808a;
  --accent: #62cfc4; --positive: #f5884a; } }
"""


def _is_large(vertices: Sequence[Vertex]) -> bool:
    operations = [vertex for vertex in vertices if vertex.kind == "operation"]
    return len(vertices) > _MANY or (
        len(operations) > _MANY_ARRAYS and any(len(vertex.shape) > 0 for vertex in operations)
    )


def _links(
    vertices: Sequence[Vertex], place: dict[int, int], *, brief: bool
) -> tuple[list[Link], list[list[_Line] | None]]:
    """The connections between what is shown, and what is written on each."""
    links: list[Link] = []
    labels: list[list[_Line] | None] = []
    for i, vertex in enumerate(vertices):
        factors = iter(vertex.factors)
        following = next(factors, None)
        for source in vertex.inputs:
            factor = following if following is not None and following.vertex == source else None
            if factor is not None:
                following = next(factors, None)
            if source not in place or (brief and Link(place[source], place[i]) in links):
                continue
            lines = _factor(factor) if factor is not None and not brief else None
            links.append(Link(place[source], place[i], None if lines is None else _size(lines, _LABEL)))
            labels.append(lines)
    return links, labels


def _content(vertex: Vertex) -> list[_Line]:
    """What stands in a tensor's box."""
    if vertex.kind == "constant" and not vertex.shape and vertex.name.strip("()") == vertex.value:
        return [_Line(vertex.value, _VALUE, bold=True), _Line("constant", _MUTED)]
    lines = [_Line(vertex.formula or vertex.name, bold=True)]
    if vertex.keywords:
        lines.append(_Line(vertex.keywords, _MUTED))
    if vertex.shape:
        lines.append(_Line(str(vertex.shape), _MUTED, key="shape"))
    lines.append(_Line(vertex.value, _VALUE, key="value"))
    if vertex.kind == "constant":
        lines.append(_Line("constant", _MUTED))
    else:
        lines.append(_Line(vertex.gradient, _GRADIENT, key="gradient"))
    if len(vertex.parts) > 1:
        lines.append(_Line(sum_of(vertex.parts, vertex.shape), _GRADIENT, key=" "))
    return lines


def _summary(vertex: Vertex, vertices: Sequence[Vertex]) -> list[_Line]:
    """What stands in an operation's box when the graph is large."""
    lines = [_Line(vertex.rule or vertex.name, bold=True)]
    if vertex.keywords:
        lines.append(_Line(vertex.keywords, _MUTED))
    leaves = [vertices[i] for i in vertex.inputs if vertices[i].kind != "operation"]
    lines += [_Line(str(leaf.shape or leaf.value), _MUTED, key=leaf.name) for leaf in leaves]
    if vertex.shape:
        lines.append(_Line(str(vertex.shape), _MUTED, key="shape"))
    lines.append(_Line(vertex.value, _VALUE, key="value"))
    lines.append(_Line(vertex.gradient, _GRADIENT, key="gradient"))
    return lines


def _factor(factor: Factor) -> list[_Line]:
    """What stands on a connection that a gradient goes back along."""
    if factor.is_number:
        return [_Line(factor.local_text), _Line(f"← {factor.product_text}", _GRADIENT)]
    local = f"local gradient {factor.shape}"
    return [_Line(factor.formula), _Line(local, _MUTED), _Line(f"← {factor.product_text}", _GRADIENT)]


def _size(lines: Sequence[_Line], font: float) -> Size:
    keys = _keys(lines)
    widest = max(_columns(_cut(line.text)) + (keys if line.key else 0) for line in lines)
    return widest * font * _WIDE + 2 * _PAD, len(lines) * font * _LEADING + 2 * _PAD


def _keys(lines: Sequence[_Line]) -> int:
    """How many columns the keys take."""
    return max(_columns(_cut(line.key)) + 1 for line in lines)


def _box(lines: Sequence[_Line], where: tuple[float, float, float, float], kind: str) -> str:
    x, y, width, height = where
    dashed = ' stroke-dasharray="4 3"' if kind == "constant" else ""
    strong = ' stroke-width="1.5"' if kind == "operation" else ""
    frame = (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="8" fill="{_PANEL}" stroke="{_LINE}"{dashed}{strong}/>'
    )
    head = y + _PAD - 2 + 1.3 * _BOX  # where the first line ends
    top = f"V{y + 8:.1f}a8 8 0 0 1 8 -8H{x + width - 8:.1f}a8 8 0 0 1 8 8"
    shade = 0.09 if kind == "operation" else 0.03
    band = f'<path d="M{x:.1f} {head:.1f}{top}V{head:.1f}z" fill="{_INK}" fill-opacity="{shade}"/>'
    return "\n".join([frame, band, *_lines(lines, (x, y), _BOX)])


def _label(lines: Sequence[_Line], at: Point) -> str:
    return "\n".join(_lines(lines, at, _LABEL))


def _lines(lines: Sequence[_Line], at: Point, font: float) -> Iterator[str]:
    """Text from the upper left corner of its box down."""
    size = "" if font == _BOX else f' font-size="{font:g}"'
    indent = _keys(lines) * font * _WIDE
    for i, line in enumerate(lines):
        x, y = at[0] + _PAD, at[1] + _PAD - 4 + (i + 0.74) * font * _LEADING + (4 if i else 0)
        if line.key:
            yield f'<text x="{x:.1f}" y="{y:.1f}" fill="{_MUTED}"{size}>{escape(_cut(line.key))}</text>'
            x += indent
        weight = ' font-weight="600"' if line.bold else ""
        text = escape(_cut(line.text))
        yield f'<text x="{x:.1f}" y="{y:.1f}" fill="{line.colour}"{size}{weight}>{text}</text>'


def _path(route: Sequence[Point]) -> str:
    """A line along the route, with the head of an arrow at its end."""
    commands = [f"M{_at(route[0])}"]
    for i in range(0, len(route), 4):
        _, begin, end, last = route[i : i + 4]
        middle = (begin[0] + end[0]) / 2
        commands.append(
            f"L{_at(begin)}C{_at((middle, begin[1]))} {_at((middle, end[1]))} {_at(end)}L{_at(last)}"
        )
        if i + 4 < len(route):
            commands.append(f"M{_at(route[i + 4])}")
    x, y = route[-1]
    commands.append(f"M{_at((x - 7, y - 4))}L{_at((x, y))}L{_at((x - 7, y + 4))}")
    return f'<path d="{"".join(commands)}" fill="none" stroke="{_LINE}" stroke-width="1.5"/>'


def _at(point: Point) -> str:
    return f"{point[0]:.1f} {point[1]:.1f}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _columns(text: str) -> int:
    """How many columns of a monospaced font the text takes: East Asian letters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
