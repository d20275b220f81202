"""What is shown while a model trains: a bar in a terminal, a line for each epoch elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

_MEASURES = ("loss", "accuracy", "val_loss", "val_accuracy")
_BAR_WIDTHS = (4, 16)  # characters: a bar that is narrower says nothing, and a wider one no more


class Display(Protocol):
    """Where `fit` reports to. Numbers are as in a row of History; a measure that is None is left out."""

    def start(self) -> None:
        """Training begins."""

    def step(self, epoch: int, images: int, measures: Mapping[str, Any]) -> None:
        """A step on that many images is done; the measures are those of the epoch so far."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch is complete."""

    def close(self) -> None:
        """Training ends, for whatever reason."""


def display(shown: bool, *, epochs: int, images: int, images_done: int) -> Display:
    """The display that fits where the output goes.

    Args:
        shown: False for none.
        epochs: how many epochs the run has.
        images: how many images all its epochs have together.
        images_done: how many of them an earlier part of the run has seen.
    """
    if not shown:
        return _Silent()
    pace = _Pace(left=images - images_done)
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console()
        if console.is_terminal and not console.is_dumb_terminal:
            return _Bar(console, pace, epochs=epochs, images=images, images_done=images_done)
    return _Lines(pace, epochs=epochs)


@dataclass(slots=True)
class _Pace:
    """How fast images go by, and how long those that are left will take."""

    left: int
    done: int = 0
    began: float = field(default_factory=time.perf_counter)

    def count(self, images: int) -> None:
        self.done += images
        self.left -= images

    @property
    def images_per_second(self) -> float:
        return self.done / max(time.perf_counter() - self.began, 1e-9)

    @property
    def seconds_left(self) -> float:
        return self.left / self.images_per_second if self.done else float("inf")


class _Silent:
    """Shows nothing."""

    def start(self) -> None: ...
    def step(self, epoch: int, images: int, measures: Mapping[str, Any]) -> None: ...
    def epoch(self, row: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...


class _Lines:
    """One plain line for each epoch: for files, pipes, notebooks and terminals that cannot move the cursor."""

    def __init__(self, pace: _Pace, *, epochs: int) -> None:
        self._pace = pace
        self._epochs = epochs

    def start(self) -> None:
        self._pace.began = time.perf_counter()

    def step(self, epoch: int, images: int, measures: Mapping[str, Any]) -> None:
        self._pace.count(images)

    def epoch(self, row: Mapping[str, Any]) -> None:
        number = f"epoch {row['epoch']:>{len(str(self._epochs))}}/{self._epochs}"
        print(f"{number}  {_measures(row, _MEASURES)}  {_speed(self._pace)}", flush=True)

    def close(self) -> None: ...


class _Bar:
    """A progress bar over the whole run, redrawn in place."""

    def __init__(self, console: Any, pace: _Pace, *, epochs: int, images: int, images_done: int) -> None:
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn

        self._console = console
        self._pace = pace
        self._epochs = epochs
        self._validation: dict[str, Any] = {}  # of the last complete epoch
        self._number = TextColumn("{task.fields[epoch]}", markup=False)
        self._bar = BarColumn(bar_width=_BAR_WIDTHS[1], complete_style="cyan", finished_style="green")
        self._text = TextColumn("{task.fields[text]}", markup=False)
        columns: tuple[ProgressColumn, ...] = (self._number, self._bar, self._text)
        self._progress = Progress(*columns, console=console, refresh_per_second=5)
        self._task = self._progress.add_task(
            "", total=images, completed=images_done, epoch=f"epoch 0/{epochs}", text=""
        )

    def start(self) -> None:
        self._pace.began = time.perf_counter()
        self._progress.start()

    def step(self, epoch: int, images: int, measures: Mapping[str, Any]) -> None:
        self._pace.count(images)
        self._show(epoch, {**self._validation, **measures}, images)

    def epoch(self, row: Mapping[str, Any]) -> None:
        self._validation = {"val_accuracy": row["val_accuracy"]}
        self._show(row["epoch"], row, 0)

    def close(self) -> None:
        self._progress.stop()

    def _show(self, epoch: int, measures: Mapping[str, Any], images: int) -> None:
        number = f"epoch {epoch}/{self._epochs}"
        width = self._console.width - len(number) - 1  # columns that are left for the text and the bar
        text = _fitting(measures, self._pace, width)
        narrowest, widest = _BAR_WIDTHS
        self._bar.bar_width = min(width - len(text) - 1, widest)
        drawn = self._bar.bar_width >= narrowest
        self._progress.columns = (self._number, *((self._bar,) if drawn else ()), self._text)
        self._progress.update(self._task, advance=images, epoch=number, text=text)


def _fitting(measures: Mapping[str, Any], pace: _Pace, width: int) -> str:
    """What fits beside a bar into so many columns: what matters least is left out first."""
    parts = {
        short: f"{short} {measures[name]:.4f}"
        for short, name in (("loss", "loss"), ("acc", "accuracy"), ("val", "val_accuracy"))
        if measures.get(name) is not None
    }
    if pace.done:
        parts["speed"], parts["left"] = _speed(pace).split("  ")
    for least in ("speed", "acc", "left", "loss", "val"):
        if len("  ".join(parts.values())) <= width:
            break
        parts.pop(least, None)
    return "  ".join(parts.values())


def _measures(row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return "  ".join(f"{name} {row[name]:.4f}" for name in names if row.get(name) is not None)


def _speed(pace: _Pace) -> str:
    seconds = pace.seconds_left
    if seconds == float("inf"):
        return ""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{pace.images_per_second:,.0f} images/s  {left} left"
