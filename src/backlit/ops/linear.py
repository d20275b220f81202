"""The linear pair: one matrix product forward, two backward."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from backlit.engines.workers import product
from backlit.ops.arguments import as_needs
from backlit.ops.arrays import Array, as_array, as_upstream, check_cache, empty

__all__ = ["LinearCache", "linear_backward", "linear_forward"]


@dataclass(frozen=True, slots=True, eq=False)
class LinearCache:
    """What linear_backward reads again: the inputs of linear_forward."""

    rows: Array  # (prod(...), in): x with its leading axes merged, a view of x where x is contiguous
    w: Array  # (out, in)
    batch: tuple[int, ...]  # the leading axes of x
    has_bias: bool


def linear_forward(x: Any, w: Any, b: Any | None = None) -> tuple[Array, LinearCache]:
    """Multiply the last axis of x by a matrix and add a bias.

        y[..., o] = sum over i of x[..., i] * w[o, i] + b[o]

    Args:
        x: (..., in), float32 or float64; any leading axes, or none.
        w: (out, in), of x's dtype.
        b: (out,), or None for no bias.

    Returns:
        y of shape (..., out), and the cache for linear_backward, which keeps x and w.

    Raises:
        TypeError: an argument is no float array, or their precisions differ.
        ValueError: the shapes do not fit, or x or w has an axis `in` or `out` of size 0.

    Source:
        D. Rumelhart, G. Hinton and R. Williams, "Learning representations by back-propagating errors", 1986.

    Example:
        >>> y, cache = linear_forward([[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0], [0.0, 1.0]], [0.5, 0.0, 0.0])
        >>> y
        array([[11.5, 17. ,  2. ]])
    """
    x = as_array("x", x)
    w = as_array("w", w, dtype=x.dtype)
    _check_shapes(x, w)
    out, features = w.shape
    if b is not None:
        b = as_array("b", b, dtype=x.dtype)
        if b.shape != (out,):
            raise ValueError(
                f"b has shape {b.shape}, and w of shape {w.shape} needs one value per output, ({out},)."
            )
    rows = x.reshape(-1, features)
    y = empty((*x.shape[:-1], out), x.dtype)
    with np.errstate(all="ignore"):
        product(rows, w.T, y.reshape(-1, out))
        if b is not None:
            y += b
    return y, LinearCache(rows, w, x.shape[:-1], b is not None)


def linear_backward(
    dy: Any, cache: LinearCache, *, needs: tuple[str, ...] = ("dx", "dw", "db")
) -> tuple[Array | None, ...]:
    """The gradients of linear_forward's inputs, from the gradient of its output.

        dx[..., i] = sum over o of dy[..., o] * w[o, i]
        dw[o, i]   = sum over ... of dy[..., o] * x[..., i]
        db[o]      = sum over ... of dy[..., o]

    Args:
        dy: (..., out), the upstream gradient.
        cache: from linear_forward.
        needs: the names of the gradients to compute; a first layer can spare itself its dx.

    Returns:
        (dx, dw), or (dx, dw, db) when b was given, each of its input's shape; None for what is not needed.

    Raises:
        TypeError: dy has another dtype than y, or the cache is of another operation.
        ValueError: dy has another shape than y, or needs names an unknown gradient.

    Source:
        D. Rumelhart, G. Hinton and R. Williams, "Learning representations by back-propagating errors", 1986.

    Example:
        >>> y, cache = linear_forward([[1.0, 2.0]], [[3.0, 4.0]], [0.0])
        >>> linear_backward([[10.0]], cache)
        (array([[30., 40.]]), array([[10., 20.]]), array([10.]))
    """
    cache = check_cache("linear", cache, LinearCache)
    names = as_needs(needs, ("dx", "dw", "db"))
    rows, w = cache.rows, cache.w
    out, features = w.shape
    dy = as_upstream("dy", dy, (*cache.batch, out), w.dtype).reshape(-1, out)
    dx: Array | None = None
    dw: Array | None = None
    db: Array | None = None
    with np.errstate(all="ignore"):
        if "dx" in names:
            dx = empty((*cache.batch, features), w.dtype)
            product(dy, w, dx.reshape(-1, features))
        if "dw" in names:
            dw = empty(w.shape, w.dtype)
            product(dy.T, rows, dw)
        if cache.has_bias and "db" in names:
            db = empty((out,), w.dtype)
            db[...] = np.add.reduce(dy, axis=0, dtype=np.float64)
    return (dx, dw, db) if cache.has_bias else (dx, dw)


def _check_shapes(x: Array, w: Array) -> None:
    """Fail unless x (..., in) and w (out, in) can be multiplied."""
    if x.ndim == 0:
        raise ValueError("x has shape (), and a last axis of features is needed: pass x.reshape(1).")
    if w.ndim != 2:
        raise ValueError(f"w has shape {w.shape}, and a matrix (out, in) is needed.")
    for name, size in (("out", w.shape[0]), ("in", w.shape[1])):
        if size == 0:
            raise ValueError(f"w has shape {w.shape}, and its axis `{name}` needs a size of at least 1.")
    if x.shape[-1] == w.shape[1]:
        return
    message: Any = (
        f"x of shape {x.shape} has {x.shape[-1]} features, and w of shape {w.shape} needs {w.shape[1]}"
    )
    if x.shape[-1] == w.shape[0]:
        raise ValueError(f"{message}: w is (out, in), so pass w.T.")
    if x.ndim > 2 and prod(x.shape[1:]) == w.shape[1]:
        raise ValueError(f"{message}: flatten x first, x.reshape(len(x), -1).")
    raise ValueError(f"{message}: the last axes of both have to be equal.")
