"""The operators += -= *= /= of a Tensor: an update of its array where nothing is recorded, a new Tensor elsewhere."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from backlit.graph.mode import is_grad_enabled
from backlit.ops.arrays import Array


class InPlace:
    """What a Tensor inherits, so that the step of gradient descent can be written as it is read.

        with no_grad():  w -= lr * w.grad        changes w.data

    While gradients are recorded the same operators make a new Tensor, as `w = w - ...` does; a leaf that requires a
    gradient refuses them there, since the name would silently leave the leaf behind.
    """

    __slots__ = ()
    data: Array

    def __iadd__(self, other: Any) -> Self:
        return self._updated(np.add, "+=", other)

    def __isub__(self, other: Any) -> Self:
        return self._updated(np.subtract, "-=", other)

    def __imul__(self, other: Any) -> Self:
        return self._updated(np.multiply, "*=", other)

    def __itruediv__(self, other: Any) -> Self:
        return self._updated(np.divide, "/=", other)

    def _updated(self, function: np.ufunc, sign: str, other: Any) -> Self:
        if is_grad_enabled():
            if self.requires_grad and self.node is None:  # type: ignore[attr-defined]  # Tensor has both
                raise ValueError(
                    f"{sign} would change a leaf that requires a gradient while gradients are recorded: "
                    f"write it in a block `with no_grad():`, or make a new tensor with a name of its own."
                )
            return NotImplemented  # type: ignore[no-any-return]  # then Python takes the operator without the =
        value = np.asarray(getattr(other, "data", other))
        if np.broadcast_shapes(value.shape, self.data.shape) != self.data.shape:
            raise ValueError(
                f"{sign} of shape {value.shape} does not fit into a tensor of shape {self.data.shape}."
            )
        with np.errstate(all="ignore"):
            function(self.data, value.astype(self.data.dtype, copy=False), out=self.data)
        return self
