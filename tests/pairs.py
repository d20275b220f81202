"""Every pair of backlit.ops but convolutions and pools, as rows that a test can run through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import backlit.ops as ops


@dataclass(frozen=True)
class Case:
    """One pair under one set of arguments."""

    name: str
    operation: str  # the pair is ops.<operation>_forward and ops.<operation>_backward
    shapes: tuple[tuple[int, ...], ...]  # of the inputs that have a gradient
    arguments: dict[
        str, Any
    ]  # keyword arguments; a callable makes a fresh value for each call, given the dtype
    trailing: tuple[Any, ...] = ()  # positional arguments that have no gradient

    def inputs(self, rng: np.random.Generator, dtype: Any = np.float64) -> tuple[Any, ...]:
        """Normally distributed inputs."""
        return tuple(np.asarray(rng.standard_normal(shape), dtype) for shape in self.shapes)

    def forward(self, *inputs: Any) -> tuple[Any, Any]:
        """The result and the cache."""
        dtype = inputs[0].dtype.newbyteorder("=")
        keywords = {k: v(dtype) if callable(v) else v for k, v in self.arguments.items()}
        forward: Callable[..., tuple[Any, Any]] = getattr(ops, f"{self.operation}_forward")
        return forward(*inputs, *self.trailing, **keywords)

    def backward(self, dy: Any, cache: Any) -> tuple[Any, ...]:
        """The gradients, one per input, in a tuple always."""
        gradients = getattr(ops, f"{self.operation}_backward")(dy, cache)
        return tuple(g for g in gradients if g is not None) if isinstance(gradients, tuple) else (gradients,)


def _positive(size: int, dtype: Any) -> Any:
    return np.linspace(0.5, 2.0, size).astype(dtype)


def _rng(_: Any) -> np.random.Generator:
    return np.random.default_rng(5)


LABELS = np.array([2, 0, 2, 1])
PIXEL_LABELS = np.array([[[0, 1, 2], [2, 2, 1]], [[1, 0, 0], [0, 2, 1]]])
RUNNING = {"running_mean": partial(_positive, 3), "running_var": partial(_positive, 3)}
WEIGHT = {"weight": partial(_positive, 3)}
NCHW, NHWC, NC = (2, 3, 2, 3), (2, 2, 3, 3), (5, 3)
C = (3,)

CASES = [
    Case("linear", "linear", ((5, 3), (4, 3), (4,)), {}),
    Case("linear_without_bias", "linear", ((5, 3), (4, 3)), {}),
    Case("linear_over_positions", "linear", ((2, 3, 2, 3), (4, 3), (4,)), {}),
    Case("linear_of_a_vector", "linear", ((3,), (4, 3), (4,)), {}),
    Case("relu", "relu", ((3, 2, 4),), {}),
    Case("relu_of_a_number", "relu", ((),), {}),
    Case("sigmoid", "sigmoid", ((3, 2, 4),), {}),
    Case("sigmoid_of_a_number", "sigmoid", ((),), {}),
    Case("tanh", "tanh", ((3, 2, 4),), {}),
    Case("tanh_of_a_number", "tanh", ((),), {}),
    Case("softmax", "softmax", ((4, 3),), {}),
    Case("softmax_over_channels", "softmax", (NCHW,), {"axis": 1}),
    Case("log_softmax", "log_softmax", ((4, 3),), {}),
    Case("log_softmax_over_batch", "log_softmax", ((4, 3),), {"axis": 0}),
    Case("flatten", "flatten", (NCHW,), {}),
    Case("flatten_from_the_middle", "flatten", (NCHW,), {"start_axis": -2}),
    Case("add", "add", ((3, 2), (3, 2)), {}),
    Case("batch_norm", "batch_norm", (NCHW, C, C), {}),
    Case("batch_norm_of_features", "batch_norm", (NC, C, C), {"eps": 0.1}),
    Case("batch_norm_without_parameters", "batch_norm", (NCHW,), {}),
    Case("batch_norm_channels_last", "batch_norm", (NHWC, C, C), {"layout": "channels_last"}),
    Case("batch_norm_in_evaluation", "batch_norm", (NCHW, C, C), {"training": False, **RUNNING}),
    Case("batch_norm_updating", "batch_norm", (NCHW, C, C), RUNNING),
    Case("dropout", "dropout", ((4, 5),), {"p": 0.4, "rng": _rng}),
    Case("dropout_in_evaluation", "dropout", ((4, 5),), {"training": False}),
    Case("cross_entropy", "cross_entropy", ((4, 3),), {}, (LABELS,)),
    Case("cross_entropy_sum", "cross_entropy", ((4, 3),), {"reduction": "sum"}, (LABELS,)),
    Case("cross_entropy_none", "cross_entropy", ((4, 3),), {"reduction": "none"}, (LABELS,)),
    Case("cross_entropy_weighted", "cross_entropy", ((4, 3),), WEIGHT, (LABELS,)),
    Case("cross_entropy_smoothed", "cross_entropy", ((4, 3),), {"label_smoothing": 0.2}, (LABELS,)),
    Case("cross_entropy_of_pixels", "cross_entropy", (NCHW,), {}, (PIXEL_LABELS,)),
    Case(
        "cross_entropy_of_pixels_weighted_smoothed_none",
        "cross_entropy",
        (NCHW,),
        {**WEIGHT, "label_smoothing": 0.3, "reduction": "none"},
        (PIXEL_LABELS,),
    ),
    Case(
        "cross_entropy_weighted_smoothed",
        "cross_entropy",
        ((4, 3),),
        {**WEIGHT, "label_smoothing": 0.3},
        (LABELS,),
    ),
    Case("mse", "mse", ((4, 3), (4, 3)), {}),
    Case("mse_sum", "mse", ((4, 3), (4, 3)), {"reduction": "sum"}),
    Case("mse_none", "mse", ((4, 3), (4, 3)), {"reduction": "none"}),
    Case("mse_of_numbers", "mse", ((), ()), {}),
]
