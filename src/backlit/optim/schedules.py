"""Schedules: how the learning rate goes over a run, as factors that a training loop multiplies it with."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from backlit.ops.arguments import as_number
from backlit.sizes import integer


@dataclass(frozen=True)
class Schedule(ABC):
    """The abstract schedule: called with the step and the number of steps, it gives the factor on lr.

    Args:
        warmup_steps: how many steps at the start rise linearly, step s = 0, 1, ... with the factor
            (s + 1) / warmup_steps; a subclass says what follows.

    Raises:
        TypeError, ValueError: a setting is no number, or out of range.

    Example:
        >>> class Linear(Schedule):
        ...     def _factor(self, step, length):
        ...         return 1 - step / length
        >>> [Linear(warmup_steps=2)(step, 6) for step in range(6)]
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """

    warmup_steps: int = 0

    def __post_init__(self) -> None:
        integer("warmup_steps", self.warmup_steps, 0)

    def __call__(self, step: int, total_steps: int) -> float:
        """Give the factor in step 0, 1, ... of a run of total_steps; after its end the last one stays."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        length = max(total_steps - self.warmup_steps, 1)
        return self._factor(min(step - self.warmup_steps, length), length)

    @abstractmethod
    def _factor(self, step: int, length: int) -> float:
        """Give the factor in a step from 0 to length, counted from the end of the warm-up."""


@dataclass(frozen=True)
class ConstantLR(Schedule):
    """The learning rate as it is, after the warm-up.

    Example:
        >>> [ConstantLR(warmup_steps=2)(step, 4) for step in range(4)]
        [0.5, 1.0, 1.0, 1.0]
    """

    def _factor(self, step: int, length: int) -> float:  # constant
        return 1.0


@dataclass(frozen=True)
class StepLR(Schedule):
    """The learning rate multiplied by gamma after every step_size steps: gamma ** floor(step / step_size).

    Args:
        warmup_steps: as `Schedule`.
        step_size: steps between two drops, counted from the end of the warm-up; None for a third of what is
            left then, which makes two drops in a run.
        gamma: from 0 to 1.

    Example:
        >>> [StepLR(step_size=2, gamma=0.5)(step, 6) for step in range(6)]
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """

    step_size: int | None = None
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("gamma", self.gamma, 0, 1)
        if self.step_size is not None:
            integer("step_size", self.step_size, 1)

    def _factor(self, step: int, length: int) -> float:
        size = self.step_size if self.step_size is not None else max(math.ceil(length / 3), 1)
        return float(self.gamma ** (step // size))


@dataclass(frozen=True)
class CosineLR(Schedule):
    """The learning rate along half a cosine, from 1 after the warm-up to `final` at the end of the run.

        factor = final + (1 - final) * (1 + cos(pi * step / length)) / 2

    Args:
        warmup_steps: as `Schedule`.
        final: from 0 to 1.

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, without
        restarts.

    Example:
        >>> [round(CosineLR()(step, 4), 3) for step in range(5)]
        [1.0, 0.854, 0.5, 0.146, 0.0]
    """

    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        as_number("final", self.final, 0, 1)

    def _factor(self, step: int, length: int) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * step / length)) / 2


SCHEDULES: dict[str, type[Schedule]] = {"constant": ConstantLR, "step": StepLR, "cosine": CosineLR}
