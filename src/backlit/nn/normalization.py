"""Batch normalisation: one module for any number of axes; the 1d, 2d and 3d classes only fix which."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from backlit.graph import Tensor
from backlit.nn import functional
from backlit.nn.init import first_precision
from backlit.nn.inputs import check_images, shape_of
from backlit.nn.module import Module, Parameter
from backlit.ops.arguments import as_flag, as_number
from backlit.ops.arrays import Array
from backlit.sizes import integer


class _BatchNorm(Module):
    """Batch normalisation of inputs with `axes` spatial axes, which a subclass fixes."""

    axes: ClassVar[int]
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Array | None
    running_var: Array | None
    num_batches_tracked: Array | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.num_features = integer("num_features", num_features, 1)
        self.eps = as_number("eps", eps, 0, math.inf, below=True)
        self.momentum = None if momentum is None else as_number("momentum", momentum, 0, 1)
        self.affine = as_flag("affine", affine)
        self.track_running_stats = as_flag("track_running_stats", track_running_stats)
        wanted = first_precision(dtype)
        ones, zeros = np.ones(self.num_features, wanted), np.zeros(self.num_features, wanted)
        self.register_parameter("weight", Parameter(ones) if affine else None)
        self.register_parameter("bias", Parameter(zeros) if as_flag("bias", bias) and affine else None)
        self.register_buffer("running_mean", zeros if track_running_stats else None)
        self.register_buffer("running_var", ones if track_running_stats else None)
        self.register_buffer("num_batches_tracked", np.int64(0) if track_running_stats else None)

    def forward(self, x: Any) -> Tensor:
        """Map x (N, C, *spatial) to y of the same shape."""
        if not (self.axes == 1 and len(shape_of(x)) == 2 and shape_of(x)[1] == self.num_features):
            check_images(self, x, self.axes, self.num_features, "num_features")
        count, momentum = self.num_batches_tracked, self.momentum
        if momentum is None:
            momentum = 1.0 / (float(count) + 1) if count is not None else 0.0
        running = (self.running_mean, self.running_var)
        from_batch = self.training or self.running_mean is None
        y = functional.batch_norm(x, *running, self.weight, self.bias, from_batch, momentum, self.eps)
        if self.training and count is not None:
            count += 1  # in place, and only once the batch was accepted
        return y

    def extra_repr(self) -> str:
        """The settings."""
        numbers = f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"
        flags = f"affine={self.affine}, track_running_stats={self.track_running_stats}"
        return f"{numbers}, {flags}" + (", bias=False" if self.affine and self.bias is None else "")


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of x (N, C) or (N, C, L); the rest is as `BatchNorm2d` has it."""

    axes = 1


class BatchNorm2d(_BatchNorm):
    """Each channel shifted and scaled to mean 0 and variance 1 over batch and space, then by learned factors.

        y = weight * (x - mean) / sqrt(var + eps) + bias

    While training, mean and var are the batch's, and the running ones follow them; after `eval()` the running
    ones are used. Into the running variance goes the batch's without bias, its sum divided by count - 1.

        running = (1 - momentum) * running + momentum * batch

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: the factor above; None takes the plain mean over all batches so far.
        affine: whether there are weight and bias. bias: False leaves the bias out.
        track_running_stats: whether there are running statistics; without, the batch's are always used.
        dtype: of parameters and statistics, np.float32 (None) or np.float64; inputs have to have it, too.

    Attributes:
        weight, bias: (C,), ones and zeros at first, or None.
        running_mean, running_var: arrays (C,), zeros and ones at first, or None.
        num_batches_tracked: a 0-d int64 array, or None.

    Raises:
        TypeError, ValueError: a setting out of range; when called, an input of other axes or channels, or,
            while training, of one value per channel.

    Source: Ioffe and Szegedy, "Batch normalization", 2015; PyTorch's class of the same name.

    Example:
        >>> import numpy as np
        >>> from backlit import nn
        >>> norm = nn.BatchNorm1d(2)
        >>> norm(np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)).numpy().round(3)
        array([[-1.,  0.],
               [ 1.,  0.]], dtype=float32)
        >>> norm.running_mean
        array([0.2, 0.5], dtype=float32)
    """

    axes = 2


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of x (N, C, D, H, W); the rest is as `BatchNorm2d` has it."""

    axes = 3
