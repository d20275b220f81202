"""The chain rule: one iterative walk from a result back to the leaves, in reverse order of creation."""

from __future__ import annotations

import os
import threading
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import numpy as np

from backlit.graph.literals import PLAIN, as_numbers
from backlit.graph.node import Node
from backlit.ops.arrays import Array, as_upstream

if TYPE_CHECKING:
    from backlit.graph.tensor import Tensor

_accumulating = threading.Lock()


def _renew() -> None:
    """Give a forked child a lock that no thread of its parent holds."""
    global _accumulating
    _accumulating = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def sweep(root: Tensor, upstream: Array, *, retain: bool) -> dict[Tensor, Array]:
    """The gradient of root with respect to the leaves behind it; with retain, to every tensor on the way too.

    An operation is later than those that made its inputs, so the latest that is still waiting has received
    its whole gradient. Without retain each node is freed as soon as it is done, and so is every intermediate
    tensor that nobody else holds.

    Args:
        root: where to start.
        upstream: the gradient of root; never modified.
        retain: whether nodes and intermediate gradients stay.

    Returns:
        Tensor -> gradient. The arrays are new ones that share no memory.

    Raises:
        ValueError: an earlier sweep has freed a node on the way.
    """
    received = {root: upstream.copy() if retain or root.node is None else upstream}
    waiting: list[tuple[int, Tensor, Node]] = []
    if root.node is not None:
        waiting.append((-root.node.order, root, root.node))
    while waiting:  # the latest first
        _, tensor, node = heappop(waiting)
        node.check_alive()
        dout = received[tensor] if retain else received.pop(tensor)
        gradients = node.rule.gradients(dout, node.cache, node.needs)
        for source, need, d in zip(node.inputs, node.needs, gradients, strict=False):
            if source is None or not need or d is None:
                continue
            if source in received:
                received[source] = np.asarray(received[source] + d)
                continue
            stays = retain or source.node is None
            received[source] = d.copy() if stays and node.rule.views else d
            if source.node is not None:
                heappush(waiting, (-source.node.order, source, source.node))
        if not retain:
            node.free()
    return received


def upstream_of(root: Tensor, gradient: Any) -> Array:
    """The gradient that a sweep from root starts with: the given one, checked, or the 1 of a single number.

    Raises:
        TypeError, ValueError: as `Tensor.backward`.
    """
    if not root.requires_grad:
        raise ValueError(
            "this tensor depends on nothing that requires a gradient: make the inputs with "
            "Tensor(x, requires_grad=True), and compute outside of no_grad."
        )
    if gradient is None:
        if root.size != 1:
            raise ValueError(
                f"backward of a tensor of shape {root.shape} needs gradient, an array of that shape: "
                f"pass one, or reduce to a single number first, with sum() or mean()."
            )
        return np.ones(root.shape, root.dtype)
    if isinstance(gradient, PLAIN):
        gradient = as_numbers("gradient", gradient, root.dtype)
    return as_upstream("gradient", gradient, root.shape, root.dtype)


def accumulate(root: Tensor, upstream: Array, *, retain: bool) -> None:
    """Sweep, then add what arrived to each tensor's .grad: all of it or, when the sweep fails, nothing."""
    with np.errstate(all="ignore"):
        received = sweep(root, upstream, retain=retain)
    with _accumulating:  # threads may share parameters
        while received:
            tensor, d = received.popitem()
            tensor.grad = d if tensor.grad is None else np.asarray(tensor.grad + d)
