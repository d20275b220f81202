"""The losses: modules that turn a prediction and what was right into one number to be made small."""

from __future__ import annotations

from typing import Any

from backlit.graph import Tensor
from backlit.nn import functional
from backlit.nn.module import Module
from backlit.ops.arguments import as_choice, as_number
from backlit.ops.arrays import Array
from backlit.sizes import integer


class _Loss(Module):
    """A loss that is averaged, summed, or kept apart per sample."""

    def __init__(self, reduction: str) -> None:
        super().__init__()
        self.reduction = as_choice("reduction", reduction, ("mean", "sum", "none"))


class CrossEntropyLoss(_Loss):
    """The negative log-likelihood of the right class, from logits.

        loss = mean over n of  -log(softmax(x[n])[label[n]])
        dx[n] = (softmax(x[n]) - onehot(label[n])) / N

    Args:
        weight: (K,), a factor for each class; "mean" then divides by the sum of the factors that were used.
        ignore_index: the label without loss and gradient, which the mean does not count; where all labels of a
            batch are ignored, their mean is a ValueError (PyTorch gives NaN).
        reduction: "mean", "sum" or "none".
        label_smoothing: the share, 0 to 1, of each label that is spread evenly over all classes.

    Source: PyTorch's class of the same name.

    Example:
        >>> import numpy as np
        >>> logits = np.array([[2.0, 0.0], [0.0, 2.0]])
        >>> round(CrossEntropyLoss()(logits, np.array([0, 1])).item(), 4)
        0.1269
    """

    weight: Array | None

    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = integer("ignore_index", ignore_index, None)
        self.label_smoothing = as_number("label_smoothing", label_smoothing, 0, 1)

    def forward(self, x: Any, target: Any) -> Tensor:
        """Map logits x (N, K, *spatial) and labels (N, *spatial) to the loss, 0-d unless reduction="none"."""
        options: dict[str, Any] = {"reduction": self.reduction, "label_smoothing": self.label_smoothing}
        return functional.cross_entropy(x, target, self.weight, ignore_index=self.ignore_index, **options)


class MSELoss(_Loss):
    """The mean of the squared differences.

        loss = mean of (x - target)**2
        dx = 2 * (x - target) / count

    Args:
        reduction: "mean", "sum" or "none".

    Source: PyTorch's class of the same name.

    Example:
        >>> import numpy as np
        >>> MSELoss()(np.array([1.0, 2.0]), np.array([1.0, 4.0])).item()
        2.0
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, x: Any, target: Any) -> Tensor:
        """Map prediction x and target of the same shape to the loss, 0-d unless reduction="none"."""
        return functional.mse_loss(x, target, self.reduction)
