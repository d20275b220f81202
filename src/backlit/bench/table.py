"""How rows are shown: columns for people, colours where a terminal has them, Markdown for documents, and the means."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from backlit.bench.results import Row, geometric_means, kind
from backlit.bench.rival import SIDES
from backlit.trial import PASSES

LEGEND = (
    "called, kept: how many times as fast as PyTorch, as a user runs it, and with its results' memory kept by malloc "
    "(kernel against kernel)",
    "peak: share of the machine's measured peak, two operations for each multiplication of the definition",
    "error: RMS of the difference from float64, relative to the RMS of the result",
    "ours, torch: the layout that was faster, of ours and of PyTorch's (called/kept); channels first or last",
)
_MISSING = "-"
_SHORT = {
    "channels_first": "first",
    "contiguous": "first",
    "channels_last": "last",
    "channels_last_3d": "last",
}
_EVEN, _BEHIND = 1.0, 0.9  # ratios from which a colour says ahead, or even


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Args:
        title: its heading.
        width: characters, at least.
        cell: the text of a row.
        rival: whether it is there only where PyTorch is timed too.
    """

    title: str
    width: int
    cell: Callable[[Row], str]
    rival: bool = False


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits and no exponent; "-" for none.

    Example:
        >>> number(0.012345), number(123456.0), number(1.0), number(None)
        ('0.0123', '123456', '1.00', '-')
    """
    if value is None:
        return _MISSING
    scaled = f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - int(scaled.partition("e")[2])) if value else digits - 1
    return f"{value:.{decimals}f}"


def _percent(value: float | None) -> str:
    return _MISSING if value is None else f"{100 * value:.0f} %"


def _formats(row: Row) -> str:
    """The memory formats that PyTorch was faster in."""
    found = [_SHORT[timing.layout] for timing in (row.called, row.kept) if timing]
    return "/".join(found if len(set(found)) > 1 else found[:1]) or _MISSING


COLUMNS = (
    Column("pass", -7, lambda row: row.name),
    Column("ms", 7, lambda row: number(1e3 * row.ours.seconds)),
    Column("GFLOP/s", 7, lambda row: number(row.gflops)),
    Column("peak", 5, lambda row: _percent(row.share)),
    Column("called", 6, lambda row: number(row.ratio("called")), rival=True),
    Column("kept", 5, lambda row: number(row.ratio("kept")), rival=True),
    Column("error", 7, lambda row: f"{row.error:.1e}"),
    Column("ours", -5, lambda row: _SHORT[row.ours.layout]),
    Column("torch", -10, lambda row: _formats(row), rival=True),
    Column("algorithm", -9, lambda row: row.algorithm),
)


class Table:
    """Shows rows as they come: one table of plain text, or, in a terminal, a heading for each problem.

    Args:
        rival: whether PyTorch is timed too.
        width: characters of the longest descriptor.
        markdown: write a Markdown table.
        write: takes each line; None writes to stdout, in colours where that is a terminal.
    """

    def __init__(
        self,
        *,
        rival: bool,
        width: int = 0,
        markdown: bool = False,
        write: Callable[[str], Any] | None = None,
    ) -> None:
        self._columns = [column for column in COLUMNS if rival or not column.rival]
        self._markdown = markdown
        self._console = None if write or markdown else _terminal()
        self._write = write or (lambda line: print(line, flush=True))
        self._layer = Column("layer", -width, lambda row: str(row.geometry))
        self._last: Any = None

    def head(self, machine: str, rival: str, warning: str = "") -> None:
        """What precedes the rows."""
        import backlit

        self._write(" against ".join(name for name in (f"backlit {backlit.__version__}", rival) if name))
        self._write(machine)
        if warning:
            self._write(f"WARNING: {warning}")
        self._write("")
        if self._console is None:
            self._line([column.title for column in self._all()])
            if self._markdown:
                self._line(["---" if column.width < 0 else "---:" for column in self._all()])
        else:
            titles = "  ".join(_fill(column.title, column.width) for column in self._columns)
            self._console.print(f"  {titles}", style="bold", highlight=False, markup=False, soft_wrap=True)

    def row(self, row: Row) -> None:
        """One pass."""
        if self._console is None:
            self._line([column.cell(row) for column in self._all()])
        else:
            self._coloured(row)
        self._last = row.geometry
        if row.trouble:
            self._write(f"  ERROR: {row.trouble}")

    def foot(self, rows: Sequence[Row]) -> None:
        """The means, where PyTorch was timed, what was not timed, and what the columns mean."""
        notes = {f"{row.geometry}: {row.note}" for row in rows if row.note}
        for note in sorted(notes):
            self._write("")
            self._write(f"{note} It was not timed there.")
        if any(row.called for row in rows):
            self._means(rows, "kind", lambda row: kind(row.geometry))
            if len({row.family for row in rows}) > 1:
                self._means(rows, "family", lambda row: row.family or "(none)")
        self._write("")
        for column in LEGEND if any(row.called for row in rows) else LEGEND[1:3]:
            self._write(f"- {column}" if self._markdown else column)

    def _means(self, rows: Sequence[Row], title: str, key: Callable[[Row], str]) -> None:
        """Geometric means of called and kept, and the lowest kept, for each pass."""
        means = {side: geometric_means(rows, key, side) for side in SIDES}
        names = list(means["kept"])
        passes = [name for name in PASSES if any(name in means["kept"][group] for group in names)]
        self._write("")
        self._write("geometric means called / kept (lowest kept)")
        self._write("")
        width = -max(len(title), *map(len, names))
        columns = [Column(title, width, str), Column("layers", 6, str)]
        columns += [Column(name, 20, str) for name in passes]
        self._line([column.title for column in columns], columns)
        if self._markdown:
            self._line(["---" if column.width < 0 else "---:" for column in columns], columns)
        for group in names:
            members = [row for row in rows if key(row) == group and row.ratio("kept") is not None]
            cells = [group, str(len({row.geometry for row in members}))]
            for name in passes:
                if name not in means["kept"][group]:
                    cells.append(_MISSING)
                    continue
                lowest = min(row.ratio("kept") or 0 for row in members if row.name == name)
                called, kept = (number(means[side][group][name]) for side in SIDES)
                cells.append(f"{called} / {kept} ({number(lowest)})")
            self._line(cells, columns)

    def _all(self) -> list[Column]:
        return [self._layer, *self._columns]

    def _line(self, cells: Sequence[str], columns: Sequence[Column] | None = None) -> None:
        if self._markdown:
            self._write(f"| {' | '.join(cells)} |")
            return
        columns = columns or self._all()
        texts = (_fill(text, column.width) for text, column in zip(cells, columns, strict=True))
        self._write("  ".join(texts).rstrip())

    def _coloured(self, row: Row) -> None:
        from rich.text import Text

        assert self._console is not None
        if row.geometry != self._last:
            heading = Text(str(row.geometry), style="bold cyan")
            self._console.print(heading.append(f"  {row.family}", style="dim"), soft_wrap=True)
        line = Text("  ")
        for column in self._columns:
            side = column.title if column.title in SIDES else None
            ratio = row.ratio(side) if side else None
            style = (
                ""
                if ratio is None
                else "green"
                if ratio >= _EVEN
                else "yellow"
                if ratio >= _BEHIND
                else "red"
            )
            line.append(_fill(column.cell(row), column.width), style=style).append("  ")
        self._console.print(line, soft_wrap=True)


def _fill(text: str, width: int) -> str:
    """The text as wide as a column; a negative width is that of a column of words, which begin at its left."""
    return text.ljust(-width) if width < 0 else text.rjust(width)


def _terminal() -> Any:
    """A console that can show colours, or None."""
    if not sys.stdout.isatty():
        return None
    from rich.console import Console

    console = Console()
    return console if console.is_terminal and not console.is_dumb_terminal else None
