"""The chain rule at work: every value, upstream and local gradient of a computation, as text and as a picture."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from backlit import html
from backlit.explain import picture
from backlit.explain.vertices import Factor, Vertex, number, sample, sum_of
from backlit.files import write_atomic
from backlit.graph import Node, Tensor, gradients
from backlit.graph.rule import rename
from backlit.ops.arrays import Array

_MOST = 200  # operations shown: nobody reads a page of more


class ChainRule:
    """The graph behind a tensor with all its numbers, as they were when `chain_rule` was called.

    Attributes:
        vertices: the operations, the last first as the backward pass meets them, then the leaves.
        hidden: how many earlier operations are left out, beyond the 200 nearest.
    """

    def __init__(self, vertices: tuple[Vertex, ...], hidden: int) -> None:
        self.vertices = vertices
        self.hidden = hidden

    def __str__(self) -> str:
        lines = ["gradient of an input = upstream gradient × local gradient, summed over the paths to it", ""]
        lines += ["\n".join(self._operation(v)) + "\n" for v in self.vertices if v.kind == "operation"]
        rest = [v for v in self.vertices if v.kind != "operation" and v.name.strip("()") != v.value]
        names = max((len(vertex.name) for vertex in rest), default=0)
        values = max((len(_value(vertex)) for vertex in rest), default=0)
        lines += [f"{v.name:{names}}   {_value(v):{values}}   {_gradient(v)}" for v in rest]
        if self.hidden:
            lines.append(f"... and {self.hidden} earlier operations")
        return "\n".join(lines).rstrip()

    @property
    def svg(self) -> str:
        """A picture of the graph: one SVG element that needs nothing outside itself and follows the page's colours."""
        return picture.draw(self.vertices, str(self))

    def _repr_html_(self) -> str:
        return f'<div style="overflow-x: auto">{self.svg}</div>'

    def __repr__(self) -> str:
        shown = sum(vertex.kind == "operation" for vertex in self.vertices)
        return f"<chain rule of {self.vertices[0].name}: {shown} of {shown + self.hidden} operations>"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture as an SVG file, or as an HTML page with the text below it.

        Args:
            path: ends in .svg, .html or .htm.

        Raises:
            ValueError: it ends otherwise.
        """
        suffix = Path(path).suffix.lower()
        if suffix == ".svg":
            content = picture.standalone(self.svg)
        elif suffix in (".html", ".htm"):
            title = f"The chain rule behind {self.vertices[0].name}"
            label = 'class="scroll" tabindex="0" role="region" aria-label'
            body = (
                f'<main><h1>{html.escape(title)}</h1><p class="muted">Values flow from left to right, gradients from '
                f"right to left: each is the upstream gradient times the local gradient.</p>"
                f'<div {label}="Picture of the graph">{self.svg}</div>'
                f'<h2>Step by step</h2><div {label}="The same as text"><pre>{html.escape(self)}</pre></div></main>'
            )
            content = html.page(title, body, style=_STYLE)
        else:
            raise ValueError(
                f"path {os.fspath(path)!r} ends in {suffix or 'nothing'}, and .svg or .html is needed."
            )
        write_atomic(path, content.encode())

    def _operation(self, vertex: Vertex) -> Iterator[str]:
        yield vertex.formula + (f"   with {vertex.keywords}" if vertex.keywords else "")
        yield f"   {_value(vertex)}   {_gradient(vertex)}"
        names = [self.vertices[factor.vertex].name for factor in vertex.factors]
        texts = [factor.local_text for factor in vertex.factors]
        for i, (name, text, factor) in enumerate(zip(names, texts, vertex.factors, strict=True)):
            branch = "├─" if i < len(names) - 1 else "└─"
            wide, long = max(map(len, names)), max(map(len, texts))
            gives = factor.product_text if factor.is_number else f"gives {factor.product}"
            yield f"   {branch} {name:{wide}}   {text:{long}}   {gives}"


_STYLE = """
body { max-width: 90rem; }
h2 { margin: 2rem 0 .6rem; }
h1 + p { margin: .6rem 0 1.6rem; }
svg.chain-rule { max-width: none; }
pre { line-height: 1.5; }
"""


def chain_rule(loss: Tensor, gradient: Any = None) -> ChainRule:
    """Show how the chain rule computes the gradients behind a tensor.

        d loss / d input = sum over the paths of  d loss / d output (upstream) * d output / d input (local)

    It leaves the graph and every .grad as they are. Label tensors with their `name`.

    Args:
        loss: the tensor to differentiate, before its backward or after `backward(retain=True)`.
        gradient: the upstream gradient, as `Tensor.backward` takes it.

    Returns:
        A ChainRule: `str()` is the text, `.svg` the picture, `.save(path)` writes either, and notebooks show it.

    Raises:
        TypeError: loss is no Tensor.
        ValueError: the graph was freed by a backward, or nothing in it requires a gradient.

    Source: A. Karpathy, CS231n, "Backpropagation, Intuitions", whose circuit is the example.

    Example:
        >>> x, y, z = (Tensor(v, requires_grad=True, name=n) for n, v in zip("xyz", (-2.0, 5.0, -4.0)))
        >>> q = x + y
        >>> f = q * z
        >>> q.name, f.name = "q", "f"
        >>> print(chain_rule(f))
        gradient of an input = upstream gradient × local gradient, summed over the paths to it
        <BLANKLINE>
        f = q * z
           value -12   gradient 1
           ├─ q   ∂f/∂q = z = -4   1 × (-4) = -4
           └─ z   ∂f/∂z = q = 3    1 × 3 = 3
        <BLANKLINE>
        q = x + y
           value 3   gradient -4
           ├─ x   ∂q/∂x = 1   -4 × 1 = -4
           └─ y   ∂q/∂y = 1   -4 × 1 = -4
        <BLANKLINE>
        x   value -2   gradient -4
        y   value 5    gradient -4
        z   value -4   gradient 3
    """
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"loss is a {type(loss).__name__}, and a Tensor is needed: pass the loss that you computed."
        )
    made = _operations(loss)
    received = gradients(loss, gradient)
    shown = made[:_MOST] or [loss]
    places = {tensor: i for i, tensor in enumerate(shown)}
    for tensor in reversed(made[:_MOST]):
        for source in _sources(tensor):
            if source is not None:
                places.setdefault(source, len(places))
    names = _names(list(places), loss)
    factors: dict[Tensor, tuple[Factor, ...]] = {}
    parts: dict[Tensor, list[str]] = {tensor: [] for tensor in places}
    for tensor in made[:_MOST]:
        factors[tensor] = _factors(tensor, received[tensor], places, names)
        backward = [source for source in _sources(tensor) if source is not None and source.requires_grad]
        for source, factor in zip(backward, factors[tensor], strict=True):
            parts[source].append(factor.product)
    hidden = len(made) - len(factors)
    vertices = tuple(
        _vertex(
            tensor,
            names,
            places,
            received.get(tensor),
            factors.get(tensor),
            () if hidden else tuple(parts[tensor]),
        )
        for tensor in places
    )
    return ChainRule(vertices, hidden)


def _operations(loss: Tensor) -> list[Tensor]:
    """The tensors behind the loss that an operation made, the latest first.

    Raises:
        ValueError: a backward has freed one of these operations.
    """
    found: dict[Tensor, Node] = {}
    waiting = [loss]
    while waiting:
        tensor = waiting.pop()
        node = tensor.node
        if node is None or tensor in found:
            continue
        if node.freed:
            raise ValueError(
                f"the graph was freed by a backward, at a result of {node.rule.name}: call "
                f"loss.backward(retain=True), or chain_rule(loss) before loss.backward()."
            )
        found[tensor] = node
        waiting += [source for source in node.inputs if source is not None]
    return sorted(found, key=lambda tensor: found[tensor].order, reverse=True)


def _sources(tensor: Tensor) -> tuple[Tensor | None, ...]:
    return tensor.node.inputs if tensor.node is not None else ()


def _names(tensors: list[Tensor], loss: Tensor) -> dict[Tensor, str]:
    """A name for every tensor: its own, a number's value, or a letter of its rule and a number, the earliest first."""
    taken = {tensor.name for tensor in tensors}
    names: dict[Tensor, str] = {}
    counts: Counter[str] = Counter()
    among = set(tensors)

    def name(tensor: Tensor, letter: str) -> None:
        if tensor.name is not None:
            names[tensor] = tensor.name
        elif tensor.node is None and not tensor.requires_grad and not tensor.shape:
            value = number(tensor.item())
            names[tensor] = f"({value})" if value.startswith("-") else value
        elif tensor is loss and "loss" not in taken:
            names[tensor] = "loss"
        while tensor not in names:
            counts[letter] += 1
            if (candidate := f"{letter}{counts[letter]}") not in taken:
                names[tensor] = candidate

    for tensor in sorted(tensors, key=lambda one: one.node.order if one.node is not None else -1):
        node = tensor.node
        letters, sources = (node.rule.inputs, node.inputs) if node is not None else ((), ())
        for letter, source in zip(letters, sources, strict=False):
            if source in among and source not in names and source.node is None:
                name(
                    source,
                    "c" if not source.requires_grad else "x" if letter in "ab" and "a" in letters else letter,
                )
        if node is not None or tensor is loss:
            name(tensor, "v" if node is not None else "x")
    return names


def _factors(
    tensor: Tensor, upstream: Array, places: dict[Tensor, int], names: dict[Tensor, str]
) -> tuple[Factor, ...]:
    """What the operation behind a tensor passes back to each input that needs a gradient."""
    node = tensor.node
    assert node is not None
    called = {"y": names[tensor]} | {
        letter: names[source]
        for letter, source in zip(node.rule.inputs, node.inputs, strict=False)
        if source is not None
    }
    single = tensor.size == 1
    with np.errstate(all="ignore"):
        passed = node.rule.gradients(upstream, node.cache, node.needs)
        slopes = node.rule.gradients(np.ones_like(upstream), node.cache, node.needs) if single else passed
    factors = []
    for i, (source, need, d, slope) in enumerate(zip(node.inputs, node.needs, passed, slopes, strict=False)):
        if source is None or d is None or slope is None or not need:
            continue
        text = node.rule.partial[i] if single and source.size == 1 else node.rule.local[i]
        factors.append(
            Factor(
                vertex=places[source],
                formula=rename(text, called),
                shape=tensor.shape + source.shape,
                local=sample(slope) if single else "",
                upstream=sample(upstream),
                product=sample(d),
            )
        )
    return tuple(factors)


def _vertex(
    tensor: Tensor,
    names: dict[Tensor, str],
    places: dict[Tensor, int],
    gradient: Array | None,
    factors: tuple[Factor, ...] | None,
    parts: tuple[str, ...],
) -> Vertex:
    node = tensor.node if factors is not None else None
    kind = "operation" if node else "cut" if tensor.node else "leaf" if tensor.requires_grad else "constant"
    letters, sources = (node.rule.inputs, node.inputs) if node is not None else ((), ())
    called: dict[str, str | None] = {"y": names[tensor]}
    for letter, source in zip(letters, sources, strict=False):
        called[letter] = None if source is None else names[source]
    return Vertex(
        name=names[tensor],
        kind=kind,
        rule=node.rule.name if node is not None else "",
        formula=rename(node.rule.formula, called) if node is not None else "",
        keywords=node.keywords() if node is not None else "",
        shape=tensor.shape,
        value=sample(tensor.data),
        gradient=sample(gradient) if gradient is not None else "",
        parts=parts,
        factors=factors or (),
        inputs=tuple(places[source] for source in sources if source is not None),
    )


def _value(vertex: Vertex) -> str:
    return f"value {vertex.shape} {vertex.value}" if vertex.shape else f"value {vertex.value}"


def _gradient(vertex: Vertex) -> str:
    if not vertex.gradient:
        return "constant"
    summed = f" {sum_of(vertex.parts, vertex.shape)}" if len(vertex.parts) > 1 else ""
    return f"gradient {vertex.gradient}{summed}"
