"""A problem as a pair is given it: validated once, and from then on known together with what computes it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, Generic, TypeVar

import numpy as np

from backlit.engines import forcing
from backlit.engines.choice import computation
from backlit.geometry import ConvGeometry, PoolGeometry
from backlit.sizes import Sizes

REMEMBERED = 1024  # problems

_Geometry = TypeVar("_Geometry", ConvGeometry, PoolGeometry)
_Built = TypeVar("_Built")
_PLAIN = frozenset((int, str, bool, type(None)))


class Problem(Generic[_Geometry]):
    """A geometry in a layout, and the functions that compute operations on it, found when they are first needed.

    Attributes:
        geometry: as the caller sees it. layout: of all arrays.
        bare: whether arrays come without batch and channel axes.
        shapes: of x, w and y as the caller sees them; of a pool, w is its window.
    """

    __slots__ = ("_computations", "_plain", "bare", "geometry", "layout", "shapes")

    def __init__(self, geometry: _Geometry, layout: str, bare: bool = False) -> None:
        self.geometry: _Geometry = geometry
        self.layout = layout
        self.bare = bare
        self.shapes: tuple[Sizes, Sizes, Sizes]
        self._plain: ConvGeometry | PoolGeometry
        self._computations: dict[Any, Callable[..., Any]] = {}
        if isinstance(geometry, PoolGeometry):
            self._plain, self.shapes = geometry, geometry.windows.shapes(layout)
        else:
            self._plain, self.shapes = geometry.convolution, geometry.shapes(layout, bare)

    def run(self, operation: str, dtype: np.dtype[Any], *arrays: Any) -> Any:
        """Compute an operation on validated arrays of a dtype by the engine chosen for it.

        The operation is that of the plain convolution: the forward of a transposed one is conv_grad_input.
        """
        key = (operation, dtype, forcing.current())
        compute = self._computations.get(key)
        if compute is None:
            geometry = self.geometry if operation == "conv_grad_bias" else self._plain
            compute = computation(operation, geometry, dtype.name, self.layout, self.bare)
            self._computations[key] = compute
        return compute(*arrays)


def remembered(build: Callable[..., _Built]) -> Callable[..., _Built]:
    """`build`, called as build(shapes of arrays, *settings), with its last answers remembered.

    A setting that equals another of a different type, as True and 1.0 equal 1, never gets that one's answer: unless all
    are words, None, True, False, integers or tuples of integers, exactly, it is built anew. Errors are not kept.
    """
    known = lru_cache(REMEMBERED, typed=True)(build)  # typed tells True from 1, but not inside tuples

    @wraps(build)
    def find(shapes: tuple[Sizes, ...], *settings: Any) -> _Built:
        if _PLAIN.issuperset(map(type, settings)) or all(map(_is_plain, settings)):
            return known(shapes, *settings)
        return build(shapes, *settings)

    return find


def _is_plain(value: Any) -> bool:
    """Whether a setting equals no setting that means something else."""
    return type(value) in _PLAIN or (type(value) is tuple and all(map(_holds_integers, value)))


def _holds_integers(value: Any) -> bool:
    return type(value) is int or (type(value) is tuple and all(map(_holds_integers, value)))
