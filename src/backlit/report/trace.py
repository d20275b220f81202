"""One input followed through the recorded graph: all operations from the loss to the pixels, with gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from backlit.graph import Node, Tensor, apply, gradients
from backlit.nn import Module
from backlit.ops.arrays import Array
from backlit.report.evaluation import as_evaluated

__all__ = ["Step", "Trace", "follow"]


@dataclass(frozen=True, eq=False)
class Step:
    """One operation on the way back.

    Attributes:
        node: the recorded operation, with the formulas of the mode that it computed in.
        module: the dotted name of the module that called it; "" for an operation outside of all.
        output: its result y.
        upstream: dy, the gradient of the loss with respect to y.
        inputs: for each input that was given: its name in the rule's texts, the parameter's name or "", whether
            the pixels flow through it, its value, and its gradient or None.
        number: its place on the way back, from 1.
        sources: the numbers of the steps that its gradients go to next; one past the last step is the pixels.
    """

    node: Node
    module: str
    output: Array
    upstream: Array
    inputs: tuple[Input, ...]
    number: int
    sources: tuple[int, ...]

    @property
    def rule(self) -> str:
        """The name of the rule."""
        return self.node.rule.name

    def input(self, name: str) -> Input | None:
        """The input of that name in the rule's texts, None where it was left out."""
        return next((given for given in self.inputs if given.name == name), None)


@dataclass(frozen=True, eq=False)
class Input:
    """One input of a step: see `Step.inputs`."""

    name: str
    parameter: str
    flows: bool
    value: Array
    gradient: Array | None


@dataclass(frozen=True, eq=False)
class Trace:
    """An input, its label, the loss, and the steps from the loss to the pixels.

    Attributes:
        pixels: the input, (1, C, *spatial).
        gradient: the gradient of the loss with respect to it.
        label: its true class.
        logits: the model's output, (K,).
        loss: the cross-entropy.
        steps: from the loss (first) to the pixels (last).
    """

    pixels: Array
    gradient: Array
    label: int
    logits: Array
    loss: float
    steps: tuple[Step, ...]


def follow(model: Module, pixels: Array, label: int) -> Trace:
    """Compute the loss of one input in evaluation mode, and walk its graph back to the pixels.

    Parameters, their `.grad`, buffers and modes are afterwards as they were.

    Args:
        model: a classifier whose output is logits (1, K).
        pixels: one input, (1, C, *spatial).
        label: its true class.

    Raises:
        ValueError: the pixels have no part in the loss (the model computes outside of the graph).
    """
    with recording(model) as called:
        x = Tensor(np.array(pixels), requires_grad=True)
        logits = model(x)
        loss = apply("cross_entropy", logits, labels=np.array([label]))
    received = gradients(loss)
    if x not in received:
        raise ValueError(
            "the gradient of the loss does not reach the model's input: a report follows it back through "
            "backlit's operations, so the model has to compute with them, on tensors, throughout."
        )
    parameters = {id(parameter): name for name, parameter in model.named_parameters()}
    way = _between(x, loss)
    number = {id(tensor): place for place, tensor in enumerate([*way, x], 1)}
    steps = []
    for tensor in way:
        node = tensor.node
        assert node is not None  # only x is a leaf, and x is not on the way
        given = [pair for pair in zip(node.rule.inputs, node.inputs, strict=False) if pair[1] is not None]
        inputs = tuple(
            Input(name, parameters.get(id(i), ""), id(i) in number, i.data, received.get(i))
            for name, i in given
            if i is not None
        )
        sources = tuple(sorted({number[id(i)] for _, i in given if id(i) in number}))
        module = called.get(id(tensor), "")
        upstream = received[tensor]
        steps.append(
            Step(as_evaluated(node), module, tensor.data, upstream, inputs, number[id(tensor)], sources)
        )
    return Trace(x.data, received[x], label, logits.data[0], float(loss.item()), tuple(steps))


@contextmanager
def recording(model: Module) -> Iterator[dict[int, str]]:
    """Evaluation mode, in which every output's id is entered with the dotted name of the module that made it.

    The innermost module counts. Afterwards hooks are gone and every module is in the mode in which it was.
    """
    called: dict[int, str] = {}
    kept = []  # the outputs, so that no id is given twice

    def enter(name: str, _module: Module, _inputs: object, output: object) -> None:
        kept.append(output)
        called.setdefault(id(output), name)

    modes = [(module, module.training) for module in model.modules()]
    handles = [module.register_forward_hook(partial(enter, name)) for name, module in model.named_modules()]
    model.eval()
    try:
        yield called
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training


def _between(x: Tensor, loss: Tensor) -> list[Tensor]:
    """The results of all operations that x flows through on its way to the loss, the last first."""
    behind: dict[int, Tensor] = {}
    pending = [loss]
    while pending:
        tensor = pending.pop()
        if id(tensor) not in behind and tensor.node is not None:
            behind[id(tensor)] = tensor
            pending += [source for source in tensor.node.inputs if source is not None]
    flows = {id(x)}
    way = []
    for tensor in sorted(behind.values(), key=_order):
        assert tensor.node is not None  # those without are not in it
        if any(id(source) in flows for source in tensor.node.inputs):
            flows.add(id(tensor))
            way.append(tensor)
    return way[::-1]


def _order(tensor: Tensor) -> int:
    return tensor.node.order if tensor.node is not None else -1
