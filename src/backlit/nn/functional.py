"""The differentiable operations as functions of tensors, with PyTorch's names: each records its pair."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import numpy as np

from backlit.graph import Tensor, apply
from backlit.nn.inputs import shape_of
from backlit.ops.arguments import as_axis
from backlit.ops.arrays import Array

_P = ParamSpec("_P")

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
    """The larger of x and 0, elementwise."""
    return apply("relu", x)


def sigmoid(x: Any) -> Tensor:
    """The logistic function 1 / (1 + exp(-x)), elementwise."""
    return apply("sigmoid", x)


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent (exp(x) - exp(-x)) / (exp(x) + exp(-x)), elementwise."""
    return apply("tanh", x)


def softmax(x: Any, dim: int) -> Tensor:
    """The quotients exp(x) / sum(exp(x)) along the axis `dim`."""
    return apply("softmax", x, axis=as_axis("dim", dim, "x", shape_of(x)))


def log_softmax(x: Any, dim: int) -> Tensor:
    """The logarithm x - log(sum(exp(x))) along the axis `dim`."""
    return apply("log_softmax", x, axis=as_axis("dim", dim, "x", shape_of(x)))


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes from start_dim to end_dim, both included, as one."""
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
    """The affine map x @ weight.T + bias: x (..., in), weight (out, in), bias (out,)."""
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
    """The normalised weight * (x - mean) / sqrt(var + eps) + bias, per channel of x (N, C, *spatial).

    Args:
        x: (N, C, *spatial). weight, bias: (C,).
        running_mean, running_var: arrays (C,) that stand for mean and variance when not training, and that
            training updates in place with the factor `momentum` (the variance without bias, as PyTorch does).
        training: take mean and variance from x.
    """
    running = {"running_mean": running_mean, "running_var": running_var}
    return apply("batch_norm", x, weight, bias, training=training, momentum=momentum, eps=eps, **running)


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Zero each element with probability p and divide the others by 1 - p; x itself when not training."""
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
    """The negative log-likelihood -log(softmax(x)[target]), averaged or summed over the batch.

    Args:
        x: logits (N, K) or (N, K, *spatial).
        target: integer labels (N,) or (N, *spatial), in 0..K-1 or ignore_index: an array, or a Tensor.
        weight: (K,), a factor for each class; "mean" then divides by the sum of the factors.
        ignore_index: the label without loss and gradient, which the mean does not count.
        reduction: "mean", "sum" or "none".
        label_smoothing: the share, 0 to 1, of each label that is spread evenly over all classes.
    """
    labels = target.data if isinstance(target, Tensor) else target
    options = {"label_smoothing": label_smoothing, "reduction": reduction}
    return apply("cross_entropy", x, labels=labels, weight=weight, ignore_index=ignore_index, **options)


def mse_loss(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """The squares (x - target)**2, averaged ("mean"), summed ("sum") or kept apart ("none")."""
    return apply("mse", x, target, reduction=reduction)


# Convolutions and pools of any number of axes; conv1d, conv2d ... below are these with the number checked.


def conv(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """The cross-correlation of x with weight, plus bias.

        y[n, k, o] = bias[k] + sum over c, t of  weight[k, c, t] * x[n, c, stride*o + dilation*t - padding]

    Args:
        x: (N, C, *spatial). weight: (K, C/groups, *kernel). bias: (K,) or None.
        stride, dilation: int or one per axis.
        padding: int, one per axis, one (low, high) pair per axis, "same" or "valid".
        groups: number of independent channel groups.
    """
    return apply("conv", x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)


def conv_transpose(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The adjoint of a cross-correlation, applied to x, plus bias.

    Args:
        x: (N, C, *spatial). weight: (C, K/groups, *kernel). bias: (K,) or None.
        stride, dilation: int or one per axis.
        padding: int, one per axis, or one (low, high) pair per axis.
        output_padding: added to the high end of the output.
        groups: number of independent channel groups.
    """
    settings = {"stride": stride, "padding": padding, "output_padding": output_padding}
    return apply("conv_transpose", x, weight, bias, dilation=dilation, groups=groups, **settings)


def max_pool(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    """The largest element of each window of x (N, C, *spatial); a stride of None is the kernel size."""
    settings = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
    return apply("max_pool", x, dilation=dilation, ceil_mode=ceil_mode, **settings)


def avg_pool(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of x (N, C, *spatial), padding counted unless count_include_pad is False."""
    settings = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    how = {"count_include_pad": count_include_pad, "divisor_override": divisor_override}
    return apply("avg_pool", x, **settings, **how)


def adaptive_avg_pool(x: Any, output_size: Any) -> Tensor:
    """The means of a grid of output_size windows over x (N, C, *spatial); None keeps an axis as it is."""
    spatial = shape_of(x)[2:]
    sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * len(spatial)
    if len(sizes) == len(spatial):
        sizes = tuple(own if size is None else size for size, own in zip(sizes, spatial, strict=True))
    return apply("adaptive_avg_pool", x, output_size=tuple(sizes))


def _over(
    axes: int, operation: Callable[Concatenate[Any, _P], Tensor]
) -> Callable[Concatenate[Any, _P], Tensor]:
    """`operation` for inputs of just `axes` spatial axes, under the name with the number: conv -> conv2d."""
    name = f"{operation.__name__}{axes}d"

    @wraps(operation)
    def limited(x: Any, /, *arguments: _P.args, **options: _P.kwargs) -> Tensor:
        if len(shape_of(x)) != axes + 2:
            raise ValueError(
                f"x of {name} has shape {shape_of(x)}, and {axes + 2} axes are needed: (N, C, *spatial) with "
                f"{axes} spatial."
            )
        return operation(x, *arguments, **options)

    limited.__name__ = limited.__qualname__ = name
    return limited


conv1d, conv2d, conv3d = (_over(axes, conv) for axes in (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = (_over(axes, conv_transpose) for axes in (1, 2, 3))
max_pool1d, max_pool2d, max_pool3d = (_over(axes, max_pool) for axes in (1, 2, 3))
avg_pool1d, avg_pool2d, avg_pool3d = (_over(axes, avg_pool) for axes in (1, 2, 3))
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (
    _over(axes, adaptive_avg_pool) for axes in (1, 2, 3)
)
