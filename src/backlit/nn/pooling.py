"""The pooling modules: maximum, mean and adaptive mean over windows; the 1d, 2d and 3d classes only fix N."""

from __future__ import annotations

from typing import Any, ClassVar

from backlit.graph import Tensor
from backlit.nn import windows
from backlit.nn.inputs import check_images
from backlit.nn.module import Module
from backlit.ops.arguments import as_flag
from backlit.sizes import integer, padding_pairs, per_axis


class _Pool(Module):
    """Windows of a size, a stride and a padding, kept as they were given."""

    axes: ClassVar[int]

    def _set_up(self, kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1) -> None:
        kernel = per_axis("kernel_size", kernel_size, self.axes, 1)
        steps = kernel if stride is None else per_axis("stride", stride, self.axes, 1)
        padding_pairs(padding, (1,) * self.axes, kernel, steps, per_axis("dilation", dilation, self.axes, 1))
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def extra_repr(self) -> str:
        """The window."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _MaxPool(_Pool):
    """Maximum pooling over `axes` axes, which a subclass fixes."""

    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        if as_flag("return_indices", return_indices):
            raise ValueError(
                "return_indices is True, and that is not supported: a rule of the graph has one output, and only "
                "an unpooling, which is not here, would read the indices. Leave it False."
            )
        self._set_up(kernel_size, stride, padding, dilation)
        self.dilation = dilation
        self.ceil_mode = as_flag("ceil_mode", ceil_mode)

    def forward(self, x: Any) -> Tensor:
        """Map x (N, C, *spatial) to y (N, C, *output_size)."""
        check_images(self, x, self.axes)
        settings = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        return windows.max_pool(x, *settings)

    def extra_repr(self) -> str:
        """The window, its dilation, and how the output size is rounded."""
        return f"{super().extra_repr()}, dilation={self.dilation}, ceil_mode={self.ceil_mode}"


class _AvgPool(_Pool):
    """Mean pooling over `axes` axes, which a subclass fixes."""

    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self._set_up(kernel_size, stride, padding)
        self.ceil_mode = as_flag("ceil_mode", ceil_mode)
        self.count_include_pad = as_flag("count_include_pad", count_include_pad)
        if divisor_override is not None:
            divisor_override = integer("divisor_override", divisor_override, 1)
        self.divisor_override = divisor_override

    def forward(self, x: Any) -> Tensor:
        """Map x (N, C, *spatial) to y (N, C, *output_size)."""
        check_images(self, x, self.axes)
        how = (self.ceil_mode, self.count_include_pad, self.divisor_override)
        return windows.avg_pool(x, self.kernel_size, self.stride, self.padding, *how)


class _AdaptiveAvgPool(Module):
    """Mean pooling to a grid over `axes` axes, which a subclass fixes."""

    axes: ClassVar[int]

    def __init__(self, output_size: int | tuple[int | None, ...] | None) -> None:
        super().__init__()
        sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * self.axes
        per_axis("output_size", tuple(1 if size is None else size for size in sizes), self.axes, 1)
        self.output_size = output_size

    def forward(self, x: Any) -> Tensor:
        """Map x (N, C, *spatial) to y (N, C, *output_size)."""
        check_images(self, x, self.axes)
        return windows.adaptive_avg_pool(x, self.output_size)

    def extra_repr(self) -> str:
        """The size of the grid."""
        return f"output_size={self.output_size}"


class MaxPool1d(_MaxPool):
    """The largest element of each window over one axis, x (N, C, L); the rest is as `MaxPool2d` has it."""

    axes = 1


class MaxPool2d(_MaxPool):
    """The largest element of each window, over two axes.

        y[n, c, o] = max over tap t of  x[n, c, stride*o + dilation*t - padding]

    Args:
        kernel_size, stride, dilation: one int per axis, or one for all; a stride of None is the kernel size.
        padding: int, one per axis, or one (low, high) pair per axis; padded positions never win.
        return_indices: here for PyTorch's order of arguments; only False is supported.
        ceil_mode: round the output size up.

    Raises:
        TypeError, ValueError: a setting that no pool has; or, when called, an input of other axes.

    Source: PyTorch's class of the same name.

    Example:
        >>> import numpy as np
        >>> from backlit import nn
        >>> nn.MaxPool2d(2)(np.zeros((4, 3, 28, 28), np.float32)).shape
        (4, 3, 14, 14)
    """

    axes = 2


class MaxPool3d(_MaxPool):
    """The largest element of each window over three axes, x (N, C, D, H, W); the rest is as `MaxPool2d` has it."""

    axes = 3


class AvgPool1d(_AvgPool):
    """The mean of each window over one axis, x (N, C, L); the rest is as `AvgPool2d` has it."""

    axes = 1


class AvgPool2d(_AvgPool):
    """The mean of each window, over two axes.

        y[n, c, o] = (sum over tap t of  x[n, c, stride*o + t - padding]) / number of taps

    Args:
        kernel_size, stride: one int per axis, or one for all; a stride of None is the kernel size.
        padding: int, one per axis, or one (low, high) pair per axis, of zeros.
        ceil_mode: round the output size up.
        count_include_pad: count padded positions in the number of taps.
        divisor_override: divide by this instead.

    Raises:
        TypeError, ValueError: a setting that no pool has; or, when called, an input of other axes.

    Source: PyTorch's class of the same name.

    Example:
        >>> import numpy as np
        >>> from backlit import nn
        >>> nn.AvgPool2d(2, stride=1)(np.array([[[[1.0, 2.0], [3.0, 4.0]]]])).item()
        2.5
    """

    axes = 2


class AvgPool3d(_AvgPool):
    """The mean of each window over three axes, x (N, C, D, H, W); the rest is as `AvgPool2d` has it."""

    axes = 3


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The means of a grid of windows over one axis, x (N, C, L); the rest is as `AdaptiveAvgPool2d` has it."""

    axes = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The means of a grid of windows that cover the input, whatever its size, over two axes.

        window o of an axis:  floor(o * input / output)  to  ceil((o + 1) * input / output)

    Args:
        output_size: one int per axis, or one for all; None keeps the size of an axis. 1 is the global mean.

    Raises:
        TypeError, ValueError: no such output; or, when called, an input of other axes.

    Source: PyTorch's class of the same name.

    Example:
        >>> import numpy as np
        >>> from backlit import nn
        >>> nn.AdaptiveAvgPool2d((3, None))(np.zeros((4, 3, 28, 28), np.float32)).shape
        (4, 3, 3, 28)
    """

    axes = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """The means of a grid of windows over three axes, x (N, C, D, H, W); the rest is as `AdaptiveAvgPool2d` has it."""

    axes = 3
