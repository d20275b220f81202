"""The pairs behind + - * / ** @, exp and log, over arrays of one dtype, with NumPy's broadcasting.

What the mathematics leaves open follows IEEE 754, as in the other pairs: 1 / 0 is infinite, 0 / 0 is NaN.
NumPy's warnings about it are for the caller to allow or to silence; `apply` and the sweep silence them.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from backlit.engines.workers import single_blas_thread
from backlit.ops.arrays import Array

Shape = tuple[int, ...]
BOTH = ("da", "db")


class Shapes(NamedTuple):
    """What the backward of add and sub needs: only how far each operand was broadcast."""

    a: Shape
    b: Shape


class Operands(NamedTuple):
    """What the backward of mul, div, pow and matmul needs: the operands themselves."""

    a: Array
    b: Array


class Operand(NamedTuple):
    """What the backward of exp and log needs."""

    x: Array


def unbroadcast(d: Array, shape: Shape) -> Array:
    """The gradient of an operand of this shape: d summed over the axes along which the operand was repeated.

    Broadcasting copies an element a[i] to several places, so its gradient is the sum over these places.
    """
    if d.shape == shape:
        return np.asarray(d)
    new = d.ndim - len(shape)  # axes that broadcasting put in front
    stretched = [new + i for i, size in enumerate(shape) if size == 1 and d.shape[new + i] != 1]
    return total(d, (*range(new), *stretched)).reshape(shape)


def total(x: Array, axes: Shape, *, keepdims: bool = False) -> Array:
    """The sum over some axes, taken in float64 and rounded once.

    NumPy adds along all but the last axis in a plain loop, in which float32 would lose a digit per tenfold length.
    """
    sums = np.asarray(x.sum(axis=axes, dtype=np.float64, keepdims=keepdims))
    return sums.astype(x.dtype, copy=False)


def _misfit(rule: str, a: Array, b: Array) -> ValueError:
    return ValueError(
        f"{rule}: a has shape {a.shape} and b has shape {b.shape}, which do not broadcast: counted from the "
        f"last, each pair of sizes has to be equal or one of them 1. Reshape one, or index it with None."
    )


def add_forward(a: Array, b: Array) -> tuple[Array, Shapes]:
    """Add: y = a + b."""
    try:
        return np.asarray(a + b), Shapes(a.shape, b.shape)
    except ValueError:
        raise _misfit("add", a, b) from None


def add_backward(dy: Array, cache: Shapes) -> tuple[Array, Array]:
    """Give da = dy, db = dy: either may be the array dy itself."""
    return unbroadcast(dy, cache.a), unbroadcast(dy, cache.b)


def sub_forward(a: Array, b: Array) -> tuple[Array, Shapes]:
    """Subtract: y = a - b."""
    try:
        return np.asarray(a - b), Shapes(a.shape, b.shape)
    except ValueError:
        raise _misfit("sub", a, b) from None


def sub_backward(
    dy: Array, cache: Shapes, *, needs: tuple[str, ...] = BOTH
) -> tuple[Array | None, Array | None]:
    """Give da = dy, db = -dy: da may be the array dy itself."""
    da = unbroadcast(dy, cache.a) if "da" in needs else None
    db = np.asarray(-unbroadcast(dy, cache.b)) if "db" in needs else None
    return da, db


def mul_forward(a: Array, b: Array) -> tuple[Array, Operands]:
    """Multiply: y = a * b."""
    try:
        return np.asarray(a * b), Operands(a, b)
    except ValueError:
        raise _misfit("mul", a, b) from None


def mul_backward(
    dy: Array, cache: Operands, *, needs: tuple[str, ...] = BOTH
) -> tuple[Array | None, Array | None]:
    """Give da = dy * b, db = dy * a."""
    a, b = cache
    da = unbroadcast(dy * b, a.shape) if "da" in needs else None
    db = unbroadcast(dy * a, b.shape) if "db" in needs else None
    return da, db


def div_forward(a: Array, b: Array) -> tuple[Array, Operands]:
    """Divide: y = a / b."""
    try:
        return np.asarray(a / b), Operands(a, b)
    except ValueError:
        raise _misfit("div", a, b) from None


def div_backward(
    dy: Array, cache: Operands, *, needs: tuple[str, ...] = BOTH
) -> tuple[Array | None, Array | None]:
    """Give da = dy / b, db = -dy * a / b ** 2, as two quotients: the square of a small b would be zero."""
    a, b = cache
    da = unbroadcast(dy / b, a.shape) if "da" in needs else None
    db = unbroadcast(-(dy / b) * (a / b), b.shape) if "db" in needs else None
    return da, db


def pow_forward(a: Array, b: Array) -> tuple[Array, Operands]:
    """Raise to a power: y = a ** b."""
    try:
        return np.asarray(_power(a, b)), Operands(a, b)
    except ValueError:
        raise _misfit("pow", a, b) from None


def pow_backward(
    dy: Array, cache: Operands, *, needs: tuple[str, ...] = BOTH
) -> tuple[Array | None, Array | None]:
    """Give da = dy * b * a ** (b - 1), db = dy * a ** b * log(a).

    Where the formula says 0 times infinity the constant it belongs to decides: a ** 0 is 1 for every a, and
    0 ** b is 0 for every positive b, so that their gradients are 0. That of b is NaN where a is negative.
    """
    a, b = cache
    da = db = None
    if "da" in needs:
        slope = b * _power(a, b - 1)
        da = unbroadcast(dy * np.where(b == 0, a.dtype.type(0), slope), a.shape)
    if "db" in needs:
        base = np.where((a == 0) & (b >= 0), a.dtype.type(1), a)
        db = unbroadcast(dy * (_power(a, b) * np.log(base)), b.shape)
    return da, db


def _power(a: Array, b: Array) -> Array:
    """Compute a ** b; a lone exponent goes in as a number, for which NumPy squares and takes roots faster."""
    power: Array = a ** (float(b) if b.ndim == 0 else b)
    return power


def neg_forward(x: Array) -> tuple[Array, None]:
    """Negate: y = -x."""
    return np.asarray(-x), None


def neg_backward(dy: Array, cache: None) -> Array:
    """Give dx = -dy."""
    return np.asarray(-dy)


def exp_forward(x: Array) -> tuple[Array, Operand]:
    """Exponentiate: y = exp(x)."""
    return np.asarray(np.exp(x)), Operand(x)


def exp_backward(dy: Array, cache: Operand) -> Array:
    """Give dx = dy * exp(x), computed anew: the cache may not hold y, which belongs to the caller."""
    return np.asarray(dy * np.exp(cache.x))


def log_forward(x: Array) -> tuple[Array, Operand]:
    """Take the natural logarithm: y = log(x)."""
    return np.asarray(np.log(x)), Operand(x)


def log_backward(dy: Array, cache: Operand) -> Array:
    """Give dx = dy / x."""
    return np.asarray(dy / cache.x)


def matmul_forward(a: Array, b: Array) -> tuple[Array, Operands]:
    """Multiply matrices: y = a @ b for a (..., m, k), b (..., k, n); one axis is a row or a column."""
    for name, operand in (("a", a), ("b", b)):
        if operand.ndim == 0:
            raise ValueError(
                f"matmul: {name} is a single number, and at least one axis is needed: multiply with *."
            )
    try:
        with single_blas_thread():
            return np.asarray(a @ b), Operands(a, b)
    except ValueError:
        inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
        fault = (
            f"the {a.shape[-1]} columns of a have to meet as many rows of b, not {inner}: transpose one"
            if a.shape[-1] != inner
            else "the axes before the last two have to broadcast: reshape one"
        )
        raise ValueError(f"matmul: a has shape {a.shape} and b has shape {b.shape}, and {fault}.") from None


def matmul_backward(
    dy: Array, cache: Operands, *, needs: tuple[str, ...] = BOTH
) -> tuple[Array | None, Array | None]:
    """Give da = dy @ b.T, db = a.T @ dy, where .T swaps the last two axes, summed where repeated."""
    a, b = cache
    rows = a[None, :] if a.ndim == 1 else a  # (..., m, k)
    columns = b[:, None] if b.ndim == 1 else b  # (..., k, n)
    if a.ndim == 1:
        dy = dy[..., None, :] if b.ndim > 1 else dy[..., None]
    if b.ndim == 1:
        dy = dy[..., None]  # (..., m, n)
    da = db = None
    with single_blas_thread():
        if "da" in needs:
            da = unbroadcast(dy @ columns.swapaxes(-1, -2), rows.shape).reshape(a.shape)
        if "db" in needs:
            if columns.ndim == 2:  # one product over all rows, in place of a stack of products to be added
                count = prod(rows.shape[:-1])  # -1 cannot be inferred where an axis is empty
                stacked = rows.reshape(count, rows.shape[-1]), dy.reshape(count, dy.shape[-1])
                db = (stacked[0].T @ stacked[1]).reshape(b.shape)
            else:
                db = unbroadcast(rows.swapaxes(-1, -2) @ dy, columns.shape).reshape(b.shape)
    return da, db
