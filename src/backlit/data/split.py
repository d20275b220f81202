"""The split of a labelled data set into a training and a test part, the same on every machine."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from backlit.ops.arrays import Array, as_integers
from backlit.sizes import integer

Parts: TypeAlias = tuple[tuple[Array, Array], tuple[Array, Array]]
"""(x_train, y_train), (x_test, y_test): what every loader returns."""


def split(x: Array, y: Any, *, test_every: int = 5) -> Parts:
    """Put every test_every-th sample of each class, in the order they are in, into the test part.

    Nothing is drawn. Each class has the same share of both parts, and the order within a part stays.

    Args:
        x: (N, ...), the samples.
        y: (N,), their integer labels.
        test_every: 5 makes a test part of the 5th, 10th, 15th ... sample of each class; 0 leaves it empty.

    Returns:
        (x_train, y_train), (x_test, y_test).

    Raises:
        TypeError, ValueError: y holds no integers, or not one for each sample; test_every is 1 or negative.

    Example:
        >>> x, y = np.arange(6.0), np.array([0, 0, 1, 0, 1, 1])
        >>> split(x, y, test_every=3)[1]
        (array([3., 5.]), array([0, 1]))
    """
    labels = as_integers("y", y)
    if labels.shape != np.shape(x)[:1]:
        raise ValueError(
            f"y has shape {labels.shape}, and one label for each of x's samples, {np.shape(x)}, is needed."
        )
    every = integer("test_every", test_every, 0)
    if every == 1:
        raise ValueError("test_every is 1, which leaves nothing to train on: 5 makes a test part of a fifth.")
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels) if every else ():
        chosen[np.flatnonzero(labels == label)[every - 1 :: every]] = True
    return (x[~chosen], labels[~chosen]), (x[chosen], labels[chosen])
