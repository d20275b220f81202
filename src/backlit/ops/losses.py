"""The losses, pairs whose result is a number: cross-entropy on class labels, and the mean squared error."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from backlit.ops.arguments import as_choice, as_number
from backlit.ops.arrays import Array, as_array, as_integers, as_upstream, check_cache, empty
from backlit.ops.softmax import shifted
from backlit.sizes import integer

__all__ = [
    "CrossEntropyCache",
    "MseCache",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "mse_backward",
    "mse_forward",
]

_REDUCTIONS = ("mean", "sum", "none")


@dataclass(frozen=True, slots=True, eq=False)
class CrossEntropyCache:
    """What cross_entropy_backward needs: the probabilities as numerators and denominators, and the targets."""

    e: Array  # (N, K, S): exp(logits - max(logits)), S = prod(spatial)
    s: Array  # (N, S) float64: the sum of e over the classes
    labels: Array  # (N, S) integers, 0 where ignored
    ignored: Array | None  # (N, S) bools; None where no label is
    weight: Array | None  # (K,) float64
    label_smoothing: float
    divisor: float  # of the mean; 1 for the other reductions
    shape: tuple[int, ...]  # of the logits
    loss_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class MseCache:
    """What mse_backward needs: the differences."""

    difference: Array  # prediction - target
    divisor: int  # of the mean; 1 for the other reductions
    loss_shape: tuple[int, ...]


def cross_entropy_forward(
    logits: Any,
    labels: Any,
    *,
    weight: Any | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[Array, CrossEntropyCache]:
    """How surprised the softmax of the logits is by the labels.

        loss[n] = - sum over k of t[n, k] * log(softmax(logits[n])[k])
        t[n, k] = weight[k] * ((1 - label_smoothing) * [k == labels[n]] + label_smoothing / K)

    The mean divides the sum of loss[n] by the sum of weight[labels[n]], as PyTorch does; without weights that
    is the number of labels. Where the logits have spatial axes, every position has a label of its own. A label
    that is ignore_index has no loss, gives no gradient and does not count in the mean.

    Args:
        logits: (N, K) or (N, K, *spatial), float32 or float64.
        labels: (N,) or (N, *spatial), integers from 0 to K - 1, or ignore_index.
        weight: (K,) of the logits' dtype, finite and at least 0: what each class counts; None for 1.
        ignore_index: the label of what has no right answer, such as padding; it may be a class, too.
        label_smoothing: the part of the target that is spread over all classes, from 0 to 1.
        reduction: "mean", "sum", or "none" for the loss of each label.

    Returns:
        loss, a 0-d array of the logits' dtype (for "none" of the labels' shape), and the cache for
        cross_entropy_backward. Overwriting logits or labels afterwards does not disturb it.

    Raises:
        TypeError: the labels are no integers, or another argument is of the wrong kind or precision.
        ValueError: the shapes do not fit, a label is out of range, or a mean is asked for that does not exist:
            that of an empty batch, of labels that are all ignored (PyTorch gives NaN), or of labels whose
            weights are all 0.

    Source:
        J. Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990; the smoothing:
        C. Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016.

    Example:
        >>> loss, cache = cross_entropy_forward([[0.0, np.log(3.0)]], [1])
        >>> print(loss.round(6), np.log(4 / 3).round(6))
        0.287682 0.287682
    """
    logits = as_array("logits", logits)
    reduction = as_choice("reduction", reduction, _REDUCTIONS)
    smoothing = as_number("label_smoothing", label_smoothing, 0, 1)
    ignored_label = integer("ignore_index", ignore_index, None)
    labels, ignored = _labels(labels, _checked_shape(logits), ignored_label)
    weights = None if weight is None else _weights(weight, logits)
    if reduction == "mean" and labels.size == 0:
        raise ValueError(
            f"logits has shape {logits.shape}, and the mean of no losses does not exist: "
            f'skip the empty batch, or pass reduction="sum".'
        )
    if reduction == "mean" and ignored is not None and ignored.all():
        raise ValueError(
            f"labels are all {ignored_label}, the ignore_index, and the mean of no losses does not exist: "
            f'skip the batch, or pass reduction="sum".'
        )
    batch, classes, *spatial = logits.shape
    loss_shape = labels.shape if reduction == "none" else ()
    labels = labels.reshape(batch, prod(spatial))
    ignored = None if ignored is None else ignored.reshape(labels.shape)

    with np.errstate(all="ignore"):
        divisor = 1.0
        if reduction == "mean":
            counted = labels if ignored is None else labels[~ignored]
            divisor = float(counted.size if weights is None else weights[counted].sum())
        if divisor == 0:
            raise ValueError(
                "weight is 0 for every label that occurs, and then their weighted mean does not exist: "
                'give one of them a weight above 0, or pass reduction="sum".'
            )
        e = shifted(logits, 1).reshape(batch, classes, prod(spatial))
        at_label = e.reshape(-1).take(_positions(labels, classes)).astype(np.float64)
        everywhere = _over_classes(e, weights) if smoothing else None
        np.exp(e, out=e)
        s = np.add.reduce(e, axis=1, dtype=np.float64)
        log_s = np.log(s)
        losses = log_s - at_label  # (N, S)
        if weights is not None:
            losses *= weights[labels]
        if everywhere is not None:
            total = classes if weights is None else weights.sum()
            losses *= 1 - smoothing
            losses += smoothing / classes * (total * log_s - everywhere)
        if ignored is not None:
            losses[ignored] = 0
        loss = empty(loss_shape, logits.dtype)
        loss[...] = (
            losses.reshape(loss_shape) if reduction == "none" else np.add.reduce(losses, axis=None) / divisor
        )
    return loss, CrossEntropyCache(
        e, s, labels, ignored, weights, smoothing, divisor, logits.shape, loss_shape
    )


def cross_entropy_backward(dloss: Any, cache: CrossEntropyCache) -> Array:
    """The gradient of cross_entropy_forward's logits: what the softmax says minus what the target says.

        dlogits[n, k] = dloss[n] * (softmax(logits[n])[k] * (sum over j of t[n, j]) - t[n, k])

    with t from cross_entropy_forward, 0 for a label that is ignored; without weights the sum over j is 1. Here
    dloss[n] is dloss for "sum", dloss over the mean's divisor for "mean". Labels and weights have no gradient.

    Args:
        dloss: the upstream gradient, a number or 0-d array (1.0 where the loss is the end); for "none" an
            array of the labels' shape.
        cache: from cross_entropy_forward.

    Returns:
        dlogits of the logits' shape.

    Raises:
        TypeError, ValueError: dloss is not of the loss's dtype and shape, or the cache is of another
        operation.

    Source:
        J. Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990; weights and
        smoothing are the derivative of `cross_entropy_forward`'s equations.

    Example:
        >>> loss, cache = cross_entropy_forward([[0.0, np.log(3.0)]], [1])
        >>> print(cross_entropy_backward(1.0, cache).round(6))
        [[ 0.25 -0.25]]
    """
    cache = check_cache("cross_entropy", cache, CrossEntropyCache)
    e, s, labels, weights, smoothing = cache.e, cache.s, cache.labels, cache.weight, cache.label_smoothing
    upstream = _upstream(dloss, cache.loss_shape, e.dtype)
    classes = e.shape[1]
    spread = smoothing / classes
    dlogits = empty(cache.shape, e.dtype)
    result = dlogits.reshape(e.shape)
    with np.errstate(all="ignore"):
        total: Any = classes if weights is None else weights.sum()
        own: Any = 1.0 if weights is None else weights[labels]  # (N, S)
        upstream = np.broadcast_to(
            upstream.reshape(s.shape if cache.loss_shape else ()) / cache.divisor, s.shape
        )
        mass = (1 - smoothing) * own + spread * total  # sum over k of t
        np.multiply(e, (upstream * mass / s).astype(e.dtype)[:, np.newaxis], out=result)
        if smoothing:
            share = (spread * upstream)[:, np.newaxis]  # (N, 1, S)
            result -= (share if weights is None else share * weights[:, np.newaxis]).astype(e.dtype)
        positions = _positions(labels, classes)
        # At the label t cancels most of a confident softmax: in float64, and from softmax - 1.
        missing = e.reshape(-1).take(positions) / s - 1
        result.reshape(-1)[positions] = upstream * (mass * missing + spread * (total - own))
        if cache.ignored is not None:
            np.copyto(result, 0, where=cache.ignored[:, np.newaxis])
    return dlogits


def mse_forward(prediction: Any, target: Any, *, reduction: str = "mean") -> tuple[Array, MseCache]:
    """The squared error, over all elements.

        loss[i] = (prediction[i] - target[i])**2

    Args:
        prediction: any shape, float32 or float64.
        target: the same shape and dtype; nothing is broadcast.
        reduction: "mean" over all elements, "sum", or "none" for the loss of each.

    Returns:
        loss, a 0-d array of the prediction's dtype (for "none" of its shape), and the cache for mse_backward.
        Overwriting prediction or target afterwards does not disturb it.

    Raises:
        TypeError: an argument is no float array, or their precisions differ.
        ValueError: their shapes differ, or a mean is asked for of no elements.

    Source:
        D. Rumelhart, G. Hinton and R. Williams, "Learning representations by back-propagating errors", 1986,
        whose error is half the sum of these squares.

    Example:
        >>> loss, cache = mse_forward([1.0, 2.0], [0.0, 4.0])
        >>> loss
        array(2.5)
    """
    prediction = as_array("prediction", prediction)
    target = as_array("target", target, dtype=prediction.dtype)
    reduction = as_choice("reduction", reduction, _REDUCTIONS)
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction has shape {prediction.shape} and target has shape {target.shape}, and mse takes equal "
            f"shapes: reshape one to the other's."
        )
    if reduction == "mean" and prediction.size == 0:
        raise ValueError(
            f"prediction has shape {prediction.shape}, and the mean of no losses does not exist: "
            f'skip the empty batch, or pass reduction="sum".'
        )
    difference = empty(prediction.shape, prediction.dtype)
    loss = empty(prediction.shape if reduction == "none" else (), prediction.dtype)
    divisor = prediction.size if reduction == "mean" else 1
    with np.errstate(all="ignore"):
        np.subtract(prediction, target, out=difference)
        if reduction == "none":
            np.square(difference, out=loss)
        else:
            loss[...] = np.add.reduce(np.square(difference, dtype=np.float64), axis=None) / divisor
    return loss, MseCache(difference, divisor, loss.shape)


def mse_backward(dloss: Any, cache: MseCache) -> tuple[Array, Array]:
    """The gradients of mse_forward's prediction and target.

        dprediction[i] = 2 * dloss[i] * (prediction[i] - target[i])
        dtarget[i]     = -dprediction[i]

    Here dloss[i] is dloss for "sum", dloss over the number of elements for "mean".

    Args:
        dloss: the upstream gradient, a number or 0-d array (1.0 where the loss is the end); for "none" an
            array of the prediction's shape.
        cache: from mse_forward.

    Returns:
        (dprediction, dtarget), each of the prediction's shape.

    Raises:
        TypeError, ValueError: dloss is not of the loss's dtype and shape, or the cache is of another
        operation.

    Source:
        As `mse_forward`: the derivative of its square.

    Example:
        >>> loss, cache = mse_forward([1.0, 2.0], [0.0, 4.0])
        >>> mse_backward(1.0, cache)
        (array([ 1., -2.]), array([-1.,  2.]))
    """
    cache = check_cache("mse", cache, MseCache)
    difference = cache.difference
    upstream = _upstream(dloss, cache.loss_shape, difference.dtype)
    dprediction = empty(difference.shape, difference.dtype)
    dtarget = empty(difference.shape, difference.dtype)
    with np.errstate(all="ignore"):
        np.multiply(difference, (upstream * (2 / cache.divisor)).astype(difference.dtype), out=dprediction)
        np.negative(dprediction, out=dtarget)
    return dprediction, dtarget


def _upstream(dloss: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """The upstream gradient of a loss in float64; a plain number will do where the loss is one."""
    if shape == () and isinstance(dloss, (int, float)) and not isinstance(dloss, bool):
        return np.array(dloss, np.float64)
    upstream: Array = as_upstream("dloss", dloss, shape, dtype).astype(np.float64)
    return upstream


def _checked_shape(logits: Array) -> tuple[int, ...]:
    """The shape of the logits, known to have classes and positions."""
    if logits.ndim < 2:
        raise ValueError(
            f"logits has shape {logits.shape}, and (N, K) or (N, K, *spatial) is needed: "
            f"pass logits.reshape(1, -1) for one sample."
        )
    if 0 in logits.shape[1:]:
        raise ValueError(f"logits has shape {logits.shape}, and of (N, K, *spatial) only N may be 0.")
    return logits.shape


def _labels(value: Any, shape: tuple[int, ...], ignored_label: int) -> tuple[Array, Array | None]:
    """The labels as a fresh array (N, *spatial) of indices, each known to name one of the K classes.

    Returns:
        The labels, 0 where they are the ignored one, and where that is; None for nowhere.
    """
    labels = as_integers("labels", value)
    classes, needed = shape[1], (shape[0], *shape[2:])
    if labels.shape != needed:
        fix = "pass labels.argmax(axis=1)" if labels.shape == shape else "pass one class index for each"
        raise ValueError(
            f"labels has shape {labels.shape}, and logits of shape {shape} need labels of shape {needed}: {fix}."
        )
    where = np.asarray(labels == ignored_label)
    ignored = where if where.any() else None
    wrong = (labels < 0) | (labels >= classes)
    if ignored is not None:
        wrong &= ~ignored
    if wrong.any():
        position = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise ValueError(
            f"labels[{', '.join(map(str, position))}] is {labels[position]}, and logits of shape {shape} "
            f"have the classes 0 to {classes - 1}."
        )
    indices = labels.astype(np.intp, order="C")
    if ignored is not None:
        indices[ignored] = 0
    return indices, ignored


def _weights(value: Any, logits: Array) -> Array:
    """The class weights as a fresh float64 array (K,), each known to be finite and at least 0."""
    weight = as_array("weight", value, dtype=logits.dtype)
    classes = logits.shape[1]
    if weight.shape != (classes,):
        raise ValueError(
            f"weight has shape {weight.shape}, and logits of shape {logits.shape} need one per class, ({classes},)."
        )
    wrong = ~(np.isfinite(weight) & (weight >= 0))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f"weight[{first}] is {weight[first]:g}, and class weights are finite and at least 0."
        )
    return weight.astype(np.float64)


def _over_classes(scores: Array, weights: Array | None) -> Array:
    """The (weighted) sum of scores (N, K, S) over the classes, (N, S) float64."""
    result: Array
    if weights is None:
        result = np.add.reduce(scores, axis=1, dtype=np.float64)
    else:
        result = np.einsum("nks,k->ns", scores, weights)
    return result


def _positions(labels: Array, classes: int) -> Array:
    """Where in a row-major (N, K, S) array the entry of each label (N, S) lies, as one index."""
    batch, places = labels.shape
    rows = np.arange(0, batch * classes * places, classes * places)
    positions: Array = rows[:, np.newaxis] + labels * places + np.arange(places)
    return positions
