"""What a chain rule shows of each tensor and of each edge between two: texts, ready to be written or drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from backlit.ops.arrays import Array

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Factor:
    """One edge of the graph: what an operation passes back to one of its inputs.

    Attributes:
        vertex: the input's position in `ChainRule.vertices`.
        formula: the local gradient, "∂f/∂q = z", where it is a number; else the input's gradient, "dh = dy @ w.T".
        shape: of the local gradient: the output's, then the input's.
        local: the local gradient: a number, a sample where only the output is one, or "".
        upstream: the output's gradient: a number or a sample.
        product: what arrives at the input: a number or a sample.
    """

    vertex: int
    formula: str
    shape: Shape
    local: str
    upstream: str
    product: str

    @property
    def is_number(self) -> bool:
        """Whether the local gradient has one element."""
        return prod(self.shape) == 1

    @property
    def local_text(self) -> str:
        """The local gradient on a line: ∂f/∂q = z = -4."""
        if not self.is_number:
            return f"{self.formula}   local gradient {self.shape}{f' {self.local}' if self.local else ''}"
        left, right = self.formula.split(" = ", 1)
        if right == self.local:
            return self.formula
        return f"{left} = {f'({right})' if ' where ' in right or ' for ' in right else right} = {self.local}"

    @property
    def product_text(self) -> str:
        """The chain rule on a line: 1 × (-4) = -4."""
        if not self.is_number:
            return self.product
        local = f"({self.local})" if self.local.startswith("-") else self.local
        return f"{self.upstream} × {local} = {self.product}"


@dataclass(frozen=True, slots=True)
class Vertex:
    """One tensor of the graph and, where there is one, the operation that made it.

    Attributes:
        name: the tensor's name, or one made up.
        kind: "operation", "leaf", "constant" (nothing asks for its gradient) or "cut" (made by operations not shown).
        rule: the operation's name, or "".
        formula: the operation written with the names of its inputs, or "".
        keywords: its attributes that are no defaults, or "".
        shape: the tensor's.
        value: a number or a sample.
        gradient: a number or a sample; "" where nothing asks for one.
        parts: what the tensor's consumers passed back, which add up to its gradient.
        factors: one for each input that a gradient goes back to.
        inputs: the positions of all inputs in `ChainRule.vertices`.
    """

    name: str
    kind: str
    rule: str
    formula: str
    keywords: str
    shape: Shape
    value: str
    gradient: str
    parts: tuple[str, ...]
    factors: tuple[Factor, ...]
    inputs: tuple[int, ...]


def number(value: float) -> str:
    """A number on a few characters, zero without a sign."""
    return f"{value + 0.0:.4g}"


def sample(array: Array) -> str:
    """The number in an array of one element, or the first numbers of a longer one."""
    if array.size == 1:
        return number(float(array.reshape(())))
    more = ", …" if array.size > 4 else ""
    first = array.flat[: 3 if more else 4]
    return f"[{', '.join(f'{value + 0.0:.3g}' for value in first)}{more}]"


def sum_of(parts: Sequence[str], shape: Shape) -> str:
    """How a gradient came together from several paths."""
    return f"(sum over {len(parts)} paths)" if shape else f"= {' + '.join(parts)}"
