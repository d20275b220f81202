"""What the trained model says about the test data: probabilities, counts, and where it is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from backlit.nn import Module
from backlit.ops.arrays import Array
from backlit.train import predict

__all__ = ["Results"]

_PROBABLE = 1.959964  # a normal variable lies within this many standard deviations 95 times in 100


@dataclass(frozen=True)
class Results:
    """Test data with the model's answers.

    Attributes:
        x: the inputs, (N, C, *spatial).
        labels: the true classes, (N,).
        probabilities: softmax of the model's logits, (N, K), in float64.
        class_names: K names.
    """

    x: Array
    labels: Array
    probabilities: Array
    class_names: Sequence[str]

    @classmethod
    def of(cls, model: Module, x: Array, labels: Array, class_names: Sequence[object] | None) -> Results:
        """Run the model in evaluation mode over all of x.

        Raises:
            ValueError: the model's outputs are no logits (N, K), labels do not fit, or names are not K.
        """
        labels = np.asarray(labels)
        if labels.dtype.kind not in "iu" or labels.shape != x.shape[:1]:
            raise ValueError(
                f"test holds labels of shape {labels.shape} and dtype {labels.dtype}, "
                f"and integers of shape {x.shape[:1]} are needed: one class for each input."
            )
        if not len(labels):
            raise ValueError(
                "test is empty, and a report shows what the model makes of test data: pass some."
            )
        logits = predict(model, x).astype(np.float64)
        if logits.ndim != 2:
            raise ValueError(
                f"model gives outputs of shape {logits.shape}, and the report is for classifiers of whole inputs: "
                f"logits (N, K) are needed."
            )
        classes = logits.shape[1]
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(
                f"test holds labels from {labels.min()} to {labels.max()}, and the model has {classes} classes, "
                f"numbered from 0."
            )
        names = (
            [str(k) for k in range(classes)] if class_names is None else [str(name) for name in class_names]
        )
        if len(names) != classes:
            raise ValueError(f"class_names has {len(names)} names, and the model has {classes} classes.")
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return cls(x, labels.astype(np.int64), shifted / shifted.sum(axis=1, keepdims=True), names)

    @cached_property
    def predicted(self) -> Array:
        """The class of the largest probability, (N,)."""
        predicted: Array = self.probabilities.argmax(axis=1)
        return predicted

    @cached_property
    def confusion(self) -> Array:
        """Counts, (K, K): row = the true class, column = the predicted one."""
        counts = np.zeros((len(self.class_names),) * 2, np.int64)
        np.add.at(counts, (self.labels, self.predicted), 1)
        return counts

    @property
    def right(self) -> int:
        """How many inputs are classified rightly."""
        return int((self.predicted == self.labels).sum())

    @property
    def accuracy(self) -> float:
        """The share of inputs that are classified rightly."""
        return self.right / len(self.labels)

    @cached_property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest finite value of all inputs: black and white of their pictures."""
        finite = self.x[np.isfinite(self.x)]
        return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval, in which the accuracy on more such data lies in 95 cases of 100."""
        n, p, z2 = len(self.labels), self.accuracy, _PROBABLE**2
        middle = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = _PROBABLE * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
        return max(0.0, middle - half), min(1.0, middle + half)

    @cached_property
    def mistakes(self) -> Array:
        """The indices of the inputs classified wrongly, the model's most confident first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(-self.probabilities[wrong, self.predicted[wrong]], kind="stable")]

    def confidence(self, index: int) -> float:
        """The probability that the model gives to its own answer about one input."""
        return float(self.probabilities[index, self.predicted[index]])

    @property
    def hesitant(self) -> int:
        """The input answered rightly with a probability as near as can be to 3/4; the first where none is right.

        It is one that a person recognises, too, and has a gradient worth looking at: where the model is sure of a
        right answer, nothing flows back.
        """
        correct = np.flatnonzero(self.predicted == self.labels)
        if not len(correct):
            return 0
        return int(correct[np.argmin(np.abs(self.probabilities[correct, self.labels[correct]] - 0.75))])
