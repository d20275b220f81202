"""The activation modules, and dropout, which like them keeps the shape and has no parameters."""

from __future__ import annotations

from typing import Any

from backlit.graph import Tensor
from backlit.nn import functional
from backlit.nn.module import Module
from backlit.ops.arguments import as_flag, as_number
from backlit.sizes import integer


class ReLU(Module):
    """The positive part, y = max(x, 0), elementwise; its gradient is dx = dy where x > 0, and 0 at x = 0.

    Args:
        inplace: accepted because PyTorch has it; the result is the same, and x is never modified.

    Example:
        >>> import numpy as np
        >>> ReLU()(np.array([-1.0, 2.0])).numpy()
        array([0., 2.])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = as_flag("inplace", inplace)

    def forward(self, x: Any) -> Tensor:
        """Map x to y of the same shape."""
        return functional.relu(x)

    def extra_repr(self) -> str:
        """Inplace, where it was asked for."""
        return "inplace=True" if self.inplace else ""


class Sigmoid(Module):
    """The logistic function, y = 1 / (1 + exp(-x)), elementwise; its gradient is dx = dy * y * (1 - y).

    Example:
        >>> import numpy as np
        >>> Sigmoid()(np.array([0.0, 2.0])).numpy().round(3)
        array([0.5  , 0.881])
    """

    def forward(self, x: Any) -> Tensor:
        """Map x to y of the same shape."""
        return functional.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent, y = tanh(x), elementwise; its gradient is dx = dy * (1 - y**2).

    Example:
        >>> import numpy as np
        >>> Tanh()(np.array([0.0, 1.0])).numpy().round(3)
        array([0.   , 0.762])
    """

    def forward(self, x: Any) -> Tensor:
        """Map x to y of the same shape."""
        return functional.tanh(x)


class Softmax(Module):
    """The exponentials, divided by their sum along an axis: y = exp(x) / sum(exp(x)).

    Args:
        dim: the axis; 1 for logits (N, K, ...). None, as PyTorch's default, is refused when called: PyTorch
            guesses an axis then, and warns that this will end.

    Example:
        >>> import numpy as np
        >>> Softmax(dim=1)(np.zeros((1, 4))).numpy()
        array([[0.25, 0.25, 0.25, 0.25]])
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = None if dim is None else integer("dim", dim, None)

    def forward(self, x: Any) -> Tensor:
        """Map x to y of the same shape."""
        return functional.softmax(x, self.dim)

    def extra_repr(self) -> str:
        """The axis."""
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """The logarithm of the softmax along an axis: y = x - log(sum(exp(x))), its gradient dx = dy - exp(y) * sum(dy).

    Args:
        dim: the axis; 1 for logits (N, K, ...). None, as PyTorch's default, is refused when called: PyTorch
            guesses an axis then, and warns that this will end.

    Example:
        >>> import numpy as np
        >>> LogSoftmax(dim=1)(np.zeros((1, 4))).numpy().round(3)
        array([[-1.386, -1.386, -1.386, -1.386]])
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = None if dim is None else integer("dim", dim, None)

    def forward(self, x: Any) -> Tensor:
        """Map x to y of the same shape."""
        return functional.log_softmax(x, self.dim)

    def extra_repr(self) -> str:
        """The axis."""
        return f"dim={self.dim}"


class Dropout(Module):
    """Zeros at random places while training, and the identity after `eval()`.

        y = x * mask / (1 - p),    mask = 0 with probability p, else 1

    Args:
        p: the probability, 0 to 1. The mask is drawn from the generator that `manual_seed` seeds.
        inplace: accepted because PyTorch has it; the result is the same, and x is never modified.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.

    Example:
        >>> import numpy as np
        >>> Dropout(0.3).eval()(np.ones(3)).numpy()
        array([1., 1., 1.])
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = as_number("p", p, 0, 1)
        self.inplace = as_flag("inplace", inplace)

    def forward(self, x: Any) -> Tensor:
        """Map x to y of the same shape."""
        return functional.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}, inplace={self.inplace}"
