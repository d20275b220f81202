"""LeNet-5, the network that began it."""

from __future__ import annotations

from typing import Any

from backlit import nn
from backlit.graph import Tensor
from backlit.models.images import image_settings


class LeNet5(nn.Module):
    """LeNet-5 with rectifiers, maximum pooling and a plain linear output.

        conv 6 @ 5x5, pad 2 -> relu -> pool 2 -> conv 16 @ 5x5 -> relu -> pool 2 -> 120 -> relu -> 84 -> relu
        -> classes

    Args:
        classes: number of outputs, at least 2.
        in_channels: channels of the images.
        image_size: one int for square images, or (height, width), at least 12. 28 is MNIST's, and with the
            pad of 2 makes the 32 of the original.

    Raises:
        TypeError, ValueError: a setting is no integer, or too small.

    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998, which has sigmoids,
    averages and radial basis functions in their places, and fewer connections in the second convolution.

    Example:
        >>> import numpy as np
        >>> LeNet5()(np.zeros((2, 1, 28, 28), np.float32)).shape
        (2, 10)
        >>> sum(p.size for p in LeNet5().parameters())
        61706
    """

    smallest = 12  # pixels of an image along either axis

    def __init__(
        self, classes: int = 10, in_channels: int = 1, image_size: int | tuple[int, int] = 28
    ) -> None:
        super().__init__()
        settings = image_settings("LeNet5", classes, in_channels, image_size, self.smallest)
        classes, in_channels, (height, width) = settings
        arguments = {"classes": classes, "in_channels": in_channels, "image_size": [height, width]}
        self.config = {"name": "lenet5", "arguments": arguments}
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=2)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.linear1 = nn.Linear(16 * ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2), 120)
        self.relu3 = nn.ReLU()
        self.linear2 = nn.Linear(120, 84)
        self.relu4 = nn.ReLU()
        self.classifier = nn.Linear(84, classes)

    def forward(self, x: Any) -> Tensor:
        """Map images x (N, in_channels, H, W) to logits (N, classes)."""
        x = self.pool1(self.relu1(self.conv1(x)))  # (N, 6, H/2, W/2)
        x = self.pool2(self.relu2(self.conv2(x)))  # (N, 16, H/4 - 2, W/4 - 2)
        x = self.relu3(self.linear1(self.flatten(x)))  # (N, 120)
        x = self.relu4(self.linear2(x))  # (N, 84)
        logits: Tensor = self.classifier(x)
        return logits
