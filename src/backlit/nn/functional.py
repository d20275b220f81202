"""The differentiable operations as functions of tensors, with PyTorch's names: each records its pair."""

from __future__ import annotations

from typing import Any

import numpy as np

from backlit.graph import Tensor, apply
from backlit.nn.inputs import shape_of
from backlit.nn.windows import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from backlit.ops.arguments import as_axis
from backlit.ops.arrays import Array

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cross_entropy",
    "dropout",
    "flatten",
    "linear",
    "log_softmax",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "mse_loss",
    "relu",
    "sigmoid",
    "softmax",
    "tanh",
]


def relu(x: Any) -> Tensor:
    """The positive part, y = max(x, 0), elementwise.

    Args:
        x: of any shape.

    Returns:
        y, of the shape of x.

    Raises:
        TypeError: x is no tensor of float32 or float64.

    Example:
        >>> relu([-1.0, 2.0]).numpy()
        array([0., 2.])
    """
    return apply("relu", x)


def sigmoid(x: Any) -> Tensor:
    """The logistic function, y = 1 / (1 + exp(-x)), elementwise.

    Args:
        x: of any shape.

    Returns:
        y, of the shape of x.

    Raises:
        TypeError: x is no tensor of float32 or float64.

    Example:
        >>> sigmoid([0.0, 1000.0]).numpy()
        array([0.5, 1. ])
    """
    return apply("sigmoid", x)


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent, y = (exp(x) - exp(-x)) / (exp(x) + exp(-x)), elementwise.

    Args:
        x: of any shape.

    Returns:
        y, of the shape of x.

    Raises:
        TypeError: x is no tensor of float32 or float64.

    Example:
        >>> tanh([0.0, 1000.0]).numpy()
        array([0., 1.])
    """
    return apply("tanh", x)


def softmax(x: Any, dim: int | None = None) -> Tensor:
    """The quotients, y = exp(x) / sum(exp(x)), along an axis.

    Args:
        x: of any shape with that axis.
        dim: the axis; 1 for logits (N, K, ...). None is PyTorch's default, and refused.

    Returns:
        y, of the shape of x.

    Raises:
        TypeError, ValueError: x is no tensor of float32 or float64, or dim no axis of it.

    Example:
        >>> import numpy as np
        >>> softmax(np.zeros((1, 4)), dim=1).numpy().round(3)
        array([[0.25, 0.25, 0.25, 0.25]])
    """
    return apply("softmax", x, axis=_along(dim, shape_of(x)))


def log_softmax(x: Any, dim: int | None = None) -> Tensor:
    """The logarithms, y = x - log(sum(exp(x))), along an axis.

    Args:
        x: of any shape with that axis.
        dim: the axis; 1 for logits (N, K, ...). None is PyTorch's default, and refused.

    Returns:
        y, of the shape of x.

    Raises:
        TypeError, ValueError: x is no tensor of float32 or float64, or dim no axis of it.

    Example:
        >>> import numpy as np
        >>> log_softmax(np.zeros((1, 4)), dim=1).numpy().round(3)
        array([[-1.386, -1.386, -1.386, -1.386]])
    """
    return apply("log_softmax", x, axis=_along(dim, shape_of(x)))


def _along(dim: int | None, shape: tuple[int, ...]) -> int:
    """The axis `dim` of a softmax; None, for which PyTorch guesses with a warning, is an error."""
    if dim is None:
        raise TypeError(
            f"dim is None, and an axis of the shape {shape} is needed: pass dim=1 for logits (N, K, ...), "
            f"dim=-1 for the last axis."
        )
    return as_axis("dim", dim, "x", shape)


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes from start_dim to end_dim, both included, as one: y = x.reshape(..., their product, ...).

    Args:
        x: of any shape. start_dim, end_dim: axes; negative ones count from the end.

    Returns:
        y, with the same elements in the same order; (1,) for a 0-d x.

    Raises:
        TypeError, ValueError: an axis that x does not have, or start_dim behind end_dim.

    Example:
        >>> import numpy as np
        >>> flatten(np.zeros((4, 3, 2, 2)), 1).shape
        (4, 12)
    """
    shape = shape_of(x)
    if not shape:
        return apply("reshape", x, shape=(1,))
    start, end = as_axis("start_dim", start_dim, "x", shape), as_axis("end_dim", end_dim, "x", shape)
    if start > end:
        raise ValueError(
            f"start_dim is {start_dim} and end_dim {end_dim} of shape {shape}: start_dim has to come first."
        )
    if end == len(shape) - 1 and start == 1:
        return apply("flatten", x, start_axis=start)
    joined = int(np.prod(shape[start : end + 1], dtype=np.int64))
    return apply("reshape", x, shape=(*shape[:start], joined, *shape[end + 1 :]))


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """The affine map of the last axis, y = x @ weight.T + bias.

    Args:
        x: (..., in). weight: (out, in). bias: (out,) or None.

    Returns:
        y, (..., out).

    Raises:
        TypeError, ValueError: shapes or dtypes that do not fit one another.

    Example:
        >>> linear([1.0, 2.0], [[3.0, 4.0]], [5.0]).numpy()
        array([16.])
    """
    return apply("linear", x, weight, bias)


def batch_norm(
    x: Any,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel normalised, y = weight * (x - mean) / sqrt(var + eps) + bias.

    Args:
        x: (N, C, *spatial). weight, bias: (C,).
        running_mean, running_var: arrays (C,) that stand for mean and variance when not training, and that
            training updates in place with the factor `momentum` (the variance without bias, as PyTorch does).
        training: take mean and variance from x. eps: added to the variance.

    Returns:
        y, of the shape of x.

    Raises:
        TypeError, ValueError: shapes or dtypes that do not fit, no running arrays when not training, or one
            value per channel in training.

    Example:
        >>> batch_norm([[1.0], [3.0]], None, None, training=True, eps=0.0).numpy()
        array([[-1.],
               [ 1.]])
    """
    running = {"running_mean": running_mean, "running_var": running_var}
    return apply("batch_norm", x, weight, bias, training=training, momentum=momentum, eps=eps, **running)


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Zeros at random places: y = x * mask / (1 - p), where the mask is 0 with probability p, else 1.

    Args:
        x: of any shape. p: 0 to 1.
        training: False gives x as it is.

    Returns:
        y, of the shape of x.

    Raises:
        TypeError, ValueError: x is no tensor of float32 or float64, or p no number from 0 to 1.

    Example:
        >>> import numpy as np
        >>> set(dropout(np.ones(100), p=0.5).numpy().tolist()) <= {0.0, 2.0}
        True
    """
    return apply("dropout", x, p=p, training=training)


def cross_entropy(
    x: Any,
    target: Any,
    weight: Array | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """The negative log-likelihood from logits, loss = mean over n of -log(softmax(x[n])[target[n]]).

    Args:
        x: logits (N, K) or (N, K, *spatial).
        target: integer labels (N,) or (N, *spatial), in 0..K-1 or ignore_index: an array, or a Tensor.
        weight: (K,), a factor for each class; "mean" then divides by the sum of the factors.
        ignore_index: the label without loss and gradient, which the mean does not count.
        reduction: "mean", "sum" or "none".
        label_smoothing: the share, 0 to 1, of each label that is spread evenly over all classes.

    Returns:
        The loss, 0-d, or of the shape of target for "none".

    Raises:
        TypeError, ValueError: shapes that do not fit, a label that is no class, or a setting out of range.

    Example:
        >>> round(cross_entropy([[2.0, 0.0]], [0]).item(), 4)
        0.1269
    """
    labels = target.data if isinstance(target, Tensor) else target
    options = {"label_smoothing": label_smoothing, "reduction": reduction}
    return apply("cross_entropy", x, labels=labels, weight=weight, ignore_index=ignore_index, **options)


def mse_loss(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """The mean of the squared differences, loss = mean of (x - target)**2.

    Args:
        x, target: of one shape. reduction: "mean", "sum" or "none".

    Returns:
        The loss, 0-d, or of the shape of x for "none".

    Raises:
        TypeError, ValueError: shapes or dtypes that differ, or another reduction.

    Example:
        >>> mse_loss([1.0, 2.0], [1.0, 4.0]).item()
        2.0
    """
    return apply("mse", x, target, reduction=reduction)
