"""One recorded operation: its rule, its inputs, its cache, and its local gradients, computed when asked."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from functools import cache
from itertools import count
from math import prod
from typing import TYPE_CHECKING, Any, Never

import numpy as np

from backlit.graph.rule import Rule, rename
from backlit.ops.arrays import Array, zeros

if TYPE_CHECKING:
    from backlit.graph.tensor import Tensor

Shape = tuple[int, ...]
_order = count()


class Node:
    """The operation that made a tensor.

    Attributes:
        rule: the row of the table that it applied.
        inputs: its input tensors, None for one that was left out; empty once the sweep has freed the node.
        attributes: the keywords that it was applied with.
        cache: what the rule's forward left for its backward; None once freed.
        needs: for each input whether it needs a gradient.
        shape: the output's shape.
        dtype: the output's dtype, and that of every gradient.
        order: grows with every node made, so that an input's node always has a smaller one.
        freed: whether a backward has passed here without retain=True.
    """

    __slots__ = ("attributes", "cache", "dtype", "freed", "inputs", "needs", "order", "rule", "shape")

    def __init__(
        self,
        rule: Rule,
        inputs: tuple[Tensor | None, ...],
        attributes: dict[str, Any],
        cache: Any,
        needs: tuple[bool, ...],
        out: Array,
    ) -> None:
        self.rule = rule
        self.inputs = inputs
        self.attributes = attributes
        self.cache = cache
        self.needs = needs
        self.shape: Shape = out.shape
        self.dtype = out.dtype
        self.order = next(_order)
        self.freed = False

    def free(self) -> None:
        """Let go of the inputs and the cache."""
        self.inputs = ()
        self.attributes = {}
        self.cache = None
        self.freed = True

    def check_alive(self) -> None:
        """Raise a ValueError if an earlier backward has freed this node."""
        if self.freed:
            raise ValueError(
                f"the graph behind this result of {self.rule.name} was freed by an earlier backward: call "
                f"loss.backward(retain=True) then, or compute the loss anew."
            )

    def local_gradient(self, i: int) -> LocalGradient:
        """The Jacobian of the output with respect to input i, whose elements are computed when asked for.

        Args:
            i: the position of the input, from 0; negative ones count from the end.

        Raises:
            ValueError: the node was freed, or the input was left out (a bias, say).
            IndexError: there is no such input.

        Example:
            >>> from backlit.graph import Tensor
            >>> a, b = Tensor(3.0, requires_grad=True), Tensor(-4.0)
            >>> float((a * b).node.local_gradient(0))
            -4.0
        """
        self.check_alive()
        names = self.rule.inputs[: len(self.inputs)]
        if not -len(self.inputs) <= operator.index(i) < len(self.inputs):
            raise IndexError(
                f"i is {i}, and {self.rule.name} has {len(self.inputs)} inputs: {', '.join(names)}."
            )
        if self.inputs[i] is None:
            raise ValueError(
                f"input {names[i]} of this {self.rule.name} was left out, so it has no local gradient."
            )
        return LocalGradient(self, i % len(self.inputs))

    def describe(self) -> str:
        """The rule in words: its formula, and for each input its shape, its gradient and the local gradient.

        Example:
            >>> from backlit.graph import Tensor
            >>> x = Tensor([[1.0, 2.0]], requires_grad=True)
            >>> print((x * 3.0).node.describe())
            mul: y = a * b
              y (1, 2)
              a (1, 2)  da = dy * b                               local gradient (1, 2, 1, 2): ∂y/∂a = b
              b ()      db = dy * a, summed where b was repeated  local gradient (1, 2): ∂y/∂b = a
        """
        rule = self.rule
        rows = [("y", self.shape, "", "")]
        for name, tensor, local, partial in zip(
            rule.inputs, self.inputs, rule.local, rule.partial, strict=False
        ):
            if tensor is None:
                continue
            if rule.broadcasts and tensor.shape != self.shape:
                local += f", summed where {name} was repeated"
            rows.append((name, tensor.shape, local, f"local gradient {self.shape + tensor.shape}: {partial}"))
        letters = max(len(row[0]) for row in rows)
        shapes = max(len(str(row[1])) for row in rows)
        locals_ = max(len(row[2]) for row in rows)
        absent = {
            name: None for name, tensor in zip(rule.inputs, self.inputs, strict=False) if tensor is None
        }
        heading = f"{rule.name}: {rename(rule.formula, absent)}"
        if keywords := self.keywords():
            heading += f"  with {keywords}"
        lines = [
            f"  {row[0]:{letters}} {row[1]!s:{shapes}}  {row[2]:{locals_}}  {row[3]}".rstrip() for row in rows
        ]
        if self.freed:
            lines.append("  inputs and cache were freed by a backward without retain=True")
        return "\n".join([heading, *lines])

    def keywords(self) -> str:
        """The attributes that differ from the rule's defaults, as one would write them in a call."""
        usual = defaults(self.rule.forward)
        given = [(key, value) for key, value in self.attributes.items() if not _same(value, usual.get(key))]
        return ", ".join(f"{key}={_brief(value)}" for key, value in given)

    def __repr__(self) -> str:
        return f"<{self.rule.name} node, y {self.shape}{', freed' if self.freed else ''}>"


class LocalGradient:
    """The Jacobian d out / d in of one operation, never stored: each element comes from the rule's backward.

    The element at (*o, *i) is the change of out[o] per change of in[i]: what the backward gives for in[i]
    when the upstream gradient is 1 at o and 0 elsewhere. One element costs one backward, and others of the
    same o are then free.

    Attributes:
        shape: out.shape + in.shape.
        text: the rule's formula for an element.

    Example:
        >>> from backlit.graph import Tensor
        >>> x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
        >>> local = (x * x).sum().node.local_gradient(0)
        >>> local.shape, float(local[1])
        ((3,), 1.0)
    """

    __slots__ = ("_cache", "_dtype", "_input", "_needs", "_out", "_row", "_row_at", "_rule", "shape", "text")

    def __init__(self, node: Node, i: int) -> None:
        tensor = node.inputs[i]
        assert tensor is not None
        self._rule, self._cache, self._dtype, self._input = node.rule, node.cache, node.dtype, i
        self._needs = tuple(position == i for position in range(len(node.inputs)))
        self._out: Shape = node.shape
        self._row: Array | None = None
        self._row_at: Shape = ()
        self.shape: Shape = node.shape + tensor.shape
        self.text = node.rule.partial[i]

    def __getitem__(self, index: int | tuple[int, ...]) -> np.floating[Any]:
        """One element: an integer for every axis of the output, then one for every axis of the input."""
        where = index if isinstance(index, tuple) else (index,)
        if len(where) != len(self.shape):
            raise IndexError(
                f"index {index} has {len(where)} positions, and a local gradient of shape {self.shape} needs "
                f"{len(self.shape)}: those of the output, then those of the input."
            )
        try:
            numbers = tuple(operator.index(position) for position in where)
        except TypeError:
            raise TypeError(
                f"index {index} has to be made of integers: a local gradient gives single elements only."
            ) from None
        for axis, (number, size) in enumerate(zip(numbers, self.shape, strict=True)):
            if not -size <= number < size:
                raise IndexError(f"index {number} is out of range for axis {axis} of shape {self.shape}.")
        at = tuple(n % size for n, size in zip(numbers, self.shape, strict=True))
        element: np.floating[Any] = self._row_of(at[: len(self._out)])[at[len(self._out) :]]
        return element

    def __float__(self) -> float:
        """The number itself, where output and input are scalars."""
        if prod(self.shape) != 1:
            raise ValueError(
                f"a local gradient of shape {self.shape} has {prod(self.shape)} elements, and float() "
                f"needs one: index it with {len(self.shape)} integers."
            )
        return float(self[(0,) * len(self.shape)])

    def __iter__(self) -> Never:
        raise TypeError("a local gradient gives single elements only: index it with integers.")

    def __repr__(self) -> str:
        return f"<local gradient {self.shape}: {self.text}>"

    def _row_of(self, out: Shape) -> Array:
        """The gradient of the one output element, with the input's shape."""
        if self._row is None or self._row_at != out:
            upstream = zeros(self._out, self._dtype)
            upstream[out] = 1
            with np.errstate(all="ignore"):
                row = self._rule.gradients(upstream, self._cache, self._needs)[self._input]
            assert row is not None
            self._row, self._row_at = np.asarray(row), out
        return self._row


@cache
def defaults(forward: Callable[..., Any]) -> dict[str, Any]:
    """The default of every argument of a rule's forward, inspect.Parameter.empty where there is none."""
    return {name: parameter.default for name, parameter in inspect.signature(forward).parameters.items()}


def _same(value: Any, default: Any) -> bool:
    """Whether an attribute says what the default says; (1, 1) says 1."""
    if isinstance(value, tuple) and isinstance(default, int):
        return all(_same(part, default) for part in value)
    return value is default or (isinstance(value, (bool, int, float, str)) and bool(value == default))


def _brief(value: Any) -> str:
    """An attribute on a few characters: arrays by their shape, slices as they are written."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"array {value.shape}"
    if isinstance(value, tuple) and any(
        part is ... or isinstance(part, (slice, np.ndarray)) for part in value
    ):
        return f"({', '.join(map(_brief, value))}{',' * (len(value) == 1)})"
    if value is ...:
        return "..."
    if isinstance(value, slice):
        ends = ["" if end is None else str(end) for end in (value.start, value.stop, value.step)]
        return ":".join(ends if ends[2] else ends[:2])
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
