"""Optimisers: they change parameters by their gradients, in place, a block that fits the cache at a time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from backlit.nn.module import Parameter
from backlit.ops.arguments import as_flag, as_number
from backlit.ops.arrays import Array, empty, zeros
from backlit.optim.parameters import check_others, gradient_of, parameter_list
from backlit.sizes import integer, shown

_BLOCK = (
    1 << 14
)  # elements: a few arrays of 64 to 128 KB, which the second-level cache keeps between operations
_OTHERS: dict[str, Any] = {"maximize": False, "foreach": None, "differentiable": False, "fused": None}
_FLUSH = 64  # steps between two looks for denormals: without gradient a moment takes hundreds to become one


class Optimizer(ABC):
    """The abstract optimiser: it holds parameters, and a subclass says how one changes by its gradient.

    Args:
        parameters: an iterable of parameters, `model.parameters()`.
        lr: the learning rate, at least 0.
        weight_decay: at least 0.

    Attributes:
        lr: the learning rate of the next step; may be assigned.

    Raises:
        TypeError: parameters is no iterable of parameters, or a setting no number.
        ValueError: there is no parameter, one appears twice, or a setting is out of range.

    Example:
        >>> class SignDescent(Optimizer):
        ...     def __init__(self, parameters, lr=1e-3):
        ...         super().__init__(parameters, lr, weight_decay=0.0)
        ...
        ...     def _update(self, p, g, moments, scratch, step):
        ...         p -= self.lr * np.sign(g)
        >>> p = Parameter(np.array([1.0, 2.0]))
        >>> p.grad = np.array([5.0, -0.1])
        >>> SignDescent([p], lr=0.5).step()
        >>> p.data
        array([0.5, 2.5])
    """

    _moments: tuple[str, ...] = ()  # names of the arrays that are kept for each parameter

    def __init__(self, parameters: Iterable[Parameter], lr: float, weight_decay: float) -> None:
        self.parameters = parameter_list(parameters)
        if not self.parameters:
            raise ValueError("parameters is empty, and at least one is needed: pass model.parameters().")
        self.lr = lr
        self.weight_decay = as_number("weight_decay", weight_decay, 0, math.inf, below=True)
        self._steps = [0] * len(self.parameters)
        self._state: dict[str, Array] = {}

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = as_number("lr", value, 0, math.inf, below=True)

    @abstractmethod
    def _update(self, p: Array, g: Array, moments: tuple[Array, ...], scratch: Array, step: int) -> None:
        """Change a block of a parameter p by its gradient g.

        All are one-dimensional, of one size and dtype, and at most _BLOCK long.

        Args:
            p: the values, to be changed in place. g: the gradient, not to be changed.
            moments: the arrays named in `_moments`, to be changed in place.
            scratch: two rows to compute in. step: 1 in the first step that this parameter takes.
        """

    def step(self) -> None:
        """Change every parameter that has a gradient; one without stays as it is, its state too.

        Raises:
            TypeError, ValueError: a gradient is no array like its parameter; then nothing has changed.
        """
        gradients = [gradient_of(index, parameter) for index, parameter in enumerate(self.parameters)]
        for index, (parameter, gradient) in enumerate(zip(self.parameters, gradients, strict=True)):
            if gradient is not None:
                self._step(index, parameter, gradient)

    def zero_grad(self) -> None:
        """Drop the gradients: `.grad` of every parameter is None afterwards."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """What the next steps depend on beside the parameters: copies of arrays, and what JSON can hold."""
        scalars = {"kind": type(self).__name__, "steps": list(self._steps), **self._settings()}
        return {name: array.copy() for name, array in self._state.items()}, scalars

    def load_state_dict(self, arrays: Mapping[str, Any], scalars: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` gave, to the same bits; if it does not fit, nothing changes.

        Args:
            arrays, scalars: the two parts of the state.

        Raises:
            ValueError: the state is of another kind of optimiser, or of other parameters.
        """
        kind, steps = scalars.get("kind"), scalars.get("steps")
        if kind != type(self).__name__:
            raise ValueError(f"scalars is the state of {shown(kind)}, and this is {type(self).__name__}.")
        if not isinstance(steps, (list, tuple)) or len(steps) != len(self.parameters):
            raise ValueError(
                f"scalars has the steps {shown(steps)}, and one number is needed for each of the "
                f"{len(self.parameters)} parameters: make the optimiser with the same model."
            )
        counts = [integer("steps", count, 0) for count in steps]
        wanted = {
            f"{index}.{name}": self.parameters[index]
            for index, count in enumerate(counts)
            if count
            for name in self._moments
        }
        if set(arrays) != set(wanted):
            raise ValueError(
                f"arrays has the names {shown(sorted(arrays))}, and {shown(sorted(wanted))} are needed: make "
                f"the optimiser with the same settings and model."
            )
        state: dict[str, Array] = {}
        for name, parameter in wanted.items():
            given = np.asarray(arrays[name])
            if given.shape != parameter.shape or given.dtype != parameter.dtype:
                raise ValueError(
                    f"arrays[{name!r}] is {given.dtype} of shape {given.shape}, and the parameter is "
                    f"{parameter.dtype} of shape {parameter.shape}: make the optimiser with the same model."
                )
            state[name] = empty(given.shape, given.dtype)
            state[name][...] = given
        before = self._settings()
        try:
            self._restore(scalars)
        except BaseException:
            self._restore(before)
            raise
        self._steps, self._state = counts, state

    def _settings(self) -> dict[str, Any]:
        """The settings, as `state_dict` has them."""
        return {"lr": self.lr, "weight_decay": self.weight_decay}

    def _restore(self, scalars: Mapping[str, Any]) -> None:
        """Take the settings over from a state; a subclass's own first, as any of them may raise."""
        missing = [name for name in self._settings() if name not in scalars]
        if missing:
            raise ValueError(f"scalars lacks {', '.join(missing)}: pass what state_dict() returned.")
        lr, weight_decay = scalars["lr"], scalars["weight_decay"]
        decay = as_number("weight_decay", weight_decay, 0, math.inf, below=True)
        self.lr = lr
        self.weight_decay = decay

    def _step(self, index: int, parameter: Parameter, gradient: Array) -> None:
        """One parameter's update, block by block."""
        p = parameter.data
        if not (p.flags.c_contiguous and p.flags.writeable):
            own = empty(p.shape, p.dtype)
            own[...] = p
            p = parameter.data = own
        names = [f"{index}.{name}" for name in self._moments]
        for name in names:
            if name not in self._state:
                self._state[name] = zeros(p.shape, p.dtype)
            elif self._state[name].dtype != p.dtype:  # the model was converted meanwhile
                self._state[name] = self._state[name].astype(p.dtype)
        step = self._steps[index] = self._steps[index] + 1
        values, g = p.reshape(-1), np.ascontiguousarray(gradient).reshape(-1)
        moments = [self._state[name].reshape(-1) for name in names]
        scratch = np.empty((2, min(p.size, _BLOCK)), p.dtype)
        with np.errstate(all="ignore"):  # infinity and NaN in a gradient go through, as anywhere
            for part in _blocks(p.size):
                size = part.stop - part.start
                rows = tuple(moment[part] for moment in moments)
                self._update(values[part], g[part], rows, scratch[:, :size], step)
                if step % _FLUSH == 0:
                    for row in rows:
                        _flush(row)


class SGD(Optimizer):
    """Gradient descent, with momentum and weight decay.

        g' = g + weight_decay * p
        v  = momentum * v + (1 - dampening) * g',   v = g' in the first step
        p  = p - lr * v,   with nesterov:  p - lr * (g' + momentum * v)

    Args:
        parameters: `model.parameters()`.
        lr: the learning rate, at least 0.
        momentum: 0 for none. dampening: at least 0, below or equal to 1.
        weight_decay: at least 0.
        nesterov: look ahead; needs momentum, and no dampening.
        others: PyTorch's further settings (maximize, foreach, differentiable, fused), at their defaults only.

    Raises:
        TypeError, ValueError: as `Optimizer`.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013; in
    PyTorch's form, where the learning rate multiplies v and not g.

    Example:
        >>> p = Parameter(np.array([1.0, 2.0]))
        >>> p.grad = np.array([10.0, 10.0])
        >>> SGD([p], lr=0.01).step()
        >>> p.data
        array([0.9, 1.9])
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        **others: Any,
    ) -> None:
        check_others("SGD", others, _OTHERS)
        super().__init__(parameters, lr, weight_decay)
        self._configure(momentum, dampening, nesterov)

    def _configure(self, momentum: Any, dampening: Any, nesterov: Any) -> None:
        momentum = as_number("momentum", momentum, 0, math.inf, below=True)
        dampening = as_number("dampening", dampening, 0, 1)
        if as_flag("nesterov", nesterov) and (not momentum or dampening):
            raise ValueError(
                f"nesterov needs momentum above 0 and no dampening, and they are {momentum:g} and "
                f"{dampening:g}."
            )
        self.momentum, self.dampening, self.nesterov = momentum, dampening, bool(nesterov)
        self._moments = ("momentum",) if momentum else ()

    def _update(self, p: Array, g: Array, moments: tuple[Array, ...], scratch: Array, step: int) -> None:
        if self.weight_decay:
            g = np.add(np.multiply(p, self.weight_decay, out=scratch[0]), g, out=scratch[0])
        if moments:
            (v,) = moments
            if step == 1:
                v[...] = g
            else:
                v *= self.momentum
                v += np.multiply(g, 1 - self.dampening, out=scratch[1]) if self.dampening else g
            if self.nesterov:
                g = np.add(g, np.multiply(v, self.momentum, out=scratch[1]), out=scratch[1])
            else:
                g = v
        p -= np.multiply(g, self.lr, out=scratch[1])

    def _settings(self) -> dict[str, Any]:
        own = {"momentum": self.momentum, "dampening": self.dampening, "nesterov": self.nesterov}
        return {**super()._settings(), **own}

    def _restore(self, scalars: Mapping[str, Any]) -> None:
        super()._restore(scalars)
        self._configure(scalars["momentum"], scalars["dampening"], scalars["nesterov"])


class Adam(Optimizer):
    """Steps of a size that the gradient's own history sets, element by element.

        g' = g + weight_decay * p
        m  = b1 * m + (1 - b1) * g',   v = b2 * v + (1 - b2) * g'**2
        p  = p - lr * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps)
        in this parameter's step t = 1, 2, ...

    Args:
        parameters: `model.parameters()`.
        lr: the learning rate, at least 0.
        betas: b1 and b2, from 0 up to but not including 1.
        eps: at least 0.
        weight_decay: at least 0; goes through the gradient here, and beside it in AdamW.
        amsgrad, others: PyTorch's further settings (maximize, foreach, capturable, differentiable, fused,
            decoupled_weight_decay), at their defaults only.

    Raises:
        TypeError, ValueError: as `Optimizer`.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", 2015.

    Example:
        >>> p = Parameter(np.array([1.0, 2.0]))
        >>> p.grad = np.array([0.001, 1000.0])
        >>> Adam([p], lr=0.1).step()
        >>> p.data.round(3)
        array([0.9, 1.9])
    """

    _moments = ("m", "v")

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        **others: Any,
    ) -> None:
        known = _OTHERS | {"amsgrad": False, "capturable": False, "decoupled_weight_decay": False}
        check_others("Adam", {"amsgrad": amsgrad, **others}, known)
        super().__init__(parameters, lr, weight_decay)
        self._configure(betas, eps)

    def _configure(self, betas: Any, eps: Any) -> None:
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"betas is {shown(betas)}, and two numbers are needed: betas=(0.9, 0.999).")
        first, second = (as_number(f"betas[{i}]", beta, 0, 1, below=True) for i, beta in enumerate(betas))
        self.eps = as_number("eps", eps, 0, math.inf, below=True)
        self.betas = (first, second)

    def _update(self, p: Array, g: Array, moments: tuple[Array, ...], scratch: Array, step: int) -> None:
        g = self._decayed(p, g, scratch[0])
        (m, v), (first, second), work = moments, self.betas, scratch[1]
        m += np.multiply(np.subtract(g, m, out=work), 1 - first, out=work)  # m + (1 - b1) * (g - m)
        v *= second
        v += np.multiply(np.multiply(g, g, out=work), 1 - second, out=work)
        np.sqrt(v, out=work)
        work /= math.sqrt(1 - second**step)
        work += self.eps
        np.divide(m, work, out=work)
        work *= self.lr / (1 - first**step)
        p -= work

    def _decayed(self, p: Array, g: Array, work: Array) -> Array:
        """The gradient that goes into the moments, after the weight decay."""
        if not self.weight_decay:
            return g
        return np.add(np.multiply(p, self.weight_decay, out=work), g, out=work)

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "betas": list(self.betas), "eps": self.eps}

    def _restore(self, scalars: Mapping[str, Any]) -> None:
        super()._restore(scalars)
        self._configure(scalars["betas"], scalars["eps"])


class AdamW(Adam):
    """Adam with the weight decay apart from it: first p = p * (1 - lr * weight_decay), then Adam's step.

    Args:
        parameters, lr, betas, eps: as Adam's.
        weight_decay: at least 0.
        amsgrad, others: as Adam's, without decoupled_weight_decay, which is always so here.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.

    Example:
        >>> p = Parameter(np.array([1.0]))
        >>> p.grad = np.array([0.0])
        >>> AdamW([p], lr=0.1, weight_decay=0.5).step()
        >>> p.data
        array([0.95])
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        **others: Any,
    ) -> None:
        known = _OTHERS | {"amsgrad": False, "capturable": False}
        check_others("AdamW", {"amsgrad": amsgrad, **others}, known)
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def _decayed(self, p: Array, g: Array, work: Array) -> Array:  # Adam's decay needs it
        if self.weight_decay:
            p *= 1 - self.lr * self.weight_decay
        return g


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, size)) for start in range(0, size, _BLOCK))


def _flush(moment: Array) -> None:
    """Set denormals to zero: they add nothing to a parameter, and take a processor 100 times longer."""
    moment[np.abs(moment) < np.finfo(moment.dtype).tiny] = 0
