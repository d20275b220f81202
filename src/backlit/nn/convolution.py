"""The convolution modules: one N-dimensional convolution and its transpose; 1d, 2d and 3d only fix N."""

from __future__ import annotations

from typing import Any, ClassVar

from backlit.graph import Tensor
from backlit.nn import windows
from backlit.nn.init import weight_and_bias
from backlit.nn.inputs import check_images
from backlit.nn.module import Module, Parameter
from backlit.ops.arguments import as_flag
from backlit.sizes import Sizes, integer, padding_pairs, per_axis


class _Convolution(Module):
    """What both directions share: settings checked and normalised, parameters made, and how they print."""

    axes: ClassVar[int]
    transposed: ClassVar[bool]
    weight: Parameter
    bias: Parameter | None

    def _set_up(
        self,
        channels: tuple[Any, Any],
        kernel_size: Any,
        stride: Any,
        padding: Any,
        output_padding: Any,
        dilation: Any,
        groups: Any,
        bias: Any,
        dtype: Any,
    ) -> None:
        self.in_channels = integer("in_channels", channels[0], 1)
        self.out_channels = integer("out_channels", channels[1], 1)
        self.kernel_size = per_axis("kernel_size", kernel_size, self.axes, 1)
        self.stride = per_axis("stride", stride, self.axes, 1)
        self.dilation = per_axis("dilation", dilation, self.axes, 1)
        self.padding = self._padding(padding)
        self.output_padding = per_axis("output_padding", output_padding, self.axes, 0)
        self.groups = integer("groups", groups, 1)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(
                    f"groups is {self.groups}, which does not divide {name}={getattr(self, name)}: "
                    f"every group needs the same number of channels."
                )
        for extra, step, spread in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if extra and extra >= max(step, spread):
                raise ValueError(
                    f"output_padding is {self.output_padding}, and on each axis it has to be smaller than "
                    f"the stride {self.stride} or the dilation {self.dilation}."
                )
        first, second = self.out_channels, self.in_channels
        if self.transposed:
            first, second = second, first
        shape = (first, second // self.groups, *self.kernel_size)
        self.weight, own_bias = weight_and_bias(
            shape, self.out_channels, bias=as_flag("bias", bias), dtype=dtype
        )
        self.register_parameter("bias", own_bias)

    def _padding(self, padding: Any) -> Any:
        """`padding` as PyTorch keeps it, a word or one int per axis, else one (low, high) pair per axis."""
        if isinstance(padding, str) and self.transposed:
            raise ValueError(f"padding is {padding!r}, and a transposed convolution takes numbers only.")
        ones: Sizes = (1,) * self.axes
        pairs = padding_pairs(padding, ones, self.kernel_size, self.stride, self.dilation)
        if isinstance(padding, str):
            return padding
        return tuple(low for low, _ in pairs) if all(low == high for low, high in pairs) else pairs

    def extra_repr(self) -> str:
        """Channels and kernel, then what differs from the defaults."""
        zeros: Sizes = (0,) * self.axes
        parts = [f"{self.in_channels}, {self.out_channels}"]
        parts.append(f"kernel_size={self.kernel_size}, stride={self.stride}")
        parts += [f"padding={self.padding}"] if self.padding != zeros else []
        parts += [f"dilation={self.dilation}"] if self.dilation != (1,) * self.axes else []
        parts += [f"output_padding={self.output_padding}"] if self.output_padding != zeros else []
        parts += [f"groups={self.groups}"] if self.groups != 1 else []
        parts += ["bias=False"] if self.bias is None else []
        return ", ".join(parts)


class _Conv(_Convolution):
    """The convolution over `axes` axes, which a subclass fixes."""

    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        channels = (in_channels, out_channels)
        self._set_up(channels, kernel_size, stride, padding, 0, dilation, groups, bias, dtype)

    def forward(self, x: Any) -> Tensor:
        """Map x (N, C, *spatial) to y (N, K, *output_size)."""
        check_images(self, x, self.axes, self.in_channels)
        settings = (self.stride, self.padding, self.dilation, self.groups)
        return windows.conv(x, self.weight, self.bias, *settings)


class _ConvTranspose(_Convolution):
    """The transposed convolution over `axes` axes, which a subclass fixes."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, ...] = 1,
        *,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        channels = (in_channels, out_channels)
        self._set_up(channels, kernel_size, stride, padding, output_padding, dilation, groups, bias, dtype)

    def forward(self, x: Any) -> Tensor:
        """Map x (N, C, *spatial) to y (N, K, *output_size)."""
        check_images(self, x, self.axes, self.in_channels)
        settings = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return windows.conv_transpose(x, self.weight, self.bias, *settings)


class Conv1d(_Conv):
    """The convolution over one axis, x (N, C, L); the rest is as `Conv2d` has it."""

    axes = 1


class Conv2d(_Conv):
    """The convolution over two axes.

        y[n, k, o] = b[k] + sum over c, tap t of  w[k, c, t] * x[n, c, stride*o + dilation*t - padding]

    Args:
        in_channels: C. out_channels: K.
        kernel_size, stride, dilation: one int per axis, or one for all.
        padding: int, one per axis, one (low, high) pair per axis, "valid", or "same", whose output size is
            ceil(input / stride).
        groups: number of independent channel groups; divides C and K.
        bias: whether to add b.
        dtype: of the parameters, np.float32 (which None stands for) or np.float64; inputs have to have it, too.

    Attributes:
        weight: (K, C/groups, *kernel_size). bias: (K,) or None. Both begin uniform in +-1/sqrt(fan_in) with
            fan_in = C/groups * prod(kernel_size).

    Raises:
        TypeError, ValueError: a setting that cannot be; when called, an input of other axes or channels.

    Source: PyTorch's class of the same name.

    Example:
        >>> import numpy as np
        >>> from backlit import nn
        >>> layer = nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=1)
        >>> layer(np.zeros((4, 3, 28, 28), np.float32)).shape
        (4, 8, 14, 14)
    """

    axes = 2


class Conv3d(_Conv):
    """The convolution over three axes, x (N, C, D, H, W); the rest is as `Conv2d` has it."""

    axes = 3


class ConvTranspose1d(_ConvTranspose):
    """The transposed convolution over one axis, x (N, C, L); the rest is as `ConvTranspose2d` has it."""

    axes = 1


class ConvTranspose2d(_ConvTranspose):
    """The transposed convolution over two axes: a convolution's gradient in its input, as a layer.

        y[n, k, i] = b[k] + sum over c, o, tap t of  w[c, k, t] * x[n, c, o]
        where i = stride*o + dilation*t - padding

    Args:
        in_channels: C. out_channels: K.
        kernel_size, stride, dilation: one int per axis, or one for all.
        padding: int, one per axis, or one (low, high) pair per axis; taken off the output.
        output_padding: added to the high end of the output; smaller than stride or dilation.
        groups: number of independent channel groups; divides C and K.
        bias: whether to add b.
        dtype: of the parameters, np.float32 (which None stands for) or np.float64; inputs have to have it, too.

    Attributes:
        weight: (C, K/groups, *kernel_size). bias: (K,) or None. Both begin uniform in +-1/sqrt(fan_in) with
            fan_in = K/groups * prod(kernel_size).

    Raises:
        TypeError, ValueError: a setting that cannot be; when called, an input of other axes or channels.

    Source: PyTorch's class of the same name.

    Example:
        >>> import numpy as np
        >>> from backlit import nn
        >>> layer = nn.ConvTranspose2d(8, 3, kernel_size=3, stride=2, padding=1, output_padding=1)
        >>> layer(np.zeros((4, 8, 14, 14), np.float32)).shape
        (4, 3, 28, 28)
    """

    axes = 2


class ConvTranspose3d(_ConvTranspose):
    """The transposed convolution over three axes, x (N, C, D, H, W); the rest is as `ConvTranspose2d` has it."""

    axes = 3
