"""Curves over epochs: drawn by matplotlib, rewritten as inline SVG that takes its colours from the page."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

from backlit.html import escape

__all__ = ["SERIES", "Line", "chart", "key", "need_matplotlib"]

SERIES = 8  # colours --series-1 to --series-8 of the page
_SIZE = (5.2, 2.9)  # inches; 1 inch is 72 units of the SVG
_DASHES = ("", "5 2.5", "1.5 2")  # solid, dashed, dotted, in units of the SVG

# matplotlib draws in these colours, and each becomes the page's own.
_INK, _MUTED, _LINE = "#000001", "#000002", "#000003"
_COLOURS = {_INK: "var(--ink)", _MUTED: "var(--muted)", _LINE: "var(--line)"} | {
    f"#0000{16 + number:02x}": f"var(--series-{number})" for number in range(1, SERIES + 1)
}
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Line(NamedTuple):
    """One curve: its name, a value or None for each epoch, its colour (1 to 8) and its dash (0 is solid)."""

    name: str
    values: Sequence[float | None]
    colour: int
    dash: int = 0


def need_matplotlib() -> None:
    """Import matplotlib, which draws the curves.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ModuleNotFoundError(
            "the report's curves are drawn by matplotlib, which is not installed: pip install 'backlit[report]'.",
            name="matplotlib",
        ) from error


def chart(
    name: str,
    lines: Sequence[Line],
    *,
    title: str,
    description: str,
    scale: str = "linear",
    band: tuple[float, float] | None = None,
) -> str:
    """Curves over the epochs 1, 2, ... as inline SVG.

    Args:
        name: letters; the ids inside this SVG begin with "chart-" and it, so it is another for each on a page.
        lines: the curves, all as long as each other. Values that are None or not finite leave a gap.
        title: the SVG's name for a screen reader, and its heading.
        description: says in a sentence what the curves do.
        scale: "linear", "log" (values of 0 and below leave a gap) or "share" (from 0 to 1, in percent).
        band: a range of values to shade, for what is considered healthy.

    Returns:
        The `<svg>` element; the same bytes for the same arguments.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()  # whatever style the user has set
        mpl.rcParams.update(
            {
                "svg.fonttype": "none",
                "lines.scale_dashes": False,
                "svg.hashsalt": name,
                "font.size": 10,
                "font.family": "DejaVu Sans",
            }
        )
        figure = Figure(figsize=_SIZE, layout="constrained")
        _draw(figure.add_subplot(), lines, scale, band)
        content = io.BytesIO()
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(content, metadata={"Date": None, "Creator": None})
    return _inline(content.getvalue(), name, title, description)


def key(lines: Sequence[Line]) -> str:
    """The legend of curves, as an HTML list."""
    items = "".join(
        f'<li><svg viewBox="0 0 28 6" width="28" height="6" aria-hidden="true"><path d="M0 3h28" fill="none" '
        f'stroke="var(--series-{line.colour})" stroke-width="2.2" stroke-dasharray="{_DASHES[line.dash]}"/></svg> '
        f"{escape(line.name)}</li>"
        for line in lines
    )
    return f'<ul class="key small">{items}</ul>'


def _draw(axes: Any, lines: Sequence[Line], scale: str, band: tuple[float, float] | None) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    epochs = max((len(line.values) for line in lines), default=0)
    for line in lines:
        drawn = [v if _drawable(v, scale) else math.nan for v in line.values]
        dash = [float(part) for part in _DASHES[line.dash].split()]
        axes.plot(
            range(1, epochs + 1),
            drawn,
            color=f"#0000{16 + line.colour:02x}",
            linewidth=1.6,
            linestyle=(0, dash) if dash else "solid",
            marker="o" if epochs < 3 else None,
            markersize=3.5,
            clip_on=scale == "log",
            zorder=3,
        )
    if scale == "log":
        axes.set_yscale("log")
        low, high = _log_limits(lines, band)
        axes.set_ylim(low, high)
        within = (1,) if high / low > 200 else (1, 3) if high / low > 15 else (1, 2, 5)
        axes.yaxis.set_major_locator(LogLocator(subs=within, numticks=7))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _power(v)))
    elif scale == "share":
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.3g}%"))
        axes.set_ylim(*_share_limits(lines))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.set_ylim(bottom=0)
    if band is not None:
        axes.axhspan(*band, facecolor=_LINE, alpha=0.55, linewidth=0, zorder=0)
    axes.set_xlim(0.6 if epochs < 3 else 1, max(epochs, 1) + (0.4 if epochs < 3 else 0))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.set_xlabel("epoch", color=_MUTED, loc="right")
    axes.grid(axis="y", color=_LINE, linewidth=0.7, zorder=1)
    axes.tick_params(colors=_MUTED, length=0, pad=5)
    axes.set_facecolor("none")
    axes.figure.set_facecolor("none")
    for side in ("left", "top", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_MUTED)


def _drawable(value: float | None, scale: str) -> bool:
    return value is not None and math.isfinite(value) and (scale != "log" or value > 0)


def _log_limits(lines: Sequence[Line], band: tuple[float, float] | None) -> tuple[float, float]:
    """All values and the band, but at most five decades: a learning rate that ends at 0 would flatten the rest."""
    values = [v for line in lines for v in line.values if v is not None and math.isfinite(v) and v > 0]
    values += band or ()
    low, high = min(values, default=0.1), max(values, default=1.0)
    return max(low, high * 1e-5) / 1.4, high * 1.4


def _share_limits(lines: Sequence[Line]) -> tuple[float, float]:
    """From the round tenth below the smallest value, or 0, to 1; to less where all values are small."""
    values = [v for line in lines for v in line.values if v is not None and math.isfinite(v)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    top = 1.0 if high > 0.5 else max(0.1, min(1.0, math.ceil(high * 11) / 10))
    return (min(math.floor(low * 10) / 10, 0.9) if low > 0.5 else 0.0), top


def _power(value: float) -> str:
    exponent = math.floor(math.log10(value) + 1e-9)
    if -4 < exponent < 4:
        return f"{value:g}"
    lead = round(value / 10.0**exponent)
    return ("" if lead == 1 else f"{lead}·") + "10" + str(exponent).translate(_SUPERSCRIPT)


def _inline(svg: bytes, name: str, title: str, description: str) -> str:
    """matplotlib's SVG without its metadata, style sheet, fixed size and fonts, its ids under `name`."""
    root = ElementTree.fromstring(svg)  # noqa: S314, what matplotlib wrote a moment ago
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    name = f"chart-{name}"
    used = {u.get(f"{_XLINK}href", "")[1:] for u in root.iter(f"{_SVG}use")} | set(
        re.findall(r"url\(#([^)]+)\)", svg.decode())
    )
    for element in root.iter():
        attributes = dict(element.attrib)
        element.attrib.clear()
        for attribute, value in attributes.items():
            if attribute == "style":
                element.attrib.update(_attributes(value))
            elif attribute == "id":
                if value in used:
                    element.set("id", f"{name}-{value}")
            elif attribute == f"{_XLINK}href":
                element.set("href", f"#{name}-{value[1:]}")
            else:
                element.set(attribute, value.replace("url(#", f"url(#{name}-"))
        element.tag = element.tag.removeprefix(_SVG)
    lead = (
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    )
    inner = re.sub(r">\s+<", "><", "".join(ElementTree.tostring(child, encoding="unicode") for child in root))
    return (
        f'<svg class="chart" viewBox="{root.get("viewBox")}" role="img" stroke-linejoin="round" '
        f'aria-labelledby="{name}-title {name}-desc">{lead}{inner}</svg>'
    )


def _attributes(style: str) -> dict[str, str]:
    """A style attribute's declarations as attributes of their own, which the page's policy lets take effect."""
    result = {}
    for declaration in filter(None, (part.strip() for part in style.split(";"))):
        prop, _, value = declaration.partition(":")
        prop, value = prop.strip(), value.strip()
        if prop == "font":
            size = re.search(r"([\d.]+)px", value)
            prop, value = "font-size", size.group(1) if size else "10"
        if prop != "font-family":
            result[prop] = _COLOURS.get(value, value)
    return result
