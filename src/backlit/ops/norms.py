"""The batch normalisation pair: each channel brought to mean 0 and variance 1, then to beta and gamma."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from backlit.ops.arguments import as_flag, as_number
from backlit.ops.arrays import Array, as_array, as_upstream, check_cache, empty
from backlit.sizes import check_layout

__all__ = ["BatchNormCache", "batch_norm_backward", "batch_norm_forward"]


@dataclass(frozen=True, slots=True, eq=False)
class BatchNormCache:
    """What batch_norm_backward needs: x, gamma, and for each channel what it was shifted and scaled by."""

    x: Array
    gamma: Array | None  # (C,)
    has_beta: bool
    mean: Array  # (C,) float64
    inverse: Array  # (C,) float64: 1 / sqrt(var + eps)
    channel_axis: int
    training: bool


def batch_norm_forward(
    x: Any,
    gamma: Any | None = None,
    beta: Any | None = None,
    *,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    layout: str = "channels_first",
) -> tuple[Array, BatchNormCache]:
    """Normalise each channel over the batch and all positions, then scale by gamma and shift by beta.

        y = gamma * (x - mean) / sqrt(var + eps) + beta

    In training, mean and var are those of the m values that each channel has in x, var with the divisor m;
    the running arrays, when given, are updated IN PLACE, the only inputs that any pair writes to, and only
    once y is complete:

        running_mean <- (1 - momentum) * running_mean + momentum * mean
        running_var  <- (1 - momentum) * running_var  + momentum * var * m / (m - 1)

    In evaluation, mean and var are the running arrays. Statistics are computed in float64, in two passes.

    Args:
        x: (N, C) or (N, C, *spatial); (N, *spatial, C) with layout="channels_last". float32 or float64.
        gamma: (C,) of x's dtype, or None for 1.
        beta: (C,) of x's dtype, or None for 0.
        running_mean: (C,) NumPy array of x's dtype; together with running_var, or neither.
        running_var: (C,) NumPy array of x's dtype, nowhere negative.
        training: whether to use x's own statistics; False needs both running arrays.
        momentum: the weight of the new statistics in the running ones, from 0 to 1.
        eps: added to the variance, at least 0; with 0, a channel that never varies is an error.
        layout: "channels_first" or "channels_last".

    Returns:
        y of x's shape, and the cache for batch_norm_backward, which keeps x and gamma.

    Raises:
        TypeError: an argument is of the wrong kind, or precisions differ.
        ValueError: the shapes do not fit; training finds fewer than two values per channel in x; evaluation finds
            no running arrays; a running array cannot be written to, overlaps another input, or is a negative
            variance; eps is 0 and so is a variance.

    Source:
        S. Ioffe and C. Szegedy, "Batch normalization", 2015; the running arrays as in PyTorch.

    Example:
        >>> y, cache = batch_norm_forward([[1.0, 5.0], [3.0, 5.0]], eps=1e-12)
        >>> print(y.round(6))
        [[-1.  0.]
         [ 1.  0.]]
    """
    x = as_array("x", x)
    layout = check_layout(layout)
    training = as_flag("training", training)
    momentum = as_number("momentum", momentum, 0, 1)
    eps = as_number("eps", eps, 0, np.inf, below=True)
    channel_axis = _channel_axis(x, layout)
    channels = x.shape[channel_axis]
    if gamma is not None:
        gamma = _per_channel("gamma", as_array("gamma", gamma, dtype=x.dtype), channels)
    if beta is not None:
        beta = _per_channel("beta", as_array("beta", beta, dtype=x.dtype), channels)
    running = _running(running_mean, running_var, x, channels, training)
    for name, array in (("x", x), ("gamma", gamma), ("beta", beta)):
        if training and running and array is not None and any(np.may_share_memory(r, array) for r in running):
            raise ValueError(f"{name} overlaps a running array, which is written to: pass {name}.copy().")
    count = x.size // channels  # m, values per channel
    if training and count < 2:
        raise ValueError(
            f"x has shape {x.shape} and so {count} value{'' if count == 1 else 's'} per channel, and training needs "
            f"at least 2 for a variance: pass a larger batch, or training=False."
        )

    y = empty(x.shape, x.dtype)
    with np.errstate(all="ignore"):
        mean, var = _moments(x, channel_axis, y) if training else _as_float64(running)
        _check_variance(var, eps)
        inverse = 1 / np.sqrt(var + eps)
        scale = inverse if gamma is None else inverse * gamma
        center = mean.astype(x.dtype)
        shift = (center - mean) * scale  # what rounding the mean took away
        if beta is not None:
            shift += beta
        np.subtract(x, _along(center, channel_axis, x), out=y)
        y *= _along(scale, channel_axis, x)
        y += _along(shift, channel_axis, x)
        if training and running:
            new_mean = (1 - momentum) * running[0].astype(np.float64) + momentum * mean
            new_var = (1 - momentum) * running[1].astype(np.float64) + momentum * var * (count / (count - 1))
            running[0][...], running[1][...] = new_mean, new_var
    return y, BatchNormCache(x, gamma, beta is not None, mean, inverse, channel_axis, training)


def batch_norm_backward(dy: Any, cache: BatchNormCache) -> tuple[Array, Array | None, Array | None]:
    """The gradients of batch_norm_forward's x, gamma and beta.

    With xhat = (x - mean) / sqrt(var + eps), and sums and means over the m values of a channel:

        dbeta  = sum of dy
        dgamma = sum of dy * xhat
        dx     = gamma / sqrt(var + eps) * (dy - mean of dy - xhat * mean of (dy * xhat))   in training
        dx     = gamma / sqrt(var + eps) * dy                                               in evaluation

    In training the two means are what x contributes through its own mean and variance; in evaluation these
    are constants.

    Args:
        dy: the upstream gradient, of y's shape.
        cache: from batch_norm_forward.

    Returns:
        (dx, dgamma, dbeta) of the shapes x, (C,), (C,); None for the gamma or beta that was not given.

    Raises:
        TypeError, ValueError: dy is not of y's dtype and shape, or the cache is of another operation.

    Source:
        S. Ioffe and C. Szegedy, "Batch normalization", 2015, section 3, with its sums taken together.

    Example:
        >>> y, cache = batch_norm_forward([[1.0], [3.0]], [2.0], [0.0], eps=1e-12)
        >>> dx, dgamma, dbeta = batch_norm_backward([[1.0], [0.5]], cache)
        >>> print(dgamma.round(6), dbeta.round(6))
        [-0.5] [1.5]
    """
    cache = check_cache("batch_norm", cache, BatchNormCache)
    x, axis, inverse = cache.x, cache.channel_axis, cache.inverse
    dy = as_upstream("dy", dy, x.shape, x.dtype)
    dx = empty(x.shape, x.dtype)
    with np.errstate(all="ignore"):
        scale = inverse if cache.gamma is None else inverse * cache.gamma
        center = cache.mean.astype(x.dtype)
        rest = cache.mean - center
        centered = np.subtract(x, _along(center, axis, x), out=np.empty(x.shape, x.dtype))
        np.multiply(dy, centered, out=dx)
        total = _sum(dy, axis)
        dot = (_sum(dx, axis) - rest * total) * inverse  # sum of dy * xhat
        np.multiply(dy, _along(scale, axis, x), out=dx)
        if cache.training:
            count = x.size // x.shape[axis]
            slope = dot * inverse / count
            centered *= _along(scale * slope, axis, x)
            dx -= centered
            dx -= _along(scale * (total / count - rest * slope), axis, x)
        dgamma = None if cache.gamma is None else _result(dot, x.dtype)
        dbeta = _result(total, x.dtype) if cache.has_beta else None
    return dx, dgamma, dbeta


def _moments(x: Array, channel_axis: int, scratch: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel, (C,) float64: first the mean, then what is left around it."""
    count = x.size // x.shape[channel_axis]
    mean = _sum(x, channel_axis) / count
    if x.dtype == mean.dtype:  # the sum had no digits to spare: once more, around its result
        np.subtract(x, _along(mean, channel_axis, x), out=scratch)
        mean += _sum(scratch, channel_axis) / count
    center = mean.astype(x.dtype)
    np.subtract(x, _along(center, channel_axis, x), out=scratch)
    squares = _sum(np.square(scratch, out=scratch), channel_axis)
    if not np.isfinite(squares).all():  # float32 squares overflow from 2e19 on
        np.subtract(x, _along(center, channel_axis, x), out=scratch)
        squares = _sum(np.square(scratch, dtype=np.float64), channel_axis)
    return mean, np.maximum(squares / count - (mean - center) ** 2, 0)


def _sum(values: Array, channel_axis: int) -> Array:
    """The sum of each channel, (C,), accumulated in float64."""
    axes = tuple(axis for axis in range(values.ndim) if axis != channel_axis)
    result: Array = np.add.reduce(values, axis=axes, dtype=np.float64)
    return result


def _along(per_channel: Array, channel_axis: int, x: Array) -> Array:
    """(C,) in x's dtype, shaped so that it broadcasts against x."""
    shape = [1] * x.ndim
    shape[channel_axis] = -1
    return per_channel.astype(x.dtype, copy=False).reshape(shape)


def _result(per_channel: Array, dtype: np.dtype[Any]) -> Array:
    """(C,) as a fresh aligned array of this dtype."""
    result = empty(per_channel.shape, dtype)
    result[...] = per_channel
    return result


def _channel_axis(x: Array, layout: str) -> int:
    """Which axis of x holds the channels, once x is known to have a batch axis and values in every channel."""
    spatial = "(N, C) or (N, C, *spatial)" if layout == "channels_first" else "(N, C) or (N, *spatial, C)"
    if x.ndim < 2:
        raise ValueError(
            f"x has shape {x.shape}, and {spatial} is needed: pass x.reshape(-1, 1) for one channel."
        )
    if 0 in x.shape[1:]:
        raise ValueError(f"x has shape {x.shape}, and of {spatial} only N may be 0.")
    return 1 if layout == "channels_first" else x.ndim - 1


def _per_channel(name: str, array: Array, channels: int) -> Array:
    if array.shape != (channels,):
        raise ValueError(
            f"{name} has shape {array.shape}, and x with {channels} channel{'' if channels == 1 else 's'} "
            f"needs ({channels},)."
        )
    return array


def _running(mean: Any, var: Any, x: Array, channels: int, training: bool) -> tuple[Array, Array] | None:
    """Both running arrays, known to be of the right kind (and in training to be writable), or None."""
    if mean is None and var is None and training:
        return None
    for name, value in (("running_mean", mean), ("running_var", var)):
        if value is None:
            reason = "running_mean and running_var go together" if training else "training=False needs it"
            raise ValueError(f"{name} is None, and {reason}: pass an array of shape ({channels},).")
        _per_channel(name, as_array(name, value, dtype=x.dtype), channels)
        if not training:
            continue
        if not isinstance(value, np.ndarray) or not value.dtype.isnative:
            raise TypeError(
                f"{name} is a {type(value).__name__}, and training updates it in place: "
                f"pass a NumPy array of native byte order."
            )
        if not value.flags.writeable:
            raise ValueError(f"{name} is read-only, and training updates it in place: pass {name}.copy().")
    mean, var = as_array("running_mean", mean), as_array("running_var", var)
    if training and np.shares_memory(mean, var):
        raise ValueError(
            "running_mean and running_var share memory, and each is updated in place: pass two arrays."
        )
    if (var < 0).any():
        channel = int(np.argmax(var < 0))
        raise ValueError(
            f"running_var[{channel}] is {var[channel]:g}, and a variance is at least 0: "
            f"start from np.ones({channels})."
        )
    return mean, var


def _as_float64(running: tuple[Array, Array] | None) -> tuple[Array, Array]:
    assert running is not None  # _running has seen to it where training is False
    mean, var = running
    return mean.astype(np.float64), var.astype(np.float64)


def _check_variance(var: Array, eps: float) -> None:
    """Fail where nothing keeps the division by the standard deviation from being one by zero."""
    if eps == 0 and (var == 0).any():
        channel = int(np.argmax(var == 0))
        raise ValueError(f"eps is 0, and so is the variance of channel {channel}: pass eps=1e-5.")
