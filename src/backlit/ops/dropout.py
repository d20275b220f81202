"""The dropout pair: zero elements at random in training, and scale up the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from backlit.ops.arguments import as_flag, as_number
from backlit.ops.arrays import Array, as_array, as_upstream, check_cache, empty
from backlit.ops.random import as_generator, generator

__all__ = ["DropoutCache", "dropout_backward", "dropout_forward"]


@dataclass(frozen=True, slots=True, eq=False)
class DropoutCache:
    """What dropout_backward needs: the factor of each element, or that there was none."""

    factor: Array | None  # x.shape: 0 or 1/(1-p); None where y = x
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def dropout_forward(
    x: Any, p: float = 0.5, *, training: bool = True, rng: np.random.Generator | None = None
) -> tuple[Array, DropoutCache]:
    """Zero each element with probability p and divide the others by 1 - p, so that the mean stays what it was.

        y = x * m / (1 - p)     m = 0 with probability p, else 1

    The mask is drawn in row-major order and does not depend on the dtype. NaN and infinity times 0 are NaN,
    as everywhere. With training=False, or p=0, y is a copy of x and nothing is drawn; with p=1 all is zero.

    Args:
        x: any shape, float32 or float64.
        p: the probability of being dropped, from 0 to 1.
        training: False for evaluation.
        rng: the generator to draw from; None for `backlit.ops.random.generator()`.

    Returns:
        y of x's shape, and the cache for dropout_backward.

    Raises:
        TypeError: x is no float array, p no number, training no bool, or rng no np.random.Generator.
        ValueError: p is NaN or outside [0, 1].

    Source:
        N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014, in the
        inverted form, which leaves evaluation alone.

    Example:
        >>> y, cache = dropout_forward(np.ones(6), 0.5, rng=np.random.default_rng(0))
        >>> y
        array([2., 0., 0., 0., 2., 2.])
    """
    x = as_array("x", x)
    p = as_number("p", p, 0, 1)
    training = as_flag("training", training)
    rng = generator() if rng is None else as_generator("rng", rng)
    if not training or p == 0:
        cache = DropoutCache(None, x.shape, x.dtype)
        return _scaled(x, None), cache
    factor = empty(x.shape, x.dtype)
    if p == 1:
        factor.fill(0)
    else:
        np.greater_equal(rng.random(x.shape), p, out=factor)
        factor *= 1 / (1 - p)
    return _scaled(x, factor), DropoutCache(factor, x.shape, x.dtype)


def dropout_backward(dy: Any, cache: DropoutCache) -> Array:
    """The gradient of dropout_forward's x, through the mask that was drawn there.

        dx = dy * m / (1 - p)

    Args:
        dy: the upstream gradient, of y's shape.
        cache: from dropout_forward.

    Returns:
        dx of x's shape.

    Raises:
        TypeError, ValueError: dy is not of y's dtype and shape, or the cache is of another operation.

    Source:
        N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014, section 5.1:
        back through the thinned network; the factor 1 / (1 - p) is that of the inverted form.

    Example:
        >>> y, cache = dropout_forward(np.ones(6), 0.5, rng=np.random.default_rng(0))
        >>> dropout_backward(np.full(6, 3.0), cache)
        array([6., 0., 0., 0., 6., 6.])
    """
    cache = check_cache("dropout", cache, DropoutCache)
    return _scaled(as_upstream("dy", dy, cache.shape, cache.dtype), cache.factor)


def _scaled(values: Array, factor: Array | None) -> Array:
    """A fresh array of values * factor."""
    result = empty(values.shape, values.dtype)
    if factor is None:
        result[...] = values
        return result
    with np.errstate(all="ignore"):
        return np.multiply(values, factor, out=result)
