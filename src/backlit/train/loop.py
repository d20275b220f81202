"""The loop of a training run: epochs, steps, events, and a state that can be left and taken up at any batch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from backlit.graph import Tensor
from backlit.nn import Module
from backlit.ops.arrays import Array
from backlit.optim import Optimizer, clip_grad_norm_
from backlit.sizes import shown
from backlit.train.checkpoint import Checkpoint, damaged
from backlit.train.evaluation import Objective, Samples, count_right, measure
from backlit.train.history import COLUMNS, History, Value
from backlit.train.interrupt import Interrupt
from backlit.train.position import arrays_of, check_position
from backlit.train.progress import Display, display


@dataclass(slots=True)
class Run:
    """What a callback sees of a training run; it is called as `callback(event, run)`.

    The events are "start"; in each step "gradients", when they are there and neither clipped nor used, and "update",
    after the optimiser's step; "epoch", when its row is complete and not yet in the history; and "end", however the
    run ends but for an error.

    Attributes:
        model: the model.
        optimizer: the optimiser.
        epochs: how many epochs the run has.
        steps_per_epoch: how many steps each of them has.
        history: the rows of the epochs that are complete.
        epoch: the current epoch, from 1; 0 before the first.
        step: the current step of the epoch, from 1; 0 before the first.
        batch: inputs and targets of the current step, or None outside of steps.
        loss: the loss of the current step.
        row: at "epoch", the row that is about to be stored.
        metrics: filled by callbacks at "epoch": more columns for this row, each a number.
        stop: set it to end the run at the next batch boundary.
    """

    model: Module
    optimizer: Optimizer
    epochs: int
    steps_per_epoch: int
    history: History
    epoch: int = 0
    step: int = 0
    batch: tuple[Array, Array] | None = None
    loss: float = math.nan
    row: dict[str, Value] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    stop: bool = False


Callback = Callable[[str, Run], Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """The plain arguments of `fit`, checked; `patience` is its early_stopping."""

    epochs: int
    batch_size: int
    lr: float
    seed: int
    clip_norm: float | None
    patience: int | None
    checkpoint: Path | None
    resume: bool
    progress: bool
    callbacks: tuple[Callback, ...]

    def steps(self, samples: int) -> int:
        """How many steps an epoch has. A last batch of one sample joins the one before it."""
        full, rest = divmod(samples, self.batch_size)
        return max(full + (rest > 0) - (rest == 1 and self.batch_size > 1), 1)


@dataclass(slots=True)
class Sums:
    """What adds up in the course of an epoch; `seconds` is the time of its steps, `elapsed` all of it."""

    images: int = 0
    loss: float = 0.0
    right: float = 0.0
    seconds: float = 0.0
    elapsed: float = 0.0


@dataclass(slots=True)
class Loop:
    """A run in progress: `fit`'s arguments, and where it stands."""

    model: Module
    data: Samples
    validation: Samples | None
    objective: Objective
    optimizer: Optimizer
    schedule: Callable[[int, int], float]
    plan: Plan
    settings: dict[str, Any]
    rng: np.random.Generator
    interrupt: Interrupt
    run: Run = field(init=False)
    steps: int = field(init=False)  # in an epoch
    order: Array = field(init=False)  # of the samples, (N,); empty between epochs
    sums: Sums = field(init=False)

    def __post_init__(self) -> None:
        """Stand at the beginning."""
        self.steps = self.plan.steps(len(self.data))
        self.run = Run(self.model, self.optimizer, self.plan.epochs, self.steps, History())
        self._between_epochs()

    def go(self) -> History:
        """Train from where the loop stands to the end of the run."""
        if self.plan.resume and self.plan.checkpoint is not None and self.plan.checkpoint.exists():
            self._restore(Checkpoint.read(self.plan.checkpoint), self.plan.checkpoint)
        done = len(self.run.history)
        shown = display(
            self.plan.progress,
            epochs=self.plan.epochs,
            images=self.plan.epochs * len(self.data),
            images_done=done * len(self.data) + self.sums.images,
        )
        shown.start()
        try:
            self._tell("start")
            while not self._ended() and self._epoch(shown):
                pass
            self._tell("end")
        finally:
            shown.close()
            self.model.eval()
        self.run.history.interrupted = self.interrupt.requested and len(self.run.history) < self.plan.epochs
        return self.run.history

    def _ended(self) -> bool:
        """Whether there is nothing more to do."""
        history = self.run.history
        if len(history) >= self.plan.epochs or self.interrupt.requested:
            return True
        history.stopped_early = self.run.stop or self._is_stale()
        return history.stopped_early

    def _is_stale(self) -> bool:
        """Whether the loss has been without a new minimum for as many epochs as early stopping allows."""
        history = self.run.history
        if self.plan.patience is None or not len(history):
            return False
        column = history["loss" if self.validation is None else "val_loss"]
        losses = [math.inf if value is None or math.isnan(value) else value for value in column]
        return len(losses) - 1 - losses.index(min(losses)) >= self.plan.patience

    def _epoch(self, shown: Display) -> bool:
        """One epoch, or what is left of it. False when it was left before its end, at a batch boundary."""
        run, sums = self.run, self.sums
        began = time.perf_counter() - sums.elapsed
        run.epoch = len(run.history) + 1
        run.metrics = {}
        if not run.step:
            self.order = self.rng.permutation(len(self.data))
        self.model.train()
        while run.step < self.steps:
            before = time.perf_counter()
            images = self._step()
            sums.seconds += time.perf_counter() - before
            shown.step(run.epoch, images, self._measured())
            if (self.interrupt.requested or run.stop) and run.step < self.steps:
                sums.elapsed = time.perf_counter() - began
                run.history.stopped_early = run.stop and not self.interrupt.requested
                self._save()
                return False
        run.batch = None
        row = run.row = self._row()
        self._tell("epoch")
        row["seconds"] = time.perf_counter() - began
        try:
            self._add_metrics(row)
        finally:  # the epoch is complete, whatever a callback has put in
            run.history.epochs.append(row)
            self._between_epochs()
            self._save()
        shown.epoch(row)
        return True

    def _step(self) -> int:
        """One batch forward, backward, and into the weights; the number of its samples."""
        run = self.run
        start, run.step = run.step * self.plan.batch_size, run.step + 1
        stop = len(self.data) if run.step == self.steps else start + self.plan.batch_size
        chosen = self.order[start:stop]
        x, y = self.data.x[chosen], self.data.y[chosen]
        run.batch = x, y
        past = (run.epoch - 1) * self.steps + run.step - 1
        self.optimizer.lr = self.plan.lr * self.schedule(past, self.plan.epochs * self.steps)
        self.optimizer.zero_grad()
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            output = self.model(Tensor(x))
            loss = self.objective(output, y)
            run.loss = loss.item()
            self._require_finite(run.loss)
            self.sums.images += len(chosen)
            self.sums.loss += run.loss * len(chosen)
            if self.data.labelled:
                self.sums.right += count_right(output.data, y)
            del output
            loss.backward()
            self._tell("gradients")
            if self.plan.clip_norm is not None:
                clip_grad_norm_(self.model.parameters(), self.plan.clip_norm)
            self.optimizer.step()
        self._tell("update")
        return len(chosen)

    def _measured(self) -> dict[str, Value]:
        """Loss and accuracy of the epoch so far."""
        images = self.sums.images
        accuracy = self.sums.right / images if self.data.labelled else None
        return {"loss": self.sums.loss / images, "accuracy": accuracy}

    def _row(self) -> dict[str, Value]:
        """The epoch's row of the history."""
        values: dict[str, Value] = {"val_loss": None, "val_accuracy": None}
        if self.validation is not None:
            measured = measure(self.model, self.validation, self.objective, self.plan.batch_size)
            values = {f"val_{name}": value for name, value in measured.items()}
        values |= self._measured()
        values |= {"epoch": self.run.epoch, "lr": float(self.optimizer.lr), "seconds": None}
        values["images_per_second"] = self.sums.images / max(self.sums.seconds, 1e-9)
        return {name: values[name] for name in COLUMNS}

    def _add_metrics(self, row: dict[str, Value]) -> None:
        """The callbacks' columns, after those of every run."""
        for name, value in self.run.metrics.items():
            if not isinstance(name, str):
                raise TypeError(f"a callback set run.metrics[{name!r}], and the name of a column is a text.")
            if name in COLUMNS:
                raise ValueError(
                    f"a callback set run.metrics[{name!r}], which is a column of fit's own: rename it."
                )
            try:
                row[name] = float(value)
            except (TypeError, ValueError, OverflowError):
                raise TypeError(
                    f"a callback set run.metrics[{name!r}] to {shown(value)}, and a number is needed: leave the name "
                    f"out where there is none, or use math.nan."
                ) from None

    def _between_epochs(self) -> None:
        self.order = np.empty(0, np.int64)
        self.sums = Sums()
        self.run.step = 0

    def _tell(self, event: str) -> None:
        for callback in self.plan.callbacks:
            callback(event, self.run)

    def _require_finite(self, loss: float) -> None:
        """Stop before a loss that is no number gets into the weights or into a checkpoint."""
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss became {loss} in epoch {self.run.epoch}, step {self.run.step} of {self.steps}: use a lower "
                f"lr than {self.plan.lr:g}, clip_norm=1.0, or see whether the data hold NaN.{self._kept()}"
            )

    def _require_finite_weights(self) -> None:
        for name, parameter in self.model.named_parameters():
            if not np.isfinite(parameter.data).all():
                raise FloatingPointError(
                    f"{name} became NaN or infinite in epoch {max(self.run.epoch, 1)}: use a lower lr than "
                    f"{self.plan.lr:g}, or clip_norm=1.0.{self._kept()}"
                )

    def _kept(self) -> str:
        path = self.plan.checkpoint
        if path is None or not len(self.run.history):
            return ""
        return f" The checkpoint {str(path)!r} is that of an earlier batch boundary."

    def _save(self) -> None:
        """Write the checkpoint, if there is one."""
        self._require_finite_weights()
        if self.plan.checkpoint is None:
            return
        arrays, scalars = self.optimizer.state_dict()
        Checkpoint(
            model=self.model.state_dict(),
            optimizer=arrays,
            order=self.order,
            settings=self.settings,
            progress={
                "epochs": self.plan.epochs,
                "step": self.run.step,
                "sums": asdict(self.sums),
                "history": self.run.history.epochs,
                "random": self.rng.bit_generator.state,
                "optimizer": scalars,
            },
        ).write(self.plan.checkpoint)

    def _restore(self, checkpoint: Checkpoint, path: Path) -> None:
        """Stand where the checkpoint was written; if that cannot be, nothing has changed."""
        checkpoint.require_same(self.settings, path)
        progress = checkpoint.progress
        try:
            check_position(
                progress,
                checkpoint.order,
                samples=len(self.data),
                batch_size=self.plan.batch_size,
                steps=self.steps,
            )
        except ValueError as error:
            raise damaged(path, str(error)) from error
        done = len(progress["history"]) + (progress["step"] > 0)
        if done > self.plan.epochs:
            raise ValueError(
                f"epochs is {self.plan.epochs}, and the run in {str(path)!r} is in its epoch {done} already: "
                f"resume with epochs={progress['epochs']}, as it was begun."
            )
        if arrays_of(checkpoint.model) != arrays_of(self.model.state_dict()):
            raise damaged(path, "its arrays are not the model's")
        try:
            self.optimizer.load_state_dict(checkpoint.optimizer, progress["optimizer"])
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise damaged(path, f"the optimiser's state: {str(error).rstrip('.')}") from error
        self.model.load_state_dict(checkpoint.model)
        self.rng.bit_generator.state = progress["random"]
        self.run.history.epochs = progress["history"]
        self.run.step = progress["step"]
        self.order = checkpoint.order
        self.sums = Sums(**progress["sums"])
