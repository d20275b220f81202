"""The pairs that make many elements into one: sum, mean and max, over all axes, one or several."""

from __future__ import annotations

import operator
from math import prod
from typing import NamedTuple

import numpy as np

from backlit.graph.arithmetic import Shape, total
from backlit.ops.arguments import as_flag
from backlit.ops.arrays import Array, zeros

Axis = int | tuple[int, ...] | None


class Reduced(NamedTuple):
    """What the backward of sum and mean needs: the shape before, and the same with size 1 where axes went."""

    shape: Shape
    kept: Shape


class Largest(NamedTuple):
    """What the backward of max needs: the shape before, the axes that went, and where the largest stood."""

    shape: Shape
    axes: Shape
    position: Array  # the kept axes in order; a row-major position within the axes that went


def sum_forward(x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array, Reduced]:
    """Sum over axis."""
    keepdims, axes = as_flag("keepdims", keepdims), _axes("sum", axis, x.shape)
    return total(x, axes, keepdims=keepdims), Reduced(x.shape, _kept(x.shape, axes))


def sum_backward(dy: Array, cache: Reduced) -> Array:
    """Give dx = dy, repeated along the axes that were summed: a view of dy."""
    return np.broadcast_to(dy.reshape(cache.kept), cache.shape)


def mean_forward(x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array, Reduced]:
    """Average over axis."""
    keepdims, axes = as_flag("keepdims", keepdims), _axes("mean", axis, x.shape)
    _some("mean", x.shape, axes)
    cache = Reduced(x.shape, _kept(x.shape, axes))
    return np.asarray(total(x, axes, keepdims=keepdims) / _averaged(cache)), cache


def mean_backward(dy: Array, cache: Reduced) -> Array:
    """Give dx = dy / n, repeated along the axes that were averaged, where n elements went into each mean."""
    return np.broadcast_to(np.asarray(dy / _averaged(cache)).reshape(cache.kept), cache.shape)


def max_forward(x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array, Largest]:
    """Find the largest element over axis; NaN where there is one."""
    keepdims, axes = as_flag("keepdims", keepdims), _axes("max", axis, x.shape)
    _some("max", x.shape, axes)
    rows = _rows(x, axes)  # (*sizes of the axes that stay, elements to choose from)
    position = np.asarray(rows.argmax(axis=-1))  # the first of several, and NaN counts as the largest
    y = np.take_along_axis(rows, position[..., None], axis=-1)[..., 0]
    return y.reshape(_kept(x.shape, axes)) if keepdims else y, Largest(x.shape, axes, position)


def max_backward(dy: Array, cache: Largest) -> Array:
    """Give dx: dy at the largest element, the first in row-major order of several, and 0 elsewhere."""
    shape, axes, position = cache
    dx = zeros(shape, dy.dtype)
    stay = tuple(axis for axis in range(len(shape)) if axis not in axes)
    place = np.unravel_index(position, tuple(shape[axis] for axis in axes)) if axes else ()
    index: list[Array] = [np.empty(0)] * len(shape)
    for axis, along in zip(axes, place, strict=True):
        index[axis] = along
    for axis, along in zip(stay, np.ogrid[tuple(slice(size) for size in position.shape)], strict=True):
        index[axis] = along
    dx[tuple(index)] = dy.reshape(position.shape)
    return dx


def _rows(x: Array, axes: Shape) -> Array:
    """x (any shape) with the axes that stay first, and all others as the one last axis."""
    stay = tuple(axis for axis in range(x.ndim) if axis not in axes)
    kept = tuple(x.shape[axis] for axis in stay)
    return x.transpose(stay + axes).reshape((*kept, prod(x.shape[axis] for axis in axes)))


def _averaged(cache: Reduced) -> int:
    """How many elements go into each mean."""
    return max(prod(cache.shape) // max(prod(cache.kept), 1), 1)


def _kept(shape: Shape, axes: Shape) -> Shape:
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape))


def _some(rule: str, shape: Shape, axes: Shape) -> None:
    if prod(shape) == 0 and prod(shape[axis] for axis in axes) == 0:
        raise ValueError(
            f"{rule} over axis {axes} of a tensor of shape {shape} has no elements to choose from: "
            f"leave empty batches out."
        )


def _axes(rule: str, axis: Axis, shape: Shape) -> Shape:
    """The axes as non-negative numbers in ascending order."""
    if axis is None:
        return tuple(range(len(shape)))
    given = axis if isinstance(axis, tuple) else (axis,)
    try:
        if any(isinstance(one, bool) for one in given):
            raise TypeError
        numbers = [operator.index(one) for one in given]
    except TypeError:
        raise TypeError(
            f"axis of {rule} is {axis!r}, and an integer, a tuple of integers or None is needed."
        ) from None
    for number in numbers:
        if not -len(shape) <= number < len(shape):
            raise ValueError(
                f"axis of {rule} is {number}, and a tensor of shape {shape} has {len(shape)} axes: "
                f"{f'pass -{len(shape)} to {len(shape) - 1}' if shape else 'leave axis out'}."
            )
    axes = tuple(sorted(number % len(shape) for number in numbers))
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis of {rule} is {axis!r}, which names an axis twice: name each once.")
    return axes
