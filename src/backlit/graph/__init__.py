"""The graph: tensors that record the pairs applied to them, the table of rules, and the backward sweep."""

from backlit.graph.mode import is_grad_enabled, no_grad
from backlit.graph.node import LocalGradient, Node
from backlit.graph.rule import Rule
from backlit.graph.rules import RULES
from backlit.graph.tensor import Tensor, apply, gradients

__all__ = [
    "RULES",
    "LocalGradient",
    "Node",
    "Rule",
    "Tensor",
    "apply",
    "gradients",
    "is_grad_enabled",
    "no_grad",
]
