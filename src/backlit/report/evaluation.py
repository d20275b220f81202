"""What evaluation mode changes: the formulas of two rules, and, for a check, the precision."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from backlit.graph import Node
from backlit.nn import Module

__all__ = ["as_evaluated", "in_double"]


class _Texts(NamedTuple):
    """The texts of a rule in evaluation mode: see `backlit.graph.Rule`."""

    formula: str
    local: tuple[str, ...]
    partial: tuple[str, ...]


_SCALE = "gamma / sqrt(running_var + eps)"
_EVALUATED = {
    "batch_norm": _Texts(
        "y = gamma * z + beta, z = (x - running_mean) / sqrt(running_var + eps)",
        (f"dx = dy * {_SCALE}", "dgamma = sum(dy * z) per channel", "dbeta = sum(dy) per channel"),
        (f"∂y[i]/∂x[i] = {_SCALE}, else 0", "∂y[i]/∂gamma = z[i]", "∂y[i]/∂beta = 1"),
    ),
    "dropout": _Texts("y = x", ("dx = dy",), ("∂y[i]/∂x[i] = 1, else 0",)),
}


def as_evaluated(node: Node) -> Node:
    """The node with the formulas of evaluation mode, where it computed in that and they are others.

    Example:
        >>> from backlit.graph import Tensor, apply
        >>> y = apply("dropout", Tensor([1.0, 2.0], requires_grad=True), p=0.5, training=False)
        >>> as_evaluated(y.node).rule.local
        ('dx = dy',)
    """
    texts = _EVALUATED.get(node.rule.name)
    if texts is None or node.attributes.get("training", True):
        return node
    node = copy.copy(node)
    node.rule = node.rule._replace(**texts._asdict())
    return node


@contextmanager
def in_double(model: Module) -> Iterator[None]:
    """The model in float64; afterwards it has the very arrays again that it had before."""
    parameters = [(parameter, parameter.data) for parameter in model.parameters()]
    tables = [(module._buffers, dict(module._buffers)) for module in model.modules()]
    try:
        for parameter, data in parameters:
            parameter.data = data.astype(np.float64)
        for table, buffers in tables:
            table.update(
                {
                    name: buffer.astype(np.float64)
                    for name, buffer in buffers.items()
                    if buffer is not None and buffer.dtype.kind == "f"
                }
            )
        yield
    finally:
        for parameter, data in parameters:
            parameter.data = data
        for table, buffers in tables:
            table.update(buffers)
