"""Our side of a benchmark: the passes of a problem by the public pairs, and their results in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from backlit import engines
from backlit.engines.memory import empty
from backlit.geometry import ConvGeometry
from backlit.ops import conv_backward, conv_forward, conv_transpose_backward, conv_transpose_forward
from backlit.ops.arrays import Array
from backlit.trial import PASSES, operands

_OPERATIONS = dict(zip(PASSES, ("conv_forward", "conv_grad_input", "conv_grad_weight"), strict=True))
_EXACT_ENGINE = "gemm"  # NumPy's matrix product: none of the code that is measured


class Convolution:
    """A problem in one layout and dtype.

    Args:
        geometry: the problem.
        layout: "channels_first" or "channels_last".
        dtype: "float32" or "float64", which gets the same numbers.
    """

    def __init__(self, geometry: ConvGeometry, layout: str, dtype: str = "float32") -> None:
        self._geometry, self._layout, self._dtype = geometry, layout, dtype
        x, w, dy = operands(geometry.shapes("channels_first"))
        if layout == "channels_last":
            x, dy = np.moveaxis(x, 1, -1), np.moveaxis(dy, 1, -1)
            w = np.moveaxis(w, (0, 1), (-1, -2))
        self._x, self._w, self._dy = (_aligned(array, dtype) for array in (x, w, dy))
        names = (
            "stride",
            "padding",
            "dilation",
            "groups",
            *(["output_padding"] if geometry.transposed else []),
        )
        self._options = {name: getattr(geometry, name) for name in names} | {"layout": layout}

    def run(self, name: str) -> Callable[[], Any]:
        """The pass as a function without arguments, which returns a new array."""
        forward: Any = conv_transpose_forward if self._geometry.transposed else conv_forward
        backward: Any = conv_transpose_backward if self._geometry.transposed else conv_backward
        x, w, dy, options = self._x, self._w, self._dy, self._options
        if name == "forward":
            return lambda: forward(x, w, **options)[0]
        needs, position = (name,), 0 if name == "dx" else 1
        cache = forward(x, w, **options)[1]
        return lambda: backward(dy, cache, needs=needs)[position]

    def result(self, name: str) -> Array:
        """What the pass gives, with the axes in the order of channels_first."""
        array: Array = self.run(name)()
        if self._layout == "channels_first":
            return array
        return np.moveaxis(array, (-1, -2), (0, 1)) if name == "dw" else np.moveaxis(array, -1, 1)

    def algorithm(self, name: str) -> str:
        """The engine, the algorithm or its kernel, and the instruction set that compute the pass."""
        plan = engines.explain_choice(self._geometry, self._dtype, self._layout)[_OPERATIONS[name]]
        return " ".join(word for word in (plan.engine, plan.kernel or plan.algorithm, plan.isa) if word)


def exact(geometry: ConvGeometry) -> Callable[[str], Array]:
    """The passes of a problem in float64, by name, computed when asked for."""
    wide = Convolution(geometry, "channels_first", "float64")

    def compute(name: str) -> Array:
        with engines.use(_EXACT_ENGINE):
            return wide.result(name)

    return compute


def relative_error(array: Array, expected: Array) -> float:
    """RMS of the difference, relative to the RMS of what is expected; infinite where the shapes differ.

    Example:
        >>> relative_error(np.array([3.0, 5.0]), np.array([3.0, 4.0])) == (1 / 25) ** 0.5
        True
    """
    if array.shape != expected.shape:
        return float("inf")
    difference = np.subtract(array, expected, dtype=np.float64)
    size = float(np.sqrt(np.vdot(expected, expected)))
    off = float(np.sqrt(np.vdot(difference, difference)))
    return off / size if size else (0.0 if off == 0 else float("inf"))


def _aligned(array: Array, dtype: str) -> Array:
    """A contiguous copy as a pair would return it."""
    result = empty(array.shape, dtype)
    result[...] = array
    return result
