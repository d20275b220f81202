"""The definition: every map as a plain sum over the incidence. Never optimised; all other engines answer to it.

Sums run in float64, one term after another, and are rounded to the arrays' precision once, at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import inf, prod

import numpy as np

from backlit.engines.engine import OPERATIONS, Engine, Figures, Geometry, Plan
from backlit.engines.memory import Array, empty
from backlit.geometry import ConvGeometry, PoolGeometry
from backlit.incidence import Term, count, terms


def conv_forward(g: ConvGeometry, layout: str, x: Array, w: Array, b: Array | None) -> Array:
    """y[output] = sum of x[input] * w[weight] over the terms of the output, plus b of its filter."""
    x, w = _channels_first(x, layout), _weights_first(w, layout)
    y = np.zeros(g.shapes("channels_first")[2])
    for term in terms(g):
        y[term.output] += float(x[term.input]) * float(w[term.weight])
    if b is not None:
        y += b.reshape(-1, *(1,) * g.axes)
    return _rounded(y, layout, x.dtype)


def conv_grad_input(g: ConvGeometry, layout: str, w: Array, dy: Array) -> Array:
    """dx[input] = sum of w[weight] * dy[output] over the terms of the input."""
    w, dy = _weights_first(w, layout), _channels_first(dy, layout)
    dx = np.zeros(g.shapes("channels_first")[0])
    for term in terms(g):
        dx[term.input] += float(w[term.weight]) * float(dy[term.output])
    return _rounded(dx, layout, dy.dtype)


def conv_grad_weight(g: ConvGeometry, layout: str, x: Array, dy: Array) -> Array:
    """dw[weight] = sum of x[input] * dy[output] over the terms of the weight."""
    x, dy = _channels_first(x, layout), _channels_first(dy, layout)
    dw = np.zeros(g.shapes("channels_first")[1])
    for term in terms(g):
        dw[term.weight] += float(x[term.input]) * float(dy[term.output])
    result = empty(g.shapes(layout)[1], x.dtype)
    _weights_first(result, layout)[...] = dw
    return result


def conv_grad_bias(g: ConvGeometry, layout: str, dy: Array) -> Array:
    """db[channel] = sum of dy[output] over the outputs of the channel."""
    dy = _channels_first(dy, layout)
    db = np.zeros(g.out_channels)
    for output in np.ndindex(dy.shape):
        db[output[1]] += float(dy[output])
    result = empty(db.shape, dy.dtype)
    result[...] = db
    return result


def max_pool_forward(g: PoolGeometry, layout: str, x: Array) -> tuple[Array, Array]:
    """y[output] = the largest x[input] of its window; NaN wins, the first of equals wins."""
    x = _channels_first(x, layout)
    shape = g.windows.shapes("channels_first")[2]
    y = np.full(shape, -inf)
    winners = np.full(shape, prod(g.windows.kernel_size))
    for term, tap in _numbered(g):
        value, best = float(x[term.input]), y[term.output]
        unset = winners[term.output] == prod(g.windows.kernel_size)
        if unset or value > best or (value != value and best == best):
            y[term.output], winners[term.output] = value, tap
    return _rounded(y, layout, x.dtype), _rounded(winners, layout, winners.dtype)


def max_pool_backward(g: PoolGeometry, layout: str, dy: Array, winners: Array) -> Array:
    """dx[input] = sum of dy[output] over the windows that the input won."""
    dy, winners = _channels_first(dy, layout), _channels_first(winners, layout)
    dx = np.zeros(g.windows.shapes("channels_first")[0])
    for term, tap in _numbered(g):
        if winners[term.output] == tap:
            dx[term.input] += float(dy[term.output])
    return _rounded(dx, layout, dy.dtype)


def avg_pool_forward(g: PoolGeometry, layout: str, x: Array, divisors: Array) -> Array:
    """y[output] = sum of x[input] over its window / divisor of the output."""
    x = _channels_first(x, layout)
    y = np.zeros(g.windows.shapes("channels_first")[2])
    for term in terms(g.windows):
        y[term.output] += float(x[term.input])
    return _rounded(y / divisors, layout, x.dtype)


def avg_pool_backward(g: PoolGeometry, layout: str, dy: Array, divisors: Array) -> Array:
    """dx[input] = sum of dy[output] / divisor of the output over the windows that read the input."""
    dy = _channels_first(dy, layout)
    dx = np.zeros(g.windows.shapes("channels_first")[0])
    for term in terms(g.windows):
        dx[term.input] += float(dy[term.output]) / float(divisors[term.output[2:]])
    return _rounded(dx, layout, dy.dtype)


def _numbered(g: PoolGeometry) -> Iterator[tuple[Term, int]]:
    """The terms of all windows, each with the row-major number of its tap."""
    for term in terms(g.windows):
        yield term, int(np.ravel_multi_index(term.weight[2:], g.windows.kernel_size))


def _channels_first(x: Array, layout: str) -> Array:
    """A view (N, C, *spatial) of x."""
    return x if layout == "channels_first" else np.moveaxis(x, -1, 1)


def _weights_first(w: Array, layout: str) -> Array:
    """A view (K, C/groups, *kernel) of w."""
    return w if layout == "channels_first" else np.moveaxis(w, (-1, -2), (0, 1))


def _rounded(values: Array, layout: str, dtype: np.dtype[np.generic]) -> Array:
    """Channels-first values as a new array of the layout and precision asked for."""
    ordered = values if layout == "channels_first" else np.moveaxis(values, 1, -1)
    result = empty(ordered.shape, dtype)
    result[...] = ordered
    return result


@lru_cache(maxsize=256)
def plan(operation: str, geometry: Geometry, dtype: str, layout: str) -> Plan:
    """One way for everything."""
    g = geometry.windows if isinstance(geometry, PoolGeometry) else geometry
    return Plan("loops", "definition", "", "it is the definition", Figures(terms=count(g)))


ENGINE = Engine(
    name="loops",
    functions={name: globals()[name] for name in OPERATIONS},
    plan=plan,
    refusal=lambda operation, geometry, dtype, layout: "",
    algorithms=("definition",),
)
