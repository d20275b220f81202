"""The pairs that choose and rearrange elements, as views where possible: getitem, reshape, transpose."""

from __future__ import annotations

import operator
from math import prod
from typing import Any, NamedTuple

import numpy as np

from backlit.graph.arithmetic import Shape
from backlit.ops.arrays import Array, from_sequence, zeros


class Selection(NamedTuple):
    """What the backward of getitem needs: where elements came from, and whether one may have come twice."""

    shape: Shape
    index: Any
    repeats: bool


class Before(NamedTuple):
    """What the backward of reshape needs: the shape before."""

    shape: Shape


class Order(NamedTuple):
    """What the backward of transpose needs: the axes that bring the old order back."""

    axes: Shape


def getitem_forward(x: Array, *, index: Any) -> tuple[Array, Selection]:
    """Select y = x[index]: integers, slices, ..., None, integer arrays and boolean masks."""
    parts = tuple(_part(part) for part in (index if isinstance(index, tuple) else (index,)))
    try:
        y = np.asarray(x[parts])
    except IndexError as error:
        raise IndexError(
            f"index {_shown(index)} does not fit a tensor of shape {x.shape}: {error}."
        ) from None
    repeats = any(
        isinstance(part, np.ndarray) and part.dtype.kind in "iu" and part.ndim > 0 for part in parts
    )
    return y, Selection(x.shape, parts, repeats)


def getitem_backward(dy: Array, cache: Selection) -> Array:
    """Give dx: dy at the positions that were taken, their sum where one was taken twice, and 0 elsewhere."""
    if not cache.repeats:
        dx = zeros(cache.shape, dy.dtype)
        dx[cache.index] = dy
        return dx
    positions = np.arange(prod(cache.shape)).reshape(cache.shape)[cache.index]
    sums = np.zeros(prod(cache.shape))  # float64: one element may have been taken a million times
    np.add.at(sums, positions.reshape(-1), dy.reshape(-1).astype(np.float64))  # one axis is its fast case
    return sums.astype(dy.dtype, copy=False).reshape(cache.shape)


def _part(part: Any) -> Any:
    """One component of an index, lists turned into arrays, so that it means the same in the backward."""
    if part is None or part is Ellipsis or isinstance(part, (int, np.integer)):
        return part
    if isinstance(part, slice):
        _check_slice(part)
        return part
    if isinstance(part, list):
        try:
            array = from_sequence("it", part)
        except ValueError:
            raise ValueError("index holds a list that selects nothing: make its rows equally long.") from None
        return array if array.size else array.astype(np.intp)
    if isinstance(part, (np.ndarray, np.bool_)):
        return np.asarray(part)
    raise TypeError(
        f"index holds a {type(part).__name__}, and integers, slices, ..., None, integer arrays and "
        f"boolean masks are what selects elements: pass a NumPy array of integers or bools."
    )


def _check_slice(part: slice) -> None:
    """Raise unless a slice is of integers, with a step that leads somewhere."""
    ends = ["" if end is None else str(end) for end in (part.start, part.stop, part.step)]
    text = ":".join(ends if ends[2] else ends[:2])
    for end in (part.start, part.stop, part.step):
        if end is not None and not hasattr(end, "__index__"):
            raise TypeError(f"index holds the slice {text}, and its parts have to be integers or left out.")
    if part.step is not None and operator.index(part.step) == 0:
        raise ValueError(f"index holds the slice {text}, and its step has to be an integer that is not 0.")


def _shown(index: Any) -> str:
    text = " ".join(repr(index).split())
    return text if len(text) <= 80 else text[:77] + "..."


def reshape_forward(x: Array, *, shape: Shape) -> tuple[Array, Before]:
    """Give the elements, in row-major order, another shape, of which one size may be -1."""
    try:
        if any(size < -1 for size in shape):  # NumPy infers any negative one
            raise ValueError
        return x.reshape(shape), Before(x.shape)
    except (ValueError, TypeError):
        raise ValueError(
            f"shape {shape} cannot hold the {x.size} elements of a tensor of shape {x.shape}: the product "
            f"of its sizes, all integers, has to be {x.size}, or one of them -1."
        ) from None


def reshape_backward(dy: Array, cache: Before) -> Array:
    """Give dx = dy in the shape before: a view of dy."""
    return dy.reshape(cache.shape)


def transpose_forward(x: Array, *, axes: Shape | None = None) -> tuple[Array, Order]:
    """Bring the axes into another order, reversed where none is given."""
    order = tuple(range(x.ndim))[::-1] if axes is None else axes
    try:
        y = x.transpose(order)
    except (ValueError, TypeError):
        raise ValueError(
            f"axes {order} does not name each of the {x.ndim} axes of a tensor of shape {x.shape} once: "
            f"pass the numbers from 0 to {x.ndim - 1} in the order wanted."
        ) from None
    return y, Order(tuple(int(axis) for axis in np.argsort([axis % x.ndim for axis in order])))


def transpose_backward(dy: Array, cache: Order) -> Array:
    """Give dx = dy with its axes in the order before: a view of dy."""
    return dy.transpose(cache.axes)
