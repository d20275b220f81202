"""What a model says about data, batch by batch, and what its loss and accuracy are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from backlit.graph import Tensor, apply, no_grad
from backlit.nn import Module
from backlit.ops.arrays import Array, as_array, as_integers
from backlit.sizes import integer

Loss = str | Callable[..., Tensor]

_NAMES = ("cross_entropy", "mse")


def predict(model: Module, x: Any, batch_size: int = 256) -> Array:
    """The model's outputs for x, computed in evaluation mode, without a graph, a batch at a time.

        predict(model, x)[i] = model(x)[i]

    Args:
        model: the model; each module's mode is afterwards as it was.
        x: the inputs, (N, ...), of the model's dtype.
        batch_size: how many are computed at a time, which bounds the memory.

    Returns:
        The outputs, (N, ...): logits (N, K) for a classifier, so that `.argmax(axis=1)` are the classes. They share
        no memory with x.

    Raises:
        TypeError, ValueError: x has the wrong dtype or shape, or batch_size is no positive integer.

    Example:
        >>> from backlit.nn import Linear
        >>> predict(Linear(3, 2), np.ones((5, 3), np.float32)).shape
        (5, 2)
    """
    inputs = _inputs("x", x, model)
    size = integer("batch_size", batch_size, 1)
    with evaluating(model):
        parts = [_output(model(Tensor(inputs[i : i + size]))) for i in range(0, max(len(inputs), 1), size)]
    if len(parts) > 1:
        return np.concatenate(parts)
    return parts[0].copy() if np.may_share_memory(parts[0], inputs) else parts[0]


def evaluate(
    model: Module, x: Any, y: Any, batch_size: int = 256, loss: Loss = "cross_entropy"
) -> dict[str, float | None]:
    """The model's mean loss and its accuracy on (x, y), in evaluation mode, without a graph, batch by batch.

        loss = sum_i loss(model(x_i), y_i) / N        accuracy = #{i : argmax_k model(x_i)_k = y_i} / N

    Args:
        model: the model; each module's mode is afterwards as it was.
        x: the inputs, (N, ...), of the model's dtype.
        y: integer labels, (N,) or (N, *spatial), or the targets that the loss takes, (N, ...).
        batch_size: how many are computed at a time, which bounds the memory.
        loss: as for `fit`.

    Returns:
        {"loss": ..., "accuracy": ...}; accuracy is None where the targets are no labels.

    Raises:
        TypeError, ValueError: as `fit`.

    Example:
        >>> from backlit.nn import Linear
        >>> model = Linear(2, 2, bias=False)
        >>> model.weight.data[...] = [[9, 0], [0, 9]]
        >>> evaluate(model, np.eye(2, dtype=np.float32), np.array([0, 0]))["accuracy"]
        0.5
    """
    objective = Objective(loss)
    samples = objective.samples(model, (x, y), ("x", "y"))
    return measure(model, samples, objective, integer("batch_size", batch_size, 1))


def measure(
    model: Module, samples: Samples, objective: Objective, batch_size: int
) -> dict[str, float | None]:
    """`evaluate`, once its arguments are known to be right."""
    loss, right = 0.0, 0.0
    with evaluating(model):
        for start in range(0, len(samples.x), batch_size):
            batch = slice(start, start + batch_size)
            output = model(Tensor(samples.x[batch]))
            loss += objective(output, samples.y[batch]).item() * len(samples.x[batch])
            if samples.labelled:
                right += count_right(output.data, samples.y[batch])
    return {"loss": loss / len(samples.x), "accuracy": right / len(samples.x) if samples.labelled else None}


def count_right(output: Array, labels: Array) -> float:
    """How many samples are classified right: logits (N, K, *spatial) against (N, *spatial); pixels count as parts."""
    right = int(np.count_nonzero(output.argmax(axis=1) == labels))
    return right * len(labels) / labels.size


@contextmanager
def evaluation_mode(model: Module) -> Iterator[None]:
    """Evaluation mode, with the graph as it is; afterwards every module is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # infinities show in the result
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode and no graph; afterwards every module is in the mode in which it was."""
    with evaluation_mode(model), no_grad():
        yield


@dataclass(frozen=True, slots=True)
class Samples:
    """Inputs (N, ...) and targets (N, ...) that fit one another, the model and its loss, with N at least 1.

    `labelled` says whether the targets are class labels, so that there is an accuracy.
    """

    x: Array
    y: Array
    labelled: bool

    def __len__(self) -> int:
        return len(self.x)


class Objective:
    """What a run minimises: "cross_entropy", "mse", or a module or function of (output, targets)."""

    def __init__(self, loss: Loss) -> None:
        if isinstance(loss, str) and loss not in _NAMES:
            raise ValueError(
                f"loss is {loss!r}, and has to be one of {', '.join(map(repr, _NAMES))} or a callable."
            )
        if not isinstance(loss, str) and not callable(loss):
            raise TypeError(
                f"loss is a {type(loss).__name__}, and has to be one of {', '.join(map(repr, _NAMES))} or a callable "
                f"of (output, targets), such as backlit.nn.CrossEntropyLoss()."
            )
        self.loss = loss

    @property
    def description(self) -> str:
        """What tells this loss from another one in a checkpoint."""
        loss = self.loss
        if isinstance(loss, str):
            return loss
        return (
            repr(loss) if isinstance(loss, Module) else getattr(loss, "__qualname__", type(loss).__qualname__)
        )

    def __call__(self, output: Tensor, y: Array) -> Tensor:
        """The loss of one batch: its mean over the samples, a scalar Tensor."""
        if self.loss == "cross_entropy":
            return apply("cross_entropy", output, labels=y)
        if self.loss == "mse":
            return apply("mse", output, y)
        assert not isinstance(self.loss, str)
        value = self.loss(output, y if y.dtype.kind in "iu" else Tensor(y))
        if not isinstance(value, Tensor) or value.size != 1:
            given = (
                f"a Tensor of shape {value.shape}"
                if isinstance(value, Tensor)
                else f"a {type(value).__name__}"
            )
            raise TypeError(
                f"loss returned {given}, and has to return a scalar Tensor: the mean over the batch."
            )
        return value

    def samples(
        self, model: Module, data: Any, names: tuple[str, str], *, classes: int | None = None
    ) -> Samples:
        """The pair (x, y), once it is known to fit together, the model and this loss.

        Args:
            model: tried on the first sample, in evaluation mode.
            data: the pair.
            names: what to call x and y in error messages.
            classes: how many classes there are; None takes the number of the model's outputs.
        """
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            what = f"a {type(data).__name__}" + (
                f" of {len(data)}" if isinstance(data, (tuple, list)) else ""
            )
            raise TypeError(f"{names[0]} and {names[1]} come as a pair of arrays (x, y), and this is {what}.")
        x = _inputs(names[0], data[0], model)
        y = self._targets(names[1], data[1], x.dtype)
        if len(x) == 0:
            raise ValueError(f"{names[0]} has no samples: its shape is {x.shape}.")
        if y.ndim == 0 or len(y) != len(x):
            count = "is a single number" if y.ndim == 0 else f"has {len(y)}"
            raise ValueError(f"{names[0]} has {len(x)} samples and {names[1]} {count}: both need as many.")
        with evaluating(model):
            output = _output(model(Tensor(x[:1])))
        if self.loss == "mse" and y.shape[1:] != output.shape[1:]:
            raise ValueError(
                f"{names[1]} has shape {y.shape}, and for this model's outputs it needs "
                f"{(len(x), *output.shape[1:])}."
            )
        labelled = y.dtype.kind in "iu" and output.ndim >= 2 and y.shape[1:] == output.shape[2:]
        if self.loss == "cross_entropy":
            _check_labels(names[1], y, (len(x), *output.shape[1:]), classes)
        return Samples(x, y, labelled)

    def _targets(self, name: str, y: Any, dtype: np.dtype[Any]) -> Array:
        """y as labels or as targets of the model's dtype, whichever the loss wants."""
        if self.loss == "cross_entropy":
            try:
                return as_integers(name, y)
            except TypeError:  # it is an array, but none of integers
                if np.ndim(y) != 2 or np.asarray(y).dtype.kind != "f":
                    raise
            raise TypeError(
                f"{name} has shape {np.shape(y)} and holds floats, and integer labels (N,) are needed: where it "
                f"is one-hot, pass {name}.argmax(axis=1)."
            )
        if self.loss != "mse":
            with suppress(TypeError):
                return as_integers(name, y)
        return as_array(name, y, dtype=dtype)


def _check_labels(name: str, y: Array, logits: tuple[int, ...], classes: int | None) -> None:
    """Labels (N, *spatial) for logits (N, K, *spatial), each of them below K."""
    if len(logits) < 2:
        raise ValueError(
            f"model returns outputs of shape {logits}, and cross_entropy needs logits (N, K): see `loss`."
        )
    if y.shape != logits[:1] + logits[2:]:
        raise ValueError(
            f"{name} has shape {y.shape}, and labels for logits of shape {logits} need {logits[:1] + logits[2:]}."
        )
    if classes is not None and classes != logits[1]:
        raise ValueError(f"classes is {classes}, and the model has {logits[1]} outputs for each sample.")
    low, high = int(y.min(initial=0)), int(y.max(initial=0))
    if low < 0 or high >= logits[1]:
        raise ValueError(
            f"{name} holds the label {low if low < 0 else high}, and this model's {logits[1]} outputs stand for the "
            f"labels 0 to {logits[1] - 1}: give the model more classes, or number the labels from 0."
        )


def check_model(model: Any) -> None:
    """Raise a TypeError unless the argument `model` is a Module."""
    if not isinstance(model, Module):
        given = "None" if model is None else f"a {type(model).__name__}"
        raise TypeError(f"model is {given}, and has to be a backlit.nn.Module.")


def _inputs(name: str, x: Any, model: Module) -> Array:
    """x as an array (N, ...) of the dtype of the model's parameters."""
    check_model(model)
    dtype = next((parameter.dtype for parameter in model.parameters()), None)
    inputs = as_array(name, x, dtype=dtype)
    if inputs.ndim == 0:
        raise ValueError(f"{name} is a single number, and has to be an array of samples, (N, ...).")
    return inputs


def _output(output: Any) -> Array:
    """The array of what a model returned."""
    if not isinstance(output, Tensor):
        raise TypeError(f"model returned a {type(output).__name__}, and has to return a Tensor.")
    return output.data
