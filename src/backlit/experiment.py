"""A whole experiment in one call: data, network, training, test, and the files that are left behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backlit import engines, models
from backlit.data import DIGIT_NAMES, load_digits, load_npz, split
from backlit.files import as_path
from backlit.geometry import ConvGeometry
from backlit.graph import Tensor
from backlit.inspect import GradientHealth
from backlit.models.registry import smallest_image
from backlit.nn import Conv1d, Conv2d, Conv3d, Module
from backlit.nn.storage import save
from backlit.ops import random
from backlit.ops.arrays import Array
from backlit.report import write_report
from backlit.report.curves import need_matplotlib
from backlit.sizes import Sizes, integer, shown
from backlit.train import History, evaluate, fit
from backlit.train.checkpoint import Checkpoint
from backlit.train.evaluation import evaluating

_VALIDATE_EVERY = 10  # of the training images of a class, every 10th is held out
_FAR = 2  # times the loss of guessing: what a loss beyond that shows is no slow beginning
_PROBE = 128  # training images that gradient health looks at


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an experiment gave.

    Attributes:
        history: what was measured while it trained; `history.interrupted` says whether Ctrl-C ended it.
        accuracy: the share of test images that are classified rightly; None for a run that was interrupted.
        model, csv, report: the files with the weights, the history, and the page to read. Those of an interrupted run
            are not written, and `report` is None where there is none.
        checkpoint: the file to resume from.
        without_report: why there is no report; empty when there is one.
    """

    history: History
    accuracy: float | None
    model: Path
    csv: Path
    report: Path | None
    checkpoint: Path
    without_report: str


def run_experiment(
    data: str | os.PathLike[str] = "digits",
    *,
    model: str = "digits",
    epochs: int = 20,
    batch_size: int = 64,
    lr: float = 3e-3,
    optimizer: str = "adam",
    seed: int = 0,
    out: str | os.PathLike[str] = "backlit-run",
    resume: bool = False,
    report: bool = True,
    progress: bool = True,
    say: Callable[[str], Any] = print,
    warn: Callable[[str], Any] | None = None,
) -> Outcome:
    """Train a network on a labelled set of images, test it once, and write model, history and report to a folder.

    A tenth of the training images is held out to validate with. The learning rate rises for one epoch and then falls
    along half a cosine. Everything random comes from `seed`. Each epoch ends with a checkpoint in `out`. Images
    that are too small for the network are enlarged by a whole factor, each pixel to a square.

    Args:
        data: "digits", which are bundled, or the path of an npz file that `backlit.data.load_npz` reads.
        model: a name in `backlit.models.names()`.
        epochs, batch_size, lr: as for `backlit.fit`.
        optimizer: "adam", "adamw" or "sgd".
        seed: of the first weights, the shuffles and dropout.
        out: the folder; made if need be.
        resume: go on from the checkpoint in `out`, to the same bits as without the interruption.
        report: whether to write a report; without matplotlib there is none either.
        progress: whether to show how training goes.
        say: called with a line of text about what will happen.
        warn: called with a line about what is wrong with the data or the training, yet no error; None calls `say`.

    Returns:
        The outcome.

    Raises:
        TypeError, ValueError, OSError: as `fit` and `load_npz`; or the data are no training set.
        FloatingPointError: training diverged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     outcome = run_experiment(epochs=1, out=folder, report=False, progress=False, say=lambda line: None)
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['checkpoint.safetensors', 'history.csv', 'model.safetensors']
    """
    (x, y), (x_test, y_test) = _load(data)
    if not len(x_test):
        raise ValueError(
            f"data {os.fspath(data)!r} leaves no image to test with: give it five of a class, or x_test and y_test."
        )
    (x_train, y_train), held_out = split(x, y, test_every=_VALIDATE_EVERY)
    classes = _classes(data, y, y_test)
    warn = say if warn is None else warn
    _warn_of_empty(classes, y, warn)
    shape = x.shape[1:]
    x_train, held_out, x_test, enlarged = _enlarge(model, x_train, held_out, x_test)
    seed = integer("seed", seed, 0)
    with random.using(np.random.default_rng([seed, 1])):  # a stream apart from the one that fit draws from
        network = models.create(
            model, classes=max(classes, 2), in_channels=shape[0], image_size=x_train.shape[2:]
        )
    engine = _engine(network, x_train[:batch_size])
    say(
        f"{_name(data)}: {len(x_train):,} images of {'x'.join(map(str, shape))} in {classes} classes to train "
        f"on, {len(held_out[0]):,} to validate, {len(x_test):,} to test; network {model}, "
        f"{sum(parameter.size for parameter in network.parameters()):,} parameters; engine {engine}, "
        f"threads {engines.get_num_threads()}; seed {seed}" + (f"; images {enlarged}" if enlarged else "")
    )
    without_report = _why_no_report() if report else "it was not asked for"
    if report and without_report:
        say(f"there will be no report, as {without_report}")
    folder = _folder(out)
    checkpoint = folder / "checkpoint.safetensors"
    _announce(checkpoint, resume=resume, say=say)
    history = fit(
        network,
        (x_train, y_train),
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        optimizer=optimizer,
        validation=held_out if len(held_out[0]) else None,
        seed=seed,
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
        schedule="cosine",
        warmup_epochs=1,
        callbacks=[GradientHealth(x_train[:_PROBE], y_train[:_PROBE])],
    )
    outcome = Outcome(
        history=history,
        accuracy=None if history.interrupted else evaluate(network, x_test, y_test)["accuracy"],
        model=folder / "model.safetensors",
        csv=folder / "history.csv",
        report=None if without_report else folder / "report.html",
        checkpoint=checkpoint,
        without_report=without_report,
    )
    if history.interrupted:
        return outcome
    _warn_of_divergence(history, classes, warn)
    save(network, outcome.model)
    history.to_csv(outcome.csv)
    if outcome.report is not None:
        write_report(
            outcome.report,
            model=network,
            history=history,
            test=(x_test, y_test),
            title=f"{type(network).__name__} on {_name(data)}",
            facts={
                "Training data": f"{len(x_train):,} images, {len(held_out[0]):,} more to validate with",
                **({"Images": enlarged} if enlarged else {}),
                "Optimiser": f"{optimizer}, learning rate {lr:g} with a warm-up of one epoch and a cosine",
                "Batch size": str(batch_size),
                "Seed": str(seed),
                "Engine": f"{engine}, threads {engines.get_num_threads()}",
            },
            class_names=DIGIT_NAMES if data == "digits" else None,
        )
    return outcome


def done(checkpoint: str | os.PathLike[str]) -> tuple[int, int] | None:
    """How many epochs of the run in a checkpoint are complete, and how many it was to have; None without a good one."""
    try:
        progress = Checkpoint.read(checkpoint).progress
    except (OSError, ValueError):
        return None
    history, epochs = progress.get("history"), progress.get("epochs")
    return (len(history), epochs) if isinstance(history, list) and isinstance(epochs, int) else None


def _load(data: Any) -> Any:
    """The training and test part of the data."""
    if data == "digits":
        return load_digits()
    if not isinstance(data, (str, os.PathLike)):
        raise TypeError(f"data is {shown(data)}, and 'digits' or the path of an npz file is needed.")
    if as_path("data", data).suffix != ".npz":
        raise ValueError(f"data is {os.fspath(data)!r}, and 'digits' or the path of an .npz file is needed.")
    return load_npz(data)


def _classes(data: Any, y: Array, y_test: Array) -> int:
    """How many classes the labels number, once the training images can be of that many."""
    largest = int(max(y.max(), y_test.max()))
    if largest >= max(len(y), 2):
        raise ValueError(
            f"data {os.fspath(data)!r} has the label {largest}, which makes {largest + 1} classes of {len(y)} training "
            f"images: number the classes from 0 without gaps, y = np.unique(y, return_inverse=True)[1]."
        )
    return largest + 1


def _warn_of_empty(classes: int, y: Array, warn: Callable[[str], Any]) -> None:
    """Say which classes have no image to train on."""
    empty = np.setdiff1d(np.arange(classes), y)
    if len(empty):
        some = ", ".join(map(str, empty[:5])) + (f" and {len(empty) - 5:,} more" if len(empty) > 5 else "")
        warn(
            f"no image of class {some} to train on, though the labels go up to {classes - 1}: number the classes from "
            f"0 without gaps"
        )


def _warn_of_divergence(history: History, classes: int, warn: Callable[[str], Any]) -> None:
    """Say when a loss ended far above that of guessing, which a network has before it learns anything."""
    guessing, last = float(np.log(max(classes, 2))), history.epochs[-1]
    for name in ("loss", "val_loss"):
        loss, accuracy = last[name], last[name.replace("loss", "accuracy")]
        if loss is None or accuracy is None:
            continue
        if loss > _FAR * guessing and accuracy < (1 + 1 / max(classes, 2)) / 2:  # half way up from guessing
            warn(
                f"the loss grew ({name} {loss:.4g}, and guessing alone gives {guessing:.2f}): training diverged, so "
                f"use a lower --lr"
            )
            return


def _enlarge(model: str, x_train: Array, held_out: Any, x_test: Array) -> tuple[Array, Any, Array, str]:
    """The images (N, C, H, W) of the three parts, as large as the network needs, and how they were enlarged, if so."""
    smallest, (height, width) = smallest_image(model), x_train.shape[2:]
    factor = -(-smallest // min(height, width))
    if factor == 1:
        return x_train, held_out, x_test, ""

    def larger(x: Array) -> Array:
        return x.repeat(factor, axis=2).repeat(factor, axis=3)

    size, least = f"{factor * height}x{factor * width}", f"{smallest}x{smallest}"
    enlarged = f"enlarged {factor}x to {size}, as {model} needs at least {least}"
    return larger(x_train), (larger(held_out[0]), held_out[1]), larger(x_test), enlarged


def _folder(out: Any) -> Path:
    """The folder for the files, made if need be, once it is known that they can be written there."""
    folder = as_path("out", out)
    try:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(
                f"out {str(folder)!r} is a file, and a folder is needed: give another name."
            )
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno is None:  # the sentence above
            raise
        reason = error.strerror or type(error).__name__
        raise type(error)(
            f"out {str(folder)!r} cannot be made a folder ({reason}): give another with --out."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(
            f"out {str(folder)!r} is a folder that cannot be written to: give another with --out."
        )
    return folder


def _name(data: str | os.PathLike[str]) -> str:
    """What the data are called, in characters that every file and terminal can hold."""
    if data == "digits":
        return "digits"
    return os.fsencode(Path(data).name).decode("utf-8", "backslashreplace")


def _engine(network: Module, images: Array) -> str:
    """The engine that computes a batch of images in the network's first convolution."""
    met: list[
        tuple[Conv1d | Conv2d | Conv3d, Sizes]
    ] = []  # each convolution and the shape of its input, in order of computation

    def note(module: Any, inputs: Any, output: Tensor) -> None:
        met.append((module, inputs[0].shape))

    with ExitStack() as stack:
        stack.enter_context(evaluating(network))
        for module in network.modules():
            if isinstance(module, (Conv1d, Conv2d, Conv3d)):
                stack.callback(module.register_forward_hook(note).remove)
        network(Tensor(images[:1]))
    if not met:
        return "none"
    first, (_, *shape) = met[0]
    geometry = ConvGeometry.from_shapes(
        (len(images), *shape),
        first.weight.shape,
        stride=first.stride,
        padding=first.padding,
        dilation=first.dilation,
        groups=first.groups,
    )
    return engines.explain_choice(geometry, images.dtype.name)["conv_forward"].engine


def _why_no_report() -> str:
    """Why a report cannot be written here; empty when it can."""
    try:
        need_matplotlib()
    except ImportError as error:
        return str(error).rstrip(".")
    return ""


def _announce(checkpoint: Path, *, resume: bool, say: Callable[[str], Any]) -> None:
    """Say what becomes of a checkpoint that is there, or is not, before it is too late."""
    if resume and not checkpoint.exists():
        say(f"{checkpoint} does not exist: there is nothing to resume, so the run begins")
    state = done(checkpoint)
    if state is None:
        return
    epochs, planned = state
    if resume:
        say(f"going on from {checkpoint}, after {epochs} of {planned} epochs")
    elif epochs < planned:
        say(
            f"{checkpoint} holds a run that is not finished, {epochs} of {planned} epochs: it will be written over at "
            f"the end of the first epoch; to go on with it instead, stop now and add --resume"
        )
