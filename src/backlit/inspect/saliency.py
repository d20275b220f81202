"""Saliency: how strongly the loss changes with each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from backlit.graph import Tensor, apply, gradients
from backlit.nn import Module
from backlit.ops.arrays import Array, as_array, as_integers
from backlit.train.evaluation import check_model, evaluation_mode


def saliency(model: Module, x: Any, label: Any = None) -> Array:
    """The absolute gradient of the cross-entropy with respect to each pixel, for each input by itself.

        saliency[n] = |d loss(model(x)[n], label[n]) / dx[n]|

    The model computes in evaluation mode; the modes of its modules and every `.grad` are afterwards as they were.

    Args:
        model: a classifier, which maps inputs (N, ...) to logits (N, K).
        x: the inputs, (N, C, *spatial): one image is x[None].
        label: the classes, (N,), or one for all; None takes those that the model predicts.

    Returns:
        An array of the shape and dtype of x, not negative.

    Raises:
        TypeError, ValueError: x or label do not fit the model.

    Source: Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks", 2014.

    Example:
        >>> from backlit.nn import Linear
        >>> model = Linear(3, 2, bias=False)
        >>> model.weight.data[...] = [[1, 0, -1], [0, 0, 1]]
        >>> saliency(model, np.zeros((1, 3), np.float32), 0)
        array([[0.5, 0. , 1. ]], dtype=float32)
    """
    check_model(model)
    pixels = Tensor(as_array("x", x), requires_grad=True)
    with evaluation_mode(model):
        logits = model(pixels)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            given = (
                f"a {type(logits).__name__}"
                if not isinstance(logits, Tensor)
                else f"the shape {logits.shape}"
            )
            raise ValueError(f"model returns {given}, and saliency needs a classifier's logits, (N, K).")
        labels = logits.data.argmax(axis=1) if label is None else as_integers("label", label)
        if labels.ndim == 0:
            labels = np.broadcast_to(labels, logits.shape[:1])
        loss = apply("cross_entropy", logits, labels=labels, reduction="sum")
        found = gradients(loss)
    if pixels not in found:
        raise ValueError(
            "model's logits do not depend on x in a way that gradients follow: is it using Tensors?"
        )
    return np.abs(found[pixels])
