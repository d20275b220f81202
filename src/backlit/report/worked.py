"""One element of a gradient written out as the sum of products that it is, with the numbers of this very input."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from backlit.incidence import Index, terms_of_input, terms_of_weight
from backlit.ops.arrays import Array
from backlit.report.trace import Input, Step

__all__ = ["Product", "Worked", "conv_input", "conv_weight", "linear_input"]

SHOWN = 6  # products written out; the rest is given as one number


@dataclass(frozen=True)
class Product:
    """One term: two elements, each an array's name, an index into it and its value."""

    left: str
    left_at: Index
    left_value: float
    right: str
    right_at: Index
    right_value: float

    @property
    def value(self) -> float:
        """The product."""
        return self.left_value * self.right_value


@dataclass(frozen=True)
class Worked:
    """gradient[at] = the sum of the products = those shown + rest.

    Attributes:
        name: the gradient's name, "dw" say. at: the element.
        products: those that are not zero, the largest magnitude first.
        zeros: how many products are zero.
        gradient: what the backward pass computed for this element.
    """

    name: str
    at: Index
    products: tuple[Product, ...]
    zeros: int
    gradient: float

    @property
    def shown(self) -> tuple[Product, ...]:
        """The products that are written out at first."""
        return self.products[:SHOWN]

    @property
    def others(self) -> int:
        """How many more there are."""
        return len(self.products) - len(self.shown)

    @property
    def rest(self) -> float:
        """The sum of the others, in float64."""
        return float(sum(product.value for product in self.products[SHOWN:]))

    @property
    def total(self) -> float:
        """The sum of all products, in float64."""
        return sum(product.value for product in self.shown) + self.rest


def conv_weight(step: Step, at: Index | None = None) -> Worked | None:
    """One element of dw: the sum of x * dy over the positions at which this weight was read.

    Args:
        step: a conv or conv_transpose.
        at: the element of w; None takes that of the largest gradient.

    Returns:
        None where there is nothing to write out: w is frozen, or the layout is not channels first.
    """
    x, w = step.input("x"), step.input("w")
    if x is None or w is None or w.gradient is None or not _channels_first(step):
        return None
    at = at or _strongest(w.gradient)
    terms = terms_of_weight(step.node.cache.geometry, at)
    products = [_product("x", term.input, x.value, "dy", term.output, step.upstream) for term in terms]
    return _worked("dw", at, products, w)


def conv_input(step: Step, at: Index | None = None) -> Worked | None:
    """One element of dx: the sum of w * dy over the outputs that read this input.

    Args:
        step: a conv or conv_transpose.
        at: the element of x; None takes that of the largest gradient.

    Returns:
        None where there is nothing to write out.
    """
    x, w = step.input("x"), step.input("w")
    if x is None or w is None or x.gradient is None or not _channels_first(step):
        return None
    at = at or _strongest(x.gradient)
    terms = terms_of_input(step.node.cache.geometry, at)
    products = [_product("w", term.weight, w.value, "dy", term.output, step.upstream) for term in terms]
    return _worked("dx", at, products, x)


def linear_input(step: Step, at: Index | None = None) -> Worked | None:
    """One element of a linear layer's dx: the sum of w[o, i] * dy[..., o] over the outputs o."""
    x, w = step.input("x"), step.input("w")
    if x is None or w is None or x.gradient is None:
        return None
    at = at or _strongest(x.gradient)
    products = [
        _product("w", (o, at[-1]), w.value, "dy", (*at[:-1], o), step.upstream)
        for o in range(w.value.shape[0])
    ]
    return _worked("dx", at, products, x)


def _worked(name: str, at: Index, products: Iterable[Product], of: Input) -> Worked:
    """The sum with its largest products in front."""
    assert of.gradient is not None  # each caller has looked
    products = list(products)
    alive = [product for product in products if product.value != 0]
    alive.sort(key=lambda product: -abs(product.value))
    return Worked(name, at, tuple(alive), len(products) - len(alive), float(of.gradient[at]))


def _product(left: str, left_at: Index, x: Array, right: str, right_at: Index, y: Array) -> Product:
    return Product(left, left_at, float(x[left_at]), right, right_at, float(y[right_at]))


def _strongest(gradient: Array) -> Index:
    """Where the gradient is largest in magnitude."""
    at = np.unravel_index(int(np.argmax(np.abs(np.nan_to_num(gradient)))), gradient.shape)
    return tuple(int(i) for i in at)


def _channels_first(step: Step) -> bool:
    return step.output.ndim > 2 and getattr(step.node.cache, "layout", "") == "channels_first"
