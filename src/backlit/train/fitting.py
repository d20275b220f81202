"""fit: the arguments of a training run, checked and put together."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from backlit import optim
from backlit.files import as_path
from backlit.nn import Module, Parameter
from backlit.ops import random
from backlit.ops.arguments import as_flag, as_number
from backlit.sizes import integer, shown
from backlit.train.checkpoint import data_fingerprint, model_fingerprint
from backlit.train.evaluation import Loss, Objective, check_model
from backlit.train.history import History
from backlit.train.interrupt import Interrupt
from backlit.train.loop import Callback, Loop, Plan

OPTIMIZERS: dict[str, Any] = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}

Schedule = Callable[[int, int], float]


def fit(
    model: Module,
    data: tuple[Any, Any],
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    optimizer: str | optim.Optimizer = "adam",
    validation: tuple[Any, Any] | None = None,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    loss: Loss = "cross_entropy",
    weight_decay: float | None = None,
    schedule: str | Schedule = "constant",
    warmup_epochs: int = 0,
    clip_norm: float | None = None,
    early_stopping: int | None = None,
    callbacks: Iterable[Callback] = (),
    classes: int | None = None,
) -> History:
    """Train a model on arrays, and return what was measured epoch by epoch.

        for each batch B of a fresh shuffle:   w <- optimizer(w, d/dw mean_{i in B} loss(model(x_i), y_i))

    Everything random (the shuffles, dropout) draws from one generator made from `seed`, so that the same call on
    the same model gives the same bits. The last batch may be smaller; where it would hold a single sample, which
    batch normalisation cannot do with, that sample joins the batch before it.

    A checkpoint is one safetensors file, written at the end of every epoch, and at the batch boundary where
    training is interrupted, such that even a crash leaves the old one or the new one, whole. Training that is resumed
    from it gives the same bits as training that was never stopped: weights, optimiser and history, but for the
    history's columns of time. Where it was begun by other code than this call, with other data or other arguments,
    that is an error; only `epochs` may differ.

    Ctrl-C ends the run at the next batch boundary, a second one at once with KeyboardInterrupt; after the first, fit
    returns, with `history.interrupted` set. Afterwards the model is in evaluation mode.

    Args:
        model: the model; its weights are changed in place.
        data: (x, y): inputs (N, ...) of the model's dtype, and integer labels (N,) or (N, *spatial), or, for another
            loss than cross-entropy, whatever targets (N, ...) it takes.
        epochs: how many times to go through the data, those before a resumption included.
        batch_size: samples in a step.
        lr: the learning rate, before schedule and warm-up.
        optimizer: "adam", "adamw" or "sgd" with their default arguments, or an optimiser made for the model's
            parameters, whose lr is then set in every step.
        validation: (x, y) to measure, in evaluation mode, after each epoch.
        seed: where the random numbers start.
        checkpoint: the file to keep the state of the run in.
        resume: go on from the checkpoint. Where the file does not exist, the run begins; without `resume` it begins
            anew and writes over the file.
        progress: show a progress bar, or a line for each epoch where the output is no terminal.
        loss: "cross_entropy", "mse", or a module or function of (output, targets) that returns the batch's mean as a
            scalar Tensor; targets are an integer array or a Tensor.
        weight_decay: the optimiser's; None for its default: 0.01 for AdamW, else 0.
        schedule: "constant", "cosine", "step", or a function of (step, all steps) that returns a factor for lr.
        warmup_epochs: for how many epochs the learning rate rises linearly, before a schedule that has a name.
        clip_norm: the largest norm of all gradients together; longer ones are scaled down to it.
        early_stopping: end after that many epochs in a row without a new lowest val_loss (loss, without validation).
        callbacks: functions of (event, run), see `Run`.
        classes: how many classes there are, if the model's number of outputs is to be checked against it.

    Returns:
        The History, with one row for each complete epoch.

    Raises:
        TypeError, ValueError: an argument is wrong, the data do not fit the model, or the checkpoint is damaged or
            another run's. Nothing has been trained then.
        FloatingPointError: the loss or a weight became NaN or infinite. The checkpoint is still that of the last
            complete epoch.

    Example:
        >>> from backlit.nn import Linear
        >>> x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
        >>> y = (x[:, 0] > x[:, 1]).astype(np.int64)
        >>> history = fit(Linear(2, 2), (x, y), epochs=20, batch_size=20, lr=0.1, progress=False)
        >>> history["accuracy"][-1] > 0.9
        True
    """
    check_model(model)
    objective = Objective(loss)
    classes = None if classes is None else integer("classes", classes, 1)
    samples = objective.samples(model, data, ("x", "y"), classes=classes)
    held_out = None
    if validation is not None:
        held_out = objective.samples(model, validation, ("validation[0]", "validation[1]"), classes=classes)
    batch_size = integer("batch_size", batch_size, 1)
    plan = Plan(
        epochs=integer("epochs", epochs, 1),
        batch_size=batch_size,
        lr=_finite("lr", lr),
        clip_norm=None if clip_norm is None else _above_zero("clip_norm", clip_norm),
        patience=None if early_stopping is None else integer("early_stopping", early_stopping, 1),
        checkpoint=_checkpoint_path(checkpoint, resume=as_flag("resume", resume)),
        resume=resume,
        progress=as_flag("progress", progress),
        seed=integer("seed", seed, 0),
        callbacks=_callbacks(callbacks),
    )
    factor = _schedule(schedule, integer("warmup_epochs", warmup_epochs, 0), plan.steps(len(samples)))
    stepper = _optimizer(optimizer, model, plan.lr, weight_decay)
    settings: dict[str, Any] = {}
    if plan.checkpoint is not None:
        settings = {
            "model": model_fingerprint(model, model.state_dict()),
            "data": data_fingerprint(samples.x, samples.y),
            "validation": "none" if held_out is None else data_fingerprint(held_out.x, held_out.y),
            "loss": objective.description,
            "optimizer": _settings_of(stepper),
            "lr": plan.lr,
            "schedule": repr(factor) if isinstance(factor, optim.Schedule) else _name_of(factor),
            "batch_size": plan.batch_size,
            "clip_norm": plan.clip_norm,
            "early_stopping": plan.patience,
            "seed": plan.seed,
        }
    rng = np.random.Generator(np.random.PCG64(plan.seed))
    with random.using(rng), Interrupt() as interrupt:
        loop = Loop(
            model=model,
            data=samples,
            validation=held_out,
            objective=objective,
            optimizer=stepper,
            schedule=factor,
            plan=plan,
            settings=settings,
            rng=rng,
            interrupt=interrupt,
        )
        return loop.go()


def _finite(name: str, value: Any) -> float:
    return as_number(name, value, 0, math.inf, below=True)


def _above_zero(name: str, value: Any) -> float:
    number = _finite(name, value)
    if number == 0:
        raise ValueError(f"{name} is 0, and has to be above 0; None switches it off.")
    return number


def _checkpoint_path(checkpoint: Any, *, resume: bool) -> Path | None:
    """The path, once a file can be expected to be written there: not only after the first epoch is it too late."""
    if checkpoint is None:
        if resume:
            raise ValueError(
                "resume is True without a checkpoint to go on from: pass checkpoint='run.safetensors', say."
            )
        return None
    path = as_path("checkpoint", checkpoint)
    if path.is_dir():
        raise IsADirectoryError(
            f"checkpoint {str(path)!r} is a folder, and a file is needed: add a file name."
        )
    folder = path.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(
            f"checkpoint {str(path)!r} lies in a folder that does not exist: create it first."
        )
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"checkpoint {str(path)!r} lies in a folder that cannot be written to.")
    return path


def _callbacks(callbacks: Any) -> tuple[Callback, ...]:
    if not isinstance(callbacks, Iterable):
        raise TypeError(
            f"callbacks is {shown(callbacks)}, and a list is needed: pass callbacks=[{shown(callbacks)}]."
        )
    listed = tuple(callbacks)
    for callback in listed:
        if not callable(callback):
            raise TypeError(f"callbacks holds {shown(callback)}, and functions of (event, run) are needed.")
    return listed


def _schedule(schedule: str | Schedule, warmup_epochs: int, steps_per_epoch: int) -> Schedule:
    """The schedule as a function; one that has a name gets the warm-up."""
    if isinstance(schedule, str):
        if schedule not in optim.SCHEDULES:
            known = ", ".join(map(repr, optim.SCHEDULES))
            raise ValueError(f"schedule is {schedule!r}, and has to be one of {known}, or a function.")
        return optim.SCHEDULES[schedule](warmup_steps=warmup_epochs * steps_per_epoch)
    if not callable(schedule):
        raise TypeError(
            f"schedule is {shown(schedule)}, and a name or a function of (step, all steps) is needed."
        )
    if warmup_epochs:
        raise ValueError(
            f"warmup_epochs is {warmup_epochs}, and schedule a function, which has the whole say: "
            f"pass backlit.optim.CosineLR(warmup_steps={warmup_epochs * steps_per_epoch}), say."
        )
    return schedule


def _optimizer(optimizer: Any, model: Module, lr: float, weight_decay: float | None) -> optim.Optimizer:
    """The optimiser of that name, or the given one, once it is known to be for this model."""
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise ValueError(
                f"optimizer is {optimizer!r}, and has to be one of {', '.join(map(repr, OPTIMIZERS))}."
            )
        options = {} if weight_decay is None else {"weight_decay": weight_decay}
        made: optim.Optimizer = OPTIMIZERS[optimizer](_trainable(model), lr=lr, **options)
        return made
    if not isinstance(optimizer, optim.Optimizer):
        known = ", ".join(map(repr, OPTIMIZERS))
        raise TypeError(
            f"optimizer is {shown(optimizer)}, and one of {known}, or a backlit.optim.Optimizer, is needed."
        )
    if weight_decay is not None:
        raise ValueError(
            "weight_decay is for an optimizer that has a name: give it to the optimizer you made."
        )
    own = {id(parameter) for parameter in model.parameters()}
    if not all(id(parameter) in own for parameter in optimizer.parameters):
        raise ValueError(
            "optimizer holds parameters that are not this model's: make it with model.parameters()."
        )
    return optimizer


def _trainable(model: Module) -> list[Parameter]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("model has no parameter that requires a gradient, so there is nothing to train.")
    return parameters


def _settings_of(optimizer: optim.Optimizer) -> str:
    """The optimiser's kind and settings, but for the learning rate and what changes from step to step."""
    _, scalars = optimizer.state_dict()
    settings = [f"{name}={value}" for name, value in scalars.items() if name not in ("kind", "steps", "lr")]
    return f"{type(optimizer).__name__}({', '.join(settings)})"


def _name_of(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))
