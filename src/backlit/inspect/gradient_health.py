"""Gradient health: how large gradients and updates are in each layer, and how many units are dead, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from itertools import count
from typing import Any

import numpy as np

from backlit.graph import Tensor, gradients
from backlit.nn import Module, ReLU
from backlit.ops import random
from backlit.ops.arrays import Array
from backlit.train import Run
from backlit.train.evaluation import Loss, Objective, Samples, evaluation_mode


class GradientHealth:
    """A callback for `fit` that adds columns about the flow of gradients to the history.

        grad_norm/<parameter>     |d loss / d parameter|, on the probe batch
        update_ratio/<parameter>  |change of the parameter| / |parameter|, in the epoch's last step
        dead/<relu>               share of a ReLU's channels that are zero for the whole probe batch

    All norms are Euclidean. The probe batch is always the same, and the model sees it in evaluation mode, so that the
    columns of two epochs can be compared. Training goes on with the same bits as without this callback.

    A ratio is NaN where the parameter was all zeros. A ReLU has the name of its module, and its share is over all uses
    of the module; those that the model computes without one, by `nn.functional.relu`, are called relu1, relu2 and so on
    in order of computation.

    Args:
        probe_x: inputs, (N, ...).
        probe_y: their labels or targets.
        loss: the loss, as for `fit`.

    Example:
        >>> from backlit.nn import Linear, ReLU, Sequential
        >>> from backlit.train import fit
        >>> x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
        >>> y = (x[:, 0] > x[:, 1]).astype(np.int64)
        >>> model = Sequential(Linear(2, 8), ReLU(), Linear(8, 2))
        >>> health = GradientHealth(x[:20], y[:20])
        >>> history = fit(model, (x, y), epochs=2, batch_size=20, lr=0.1, progress=False, callbacks=[health])
        >>> [name for name in history.columns if "/" in name and "bias" not in name]
        ['grad_norm/0.weight', 'grad_norm/2.weight', 'update_ratio/0.weight', 'update_ratio/2.weight', 'dead/1']
    """

    def __init__(self, probe_x: Any, probe_y: Any, loss: Loss = "cross_entropy") -> None:
        self._probe = probe_x, probe_y
        self._samples: Samples  # the probe, once it is known to fit the model
        self._objective = Objective(loss)
        self._before: dict[str, Array] = {}
        self._ratios: dict[str, float] = {}

    def __call__(self, event: str, run: Run) -> None:
        """Follow the events of a run."""
        last = run.step == run.steps_per_epoch
        if event == "start":
            self._samples = self._objective.samples(run.model, self._probe, ("probe_x", "probe_y"))
        elif event == "gradients" and last:
            self._before = {name: parameter.data.copy() for name, parameter in run.model.named_parameters()}
        elif event == "update" and last:
            self._ratios = {
                f"update_ratio/{name}": _ratio(parameter.data, self._before[name])
                for name, parameter in run.model.named_parameters()
            }
            self._before = {}
        elif event == "epoch":
            norms, dead = self._measure(run.model)
            run.metrics |= norms | self._ratios | dead

    def _measure(self, model: Module) -> tuple[dict[str, float], dict[str, float]]:
        """The norms of the gradients and the shares of dead channels on the probe batch."""
        uses: dict[str, list[Tensor]] = {}
        with ExitStack() as stack:
            stack.enter_context(random.using(np.random.Generator(np.random.PCG64(0))))
            stack.enter_context(evaluation_mode(model))
            for name, module in model.named_modules():
                if isinstance(module, ReLU):
                    hook = module.register_forward_hook(_noting(uses.setdefault(name, [])))
                    stack.callback(hook.remove)
            # a probe that needs its gradient: so the operations of frozen layers are recorded, too
            output = model(Tensor(self._samples.x, requires_grad=True))
            found = gradients(self._objective(output, self._samples.y))
        norms = {
            f"grad_norm/{name}": _norm(found[parameter]) if parameter in found else 0.0
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        uses |= _without_module(found, output, uses)
        dead = {f"dead/{name}": _share_dead(outputs) for name, outputs in uses.items() if outputs}
        return norms, dead


def _noting(uses: list[Tensor]) -> Any:
    """A forward hook that notes what a module returns."""

    def note(module: Module, inputs: Any, output: Tensor) -> None:
        uses.append(output)

    return note


def _without_module(
    found: Iterable[Tensor], output: Tensor, modules: Mapping[str, list[Tensor]]
) -> dict[str, list[Tensor]]:
    """The recorded ReLUs behind the model's output that no module called, as relu1, relu2... in order of computation.

    Args:
        found: the tensors behind the loss. output: the model's output; what is later is the loss's own.
        modules: what each ReLU module returned, by its name; a number whose name is among these is left out.
    """
    called = {id(use.node) for uses in modules.values() for use in uses}
    others = {
        tensor.node.order: tensor
        for tensor in found
        if tensor.node is not None and tensor.node.rule.name == "relu" and id(tensor.node) not in called
    }
    last = output.node.order if output.node is not None else -1
    names = (name for number in count(1) if (name := f"relu{number}") not in modules)
    return {
        name: [others[order]] for order, name in zip(sorted(others), names, strict=False) if order <= last
    }


def _share_dead(outputs: list[Tensor]) -> float:
    """The share of channels that are nowhere above zero, over all uses of a ReLU."""
    fired = []
    for output in outputs:
        channels = min(1, output.ndim - 1)  # the axis; axis 0 is the batch
        others = tuple(axis for axis in range(output.ndim) if axis != channels)
        fired.append(np.atleast_1d((output.data > 0).any(axis=others)))
    return 1 - float(np.mean(np.concatenate(fired)))


def _norm(array: Array) -> float:
    """The Euclidean norm, in a sum that no number of BLAS threads changes."""
    with np.errstate(over="ignore"):
        return math.sqrt(np.add.reduce(np.square(array, dtype=np.float64), axis=None))


def _ratio(now: Array, before: Array) -> float:
    size = _norm(before)
    return _norm(now.astype(np.float64) - before) / size if size else math.nan
