"""Sizes as arguments give them: one int or one per axis, checked to be integers that 64 bits can hold."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

LAYOUTS = ("channels_first", "channels_last")
INT64_MAX = 2**63 - 1

Sizes = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def check_layout(layout: Any) -> str:
    """The layout itself, once it is known to be one."""
    if not isinstance(layout, str) or layout not in LAYOUTS:
        raise ValueError(f"layout is {shown(layout)}, and it has to be 'channels_first' or 'channels_last'.")
    return str(layout)


def check_input_shape(x_shape: Sizes, layout: str) -> None:
    """Raise ValueError unless x has a batch, channels and one to three spatial axes, all but the batch at least 1."""
    if not 3 <= len(x_shape) <= 5 or 0 in x_shape[1:]:
        raise ValueError(
            f"x has shape {tuple(x_shape)}, and it has to be {wanted_shape('x', layout)} "
            f"of one to three spatial axes; only the batch N may be 0."
        )


def window_extent(kernel: int, dilation: int) -> int:
    """The number of input positions that a dilated kernel spans: dilation*(kernel - 1) + 1."""
    extent = dilation * (kernel - 1) + 1
    check_fits(f"a kernel of size {kernel} under dilation {dilation}", extent, "positions")
    return extent


def output_size(size: int, extent: int, stride: int, low: int, high: int) -> int:
    """floor((size + low + high - extent) / stride) + 1, or the error that tells why there is no output."""
    padded = size + low + high
    check_fits(f"an input of size {size} under padding {low} + {high}", padded, "positions")
    if padded < extent:
        raise ValueError(
            f"kernel_size spans {extent} positions on an axis, and the padded input has {max(padded, 0)} "
            f"({size} + {low} + {high}): use a smaller kernel or dilation, or more padding."
        )
    return (padded - extent) // stride + 1


def integer(name: str, value: Any, minimum: int | None) -> int:
    """`value` as an int; a bool, a float or a number out of range is an error."""
    if not is_integer(value):
        raise TypeError(f"{name} is {shown(value)}, and an integer is needed.")
    result = index(value)
    check_fits(name, abs(result), "")
    if minimum is not None and result < minimum:
        raise ValueError(f"{name} is {result}, and it has to be at least {minimum}.")
    return result


def is_integer(value: Any) -> bool:
    """Whether a value is one integer, of Python, NumPy or anyone else; a bool is none."""
    if isinstance(value, bool) or type(value).__name__ == "bool":  # NumPy's bool too
        return False
    try:
        index(value)
    except Exception:  # whatever a foreign __index__ raises
        return False
    return True


def per_axis(name: str, value: Any, axes: int | None, minimum: int) -> Sizes:
    """`value` as one int per axis; a single int stands for all axes. axes=None takes one to three."""
    values = _listed(value)
    if values is None:
        return (integer(name, value, minimum),) * (axes or 1)
    if len(values) != axes if axes is not None else not 1 <= len(values) <= 3:
        wanted = f"{axes}, one per axis" if axes is not None else "one to three"
        raise ValueError(f"{name} is {shown(value)} with {len(values)} values, and {wanted}, are needed.")
    return tuple(integer(name, v, minimum) for v in values)


def _listed(value: Any) -> tuple[Any, ...] | None:
    """The values of a tuple, list or array of one axis, or None for what is to be taken as one value."""
    if isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        return tuple(value)
    return None


def padding_pairs(padding: Any, size: Sizes, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Pads:
    """`padding` as one (low, high) pair per axis."""
    axes = len(size)
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * axes
        if padding != "same":
            raise ValueError(f"padding is {shown(padding)}, and the words it may be are 'same' and 'valid'.")
        totals = (
            max((-(-i // s) - 1) * s + window_extent(k, d) - i, 0)
            for i, k, s, d in zip(size, kernel, stride, dilation, strict=True)
        )
        return tuple((total // 2, total - total // 2) for total in totals)
    values = _listed(padding)
    if values is None:
        pad = integer("padding", padding, None)
        return ((pad, pad),) * axes
    if len(values) != axes:
        pair = f" (for a low and a high pad on one axis write ({shown(padding)},))" if axes == 1 else ""
        raise ValueError(
            f"padding is {shown(padding)}, and an int, {axes} ints or {axes} (low, high) pairs, one per axis, "
            f"'same' or 'valid' are needed{pair}."
        )
    result = []
    for value in values:
        pair_of = _listed(value) or (value, value)
        if len(pair_of) != 2:
            raise ValueError(
                f"padding is {shown(padding)}, and each axis takes one int or a (low, high) pair."
            )
        result.append((integer("padding", pair_of[0], None), integer("padding", pair_of[1], None)))
    return tuple(result)


def check_fits(what: str, value: int, unit: str) -> None:
    """Raise OverflowError where a size is beyond 64 bits."""
    if value > INT64_MAX:
        size = f"{value:.3g}" if value < 10**300 else "more than 1e+300"
        raise OverflowError(
            f"{what} comes to {size} {unit}".rstrip() + ", more than 64 bits can count (2**63 - 1)."
        )


def shown(value: Any) -> str:
    """`value` for a message, cut to a length that a line can hold."""
    try:
        text = repr(value)
    except Exception:  # an integer of thousands of digits, or a foreign __repr__
        text = f"a {type(value).__name__} too long to show"
    return text if len(text) <= 80 else text[:77] + "..."


def wanted_shape(name: str, layout: str, transposed: bool = False) -> str:
    """The shape that `name` should have, in words."""
    major, minor = ("C", "K/groups") if transposed else ("K", "C/groups")
    if layout == "channels_first":
        return f"{name} (N, C, *spatial)" if name == "x" else f"{name} ({major}, {minor}, *kernel)"
    return f"{name} (N, *spatial, C)" if name == "x" else f"{name} (*kernel, {minor}, {major})"
