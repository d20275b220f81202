"""The linear module, and the flattening that leads to it."""

from __future__ import annotations

from typing import Any

from backlit.graph import Tensor
from backlit.nn import functional
from backlit.nn.init import weight_and_bias
from backlit.nn.inputs import shape_of
from backlit.nn.module import Module, Parameter
from backlit.ops.arguments import as_flag
from backlit.sizes import integer


class Linear(Module):
    """The affine map of the last axis.

        y = x @ weight.T + bias

    Args:
        in_features, out_features: sizes of the last axis of x and y.
        bias: whether to add one.
        dtype: of the parameters, np.float32 (which None stands for) or np.float64; inputs have to have it, too.

    Attributes:
        weight: (out_features, in_features). bias: (out_features,) or None. Both begin uniform in
            +-1/sqrt(in_features).

    Raises:
        TypeError, ValueError: a size that is no positive integer; when called, an input of another last axis.

    Source: PyTorch's class of the same name.

    Example:
        >>> import numpy as np
        >>> Linear(16, 10)(np.zeros((4, 16), np.float32)).shape
        (4, 10)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, dtype: Any = None) -> None:
        super().__init__()
        self.in_features = integer("in_features", in_features, 1)
        self.out_features = integer("out_features", out_features, 1)
        shape = (self.out_features, self.in_features)
        self.weight, own_bias = weight_and_bias(
            shape, self.out_features, bias=as_flag("bias", bias), dtype=dtype
        )
        self.register_parameter("bias", own_bias)

    def forward(self, x: Any) -> Tensor:
        """Map x (..., in_features) to y (..., out_features)."""
        shape = shape_of(x)
        if not shape or shape[-1] != self.in_features:
            images = ": put nn.Flatten() in between" if len(shape) > 2 else ""
            raise ValueError(
                f"Linear was made with in_features={self.in_features}, and x of shape {shape} has "
                f"{shape[-1] if shape else 'no'} features on its last axis{images}."
            )
        return functional.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The sizes."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


class Flatten(Module):
    """The axes from start_dim to end_dim, both included, as one: (N, C, *spatial) -> (N, C * spatial).

    Args:
        start_dim, end_dim: axes; negative ones count from the end.

    Source: PyTorch's class of the same name.

    Example:
        >>> import numpy as np
        >>> Flatten()(np.zeros((4, 3, 2, 2), np.float32)).shape
        (4, 12)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = integer("start_dim", start_dim, None)
        self.end_dim = integer("end_dim", end_dim, None)

    def forward(self, x: Any) -> Tensor:
        """Map x (N, ...) to y (N, product of the rest)."""
        return functional.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """The axes."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
