"""History: what a training run measured, a row for each epoch, as columns, as CSV and as a picture."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, overload

import numpy as np

from backlit.files import as_path, write_atomic
from backlit.html import escape
from backlit.sizes import shown

Value = int | float | None

COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds", "images_per_second")
TIME_COLUMNS = ("seconds", "images_per_second")  # the only ones that differ from run to run

_ROWS_SHOWN = 10  # in a notebook: the last ones
_SPARK = (240, 48)  # width, height of the sparkline in px


class History:
    """The epochs of a training run: a row each, and a column under each name.

    Every row has the columns `epoch` (counted from 1), `loss`, `accuracy`, `val_loss`, `val_accuracy`, `lr`
    (of the epoch's last step), `seconds` and `images_per_second`, with None where there is nothing to measure,
    followed by whatever callbacks added.

    Attributes:
        epochs: the rows, dictionaries from column to number or None.
        interrupted: the run was ended by Ctrl-C before its last epoch.
        stopped_early: the run was ended by early stopping, or by a callback that set `run.stop`.

    Example:
        >>> history = History.from_rows([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
        >>> history["loss"], len(history), history[-1]["epoch"]
        ([0.5, 0.25], 2, 2)
        >>> history
        History(2 epochs: loss 0.2500)
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, Value]] = []
        self.interrupted = False
        self.stopped_early = False

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Value]]) -> History:
        """A history of these rows, each a mapping from column to number or None."""
        history = cls()
        history.epochs = [dict(row) for row in rows]
        return history

    @property
    def columns(self) -> list[str]:
        """The names of all columns, in the order in which they first appear."""
        return list(dict.fromkeys(name for row in self.epochs for name in row))

    @overload
    def __getitem__(self, key: str) -> list[Value]: ...
    @overload
    def __getitem__(self, key: int) -> dict[str, Value]: ...
    def __getitem__(self, key: str | int) -> list[Value] | dict[str, Value]:
        """The column of that name, None where an epoch lacks it; for an integer, the row at that place."""
        if isinstance(key, int):
            return self.epochs[key]
        if key not in self.columns:
            known = ", ".join(self.columns) or "none, as no epoch is complete"
            raise KeyError(f"the history has no column {key!r}; its columns are: {known}")
        return [row.get(key) for row in self.epochs]

    def __len__(self) -> int:
        return len(self.epochs)

    def __iter__(self) -> Iterator[dict[str, Value]]:
        return iter(self.epochs)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as CSV under a line of column names; `from_csv` gives the same numbers, bit for bit.

        None becomes an empty field. `interrupted` and `stopped_early` are not in the file.

        Args:
            path: the file, written whole or not at all.

        Raises:
            TypeError, ValueError: a row holds something else than numbers and None, or path is no path.
            OSError: it cannot be written.
        """
        file = as_path("path", path)
        columns = self.columns or list(COLUMNS)
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        for row in self.epochs:
            writer.writerow([_written(name, row.get(name)) for name in columns])
        write_atomic(file, text.getvalue().encode())

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> History:
        """Read what `to_csv` wrote.

        Args:
            path: the file.

        Returns:
            The history, its rows with all columns of the file.

        Raises:
            ValueError: the file is no such CSV; the message names it and the line.
            OSError: it cannot be read.
        """
        path = as_path("path", path)
        try:
            lines = list(csv.reader(io.StringIO(path.read_text("utf-8"), newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"path {str(path)!r} is no CSV file that to_csv wrote: {error}.") from error
        if not lines or "epoch" not in lines[0]:
            raise ValueError(f"path {str(path)!r} is no history: its first line has no column 'epoch'.")
        columns = lines[0]
        twice = [name for name in dict.fromkeys(columns) if columns.count(name) > 1]
        if twice:
            raise ValueError(
                f"path {str(path)!r}, line 1: the column {shown(twice[0])} is there {columns.count(twice[0])} times, "
                f"and each name stands for one: rename or remove the others."
            )
        rows = []
        for number, fields in enumerate(lines[1:], start=2):
            if len(fields) != len(columns):
                raise ValueError(
                    f"path {str(path)!r}, line {number}: {len(fields)} fields for {len(columns)} columns; "
                    f"the file seems cut short."
                )
            try:
                rows.append({name: _read(field) for name, field in zip(columns, fields, strict=True)})
            except ValueError as error:
                raise ValueError(f"path {str(path)!r}, line {number}: {error}.") from error
        return cls.from_rows(rows)

    def __repr__(self) -> str:
        ending = ", interrupted" * self.interrupted + ", stopped early" * self.stopped_early
        if not self.epochs:
            return f"History(no epoch{ending})"
        shown = [(name, self.epochs[-1].get(name)) for name in COLUMNS[1:5]]
        last = ", ".join(f"{name} {value:.4f}" for name, value in shown if value is not None)
        return f"History({len(self)} epoch{'s' * (len(self) > 1)}: {last}{ending})"

    def _repr_html_(self) -> str:
        """A table of the last epochs under a sparkline of the losses: what a notebook shows."""
        names = [name for name in COLUMNS if any(row.get(name) is not None for row in self.epochs)]
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(_shown(row.get(name)))}</td>" for name in names) + "</tr>"
            for row in self.epochs[-_ROWS_SHOWN:]
        )
        hidden = max(len(self) - _ROWS_SHOWN, 0)
        caption = escape(repr(self)) + (f"; the last {_ROWS_SHOWN} epochs" if hidden else "")
        table = f"<table><caption>{caption}</caption><tr>{head}</tr>{body}</table>"
        return f"<div>{self._sparkline()}{table}</div>"

    def _sparkline(self) -> str:
        """An SVG of the training loss and, dashed, the validation loss; empty for fewer than two epochs."""
        width, height = _SPARK
        curves = {name: [row.get(name) for row in self.epochs] for name in ("loss", "val_loss")}
        finite = [v for curve in curves.values() for v in curve if v is not None and math.isfinite(v)]
        if len(self) < 2 or not finite:
            return ""
        low, span = min(finite), (max(finite) - min(finite)) or 1.0
        step = (width - 4) / (len(self) - 1)
        lines = []
        for name, curve in curves.items():
            points = " ".join(
                f"{2 + i * step:.1f},{2 + (height - 4) * (1 - (v - low) / span):.1f}"
                for i, v in enumerate(curve)
                if v is not None and math.isfinite(v)
            )
            dash = ' stroke-dasharray="4 3"' if name == "val_loss" else ""
            if points:
                lines.append(f'<polyline points="{points}"{dash}><title>{name}</title></polyline>')
        return (
            f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
            'aria-label="loss by epoch" fill="none" stroke="currentColor" stroke-width="1.5">'
            f"{''.join(lines)}</svg>"
        )


def _written(column: str, value: Any) -> str:
    """A field of the CSV file; repr is the shortest text that gives the same number."""
    if value is None:
        return ""
    number = value.item() if isinstance(value, (np.generic, np.ndarray)) and value.size == 1 else value
    if isinstance(number, float):
        return repr(float(number))
    if isinstance(number, int):  # a bool too
        return str(int(number))
    raise TypeError(f"the column {column!r} holds {shown(value)}, and a history holds numbers and None.")


def _read(field: str) -> Value:
    if not field:
        return None
    try:
        return int(field)
    except ValueError:
        pass
    try:
        return float(field)
    except ValueError:
        raise ValueError(f"{field!r} is no number") from None


def _shown(value: Value) -> str:
    """A cell of the table."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4g}"
