"""The default network: small, quick to train, and with layers that a report can show one by one."""

from __future__ import annotations

from typing import Any

from backlit import nn
from backlit.graph import Tensor
from backlit.models.images import image_settings


class DigitsNet(nn.Module):
    """Three convolutions with batch normalisation, two poolings, dropout, and one linear layer.

        [conv 16 @ 3x3, norm, relu] -> [conv 32 @ 3x3, norm, relu, pool 2] -> [conv 32 @ 3x3, norm, relu, pool
        2] -> dropout -> classes

    Made for images of about 8x8 pixels, such as the bundled digits, which it learns to 99 percent in some 20
    epochs; it takes any size from 4 on.

    Args:
        classes: number of outputs, at least 2.
        in_channels: channels of the images.
        image_size: one int for square images, or (height, width), at least 4.

    Raises:
        TypeError, ValueError: a setting is no integer, or too small.

    Example:
        >>> import numpy as np
        >>> DigitsNet()(np.zeros((2, 1, 8, 8), np.float32)).shape
        (2, 10)
        >>> sum(p.size for p in DigitsNet().parameters())
        15498
    """

    smallest = 4  # pixels of an image along either axis

    def __init__(
        self, classes: int = 10, in_channels: int = 1, image_size: int | tuple[int, int] = 8
    ) -> None:
        super().__init__()
        classes, in_channels, (height, width) = image_settings(
            "DigitsNet", classes, in_channels, image_size, self.smallest
        )
        arguments = {"classes": classes, "in_channels": in_channels, "image_size": [height, width]}
        self.config = {"name": "digits", "arguments": arguments}
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(32)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(32)
        self.relu3 = nn.ReLU()
        self.pool3 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(32 * (height // 4) * (width // 4), classes)

    def forward(self, x: Any) -> Tensor:
        """Map images x (N, in_channels, H, W) to logits (N, classes)."""
        x = self.relu1(self.bn1(self.conv1(x)))  # (N, 16, H, W)
        x = self.pool2(self.relu2(self.bn2(self.conv2(x))))  # (N, 32, H/2, W/2)
        x = self.pool3(self.relu3(self.bn3(self.conv3(x))))  # (N, 32, H/4, W/4)
        logits: Tensor = self.classifier(self.dropout(self.flatten(x)))
        return logits
