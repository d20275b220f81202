"""What a convolution or a pool is: every configuration validated, normalised, sized, and printable as one line."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import prod
from typing import Any

from backlit import descriptor
from backlit.sizes import (
    Pads,
    Sizes,
    check_fits,
    check_input_shape,
    check_layout,
    integer,
    output_size,
    padding_pairs,
    per_axis,
    shown,
    wanted_shape,
    window_extent,
)

_ITEMSIZE = 8  # bytes of the widest element: sizes are checked as if every array were float64


@dataclass(frozen=True)
class ConvGeometry:
    """One convolution problem: sizes, stride, padding, dilation and groups, without any values.

    Output position o at kernel tap k reads input position i = stride*o + dilation*k - low pad, on every axis, so

        output size = floor((input + low + high - dilation*(kernel - 1) - 1) / stride) + 1
        transposed:   (input - 1)*stride - low - high + dilation*(kernel - 1) + 1 + output_padding

    Args:
        batch: N, may be 0.
        in_channels: C. out_channels: K. Both multiples of groups.
        input_size: spatial sizes, one to three of them.
        kernel_size, stride, dilation: one per axis, or one int for all.
        padding: int, one per axis, one (low, high) pair per axis, "valid" or "same"; a negative pad crops. "same" is
            Keras' and JAX' rule: output ceil(input / stride), total pad max((output - 1)*stride + dilation*(kernel - 1)
            + 1 - input, 0), the smaller half low.
        groups: number of independent channel groups.
        transposed: the transposed convolution, the gradient of a convolution with respect to its input.
        output_padding: transposed only; smaller than stride or dilation on its axis.

    Raises:
        TypeError: a value of another type, a bool or a float among them.
        ValueError: a configuration that has no output, or whose channels do not divide.
        OverflowError: a size that does not fit into 64 bits.

    Example:
        >>> g = ConvGeometry(8, 16, 32, (28, 28), (3, 3), stride=2, padding=1, groups=4)
        >>> str(g), g.output_size
        ('conv2d:n8,c16-32,g4,i28x28,k3x3,s2,p1', (14, 14))
        >>> ConvGeometry.parse("convT1d:n1,c2-3,i5,k4,s3,o1").output_size
        (17,)
    """

    batch: int
    in_channels: int
    out_channels: int
    input_size: Sizes
    kernel_size: Sizes
    stride: Sizes = 1  # type: ignore[assignment]  # an int stands for one per axis, as for the next three
    padding: Pads = 0  # type: ignore[assignment]
    dilation: Sizes = 1  # type: ignore[assignment]
    groups: int = 1
    transposed: bool = False
    output_padding: Sizes = 0  # type: ignore[assignment]

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put("batch", integer("batch", self.batch, 0))
        for name in ("in_channels", "out_channels", "groups"):
            put(name, integer(name, getattr(self, name), 1))
        put("input_size", per_axis("input_size", self.input_size, None, 1))
        axes = len(self.input_size)
        for name in ("kernel_size", "stride", "dilation"):
            put(name, per_axis(name, getattr(self, name), axes, 1))
        if type(self.transposed) is not bool:
            raise TypeError(f"transposed is {shown(self.transposed)}, and True or False is needed.")
        put("output_padding", per_axis("output_padding", self.output_padding, axes, 0))
        if isinstance(self.padding, str) and self.transposed:
            raise ValueError(
                f"padding is {shown(self.padding)}, and a transposed convolution takes numbers only."
            )
        put(
            "padding",
            padding_pairs(self.padding, self.input_size, self.kernel_size, self.stride, self.dilation),
        )
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(
                    f"groups is {self.groups}, which does not divide {name} {getattr(self, name)}: "
                    f"every group needs the same number of channels."
                )
        self._check_output_padding()
        put("_output_size", tuple(self._output(axis) for axis in range(axes)))
        put("_hash", _hash_of_fields(self))
        for name, shape in zip("xwy", self.shapes("channels_first"), strict=True):
            check_fits(f"{name} of shape {shape}", prod(shape) * _ITEMSIZE, "bytes")

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined, no-any-return]  # set in __post_init__

    @property
    def axes(self) -> int:
        """Number of spatial axes, 1 to 3."""
        return len(self.input_size)

    @property
    def output_size(self) -> Sizes:
        """Spatial sizes of the output."""
        return self._output_size  # type: ignore[attr-defined, no-any-return]  # set in __post_init__

    @property
    def convolution(self) -> ConvGeometry:
        """The plain convolution that computes this problem: itself, or the one whose grad_input a transposed one is.

        The output padding becomes a smaller high pad, which leaves every read in place and the output size right.
        """
        if not self.transposed:
            return self
        pads = tuple(
            (low, high - extra) for (low, high), extra in zip(self.padding, self.output_padding, strict=True)
        )
        sizes = (self.output_size, self.kernel_size, self.stride, pads, self.dilation)
        return ConvGeometry(self.batch, self.out_channels, self.in_channels, *sizes, self.groups)

    def shapes(self, layout: str, bare: bool = False) -> tuple[Sizes, Sizes, Sizes]:
        """The shapes of x, w and y in a layout: (N, C, *spatial) or (N, *spatial, C), and the weights to match.

        Bare, they are the spatial sizes alone.
        """
        if bare:
            return self.input_size, self.kernel_size, self.output_size
        channels = (self.out_channels, self.in_channels)
        first, second = reversed(channels) if self.transposed else channels
        second //= self.groups
        if check_layout(layout) == "channels_first":
            return (
                (self.batch, self.in_channels, *self.input_size),
                (first, second, *self.kernel_size),
                (self.batch, self.out_channels, *self.output_size),
            )
        return (
            (self.batch, *self.input_size, self.in_channels),
            (*self.kernel_size, second, first),
            (self.batch, *self.output_size, self.out_channels),
        )

    @classmethod
    def from_shapes(
        cls,
        x_shape: Sizes,
        w_shape: Sizes,
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: Any = 1,
        layout: str = "channels_first",
        transposed: bool = False,
        output_padding: Any = 0,
    ) -> ConvGeometry:
        """The geometry of arrays x and w, as the pairs take them.

        Args:
            x_shape: (N, C, *spatial), or (N, *spatial, C) for channels_last; bare (H, W) or (L,) as in the article.
            w_shape: (K, C/groups, *kernel), or (*kernel, C/groups, K); transposed (C, K/groups, *kernel), or
                (*kernel, K/groups, C); bare (kH, kW) or (k,).

        Raises:
            ValueError: the shapes do not go together; the message names x or w.
        """
        first = check_layout(layout) == "channels_first"
        axes = len(x_shape) - 2 if len(x_shape) > 2 else len(x_shape)
        if len(x_shape) != len(w_shape) or not 1 <= axes <= 3:
            raise ValueError(
                f"x has shape {tuple(x_shape)} and w {tuple(w_shape)}, and both need the same number of axes: "
                f"{wanted_shape('x', layout)} with {wanted_shape('w', layout, transposed)}, "
                f"of one to three spatial axes, or bare (H, W) with (kH, kW)."
            )
        if len(x_shape) <= 2:  # the article's bare case: one sample, one channel
            x_shape, w_shape = (
                ((1, 1, *x_shape), (1, 1, *w_shape)) if first else ((1, *x_shape, 1), (*w_shape, 1, 1))
            )
        batch, channels, input_size = (
            (x_shape[0], x_shape[1], x_shape[2:]) if first else (x_shape[0], x_shape[-1], x_shape[1:-1])
        )
        major, minor, kernel = (
            (w_shape[0], w_shape[1], w_shape[2:]) if first else (w_shape[-1], w_shape[-2], w_shape[:-2])
        )
        for name, shape in (("x", x_shape), ("w", w_shape)):
            if 0 in (shape[1:] if name == "x" else shape):
                raise ValueError(f"{name} has shape {tuple(shape)}: only the batch N of x may be 0.")
        groups = integer("groups", groups, 1)
        needed = major if transposed else minor * groups
        if needed != channels:
            raise ValueError(
                f"w has shape {tuple(w_shape)} and groups is {groups}, which fits an x of {needed} channels, and x of "
                f"shape {tuple(x_shape)} has {channels}: pass {wanted_shape('w', layout, transposed)}."
            )
        out_channels = minor * groups if transposed else major
        configuration = (input_size, kernel, stride, padding, dilation, groups, transposed, output_padding)
        return cls(batch, channels, out_channels, *configuration)

    @classmethod
    def parse(cls, text: str) -> ConvGeometry:
        """The geometry that a descriptor describes; `str` of a geometry gives the descriptor back.

        The form is `conv2d:n8,c16-32,g4,i28x28,k3x3,s2,p1:2x0:-1,d1`, with conv1d to conv3d and convT1d to convT3d,
        `x` between axes, `low:high` for a pair of pads; left out are g1, s1, p0, o0 and d1.

        Raises:
            TypeError, ValueError: the text is no descriptor; the message shows it and the part that is wrong.
        """
        return cls(**descriptor.read(text))

    def __str__(self) -> str:
        return descriptor.write({field.name: getattr(self, field.name) for field in fields(self)})

    def _check_output_padding(self) -> None:
        if any(self.output_padding) and not self.transposed:
            raise ValueError(
                f"output_padding is {self.output_padding}, which only a transposed convolution has."
            )
        for extra, stride, dilation in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if extra and extra >= max(stride, dilation):
                raise ValueError(
                    f"output_padding is {self.output_padding}, and on each axis it has to be smaller than the stride "
                    f"{self.stride} or the dilation {self.dilation}."
                )

    def _output(self, axis: int) -> int:
        """The output size on one axis, or the error that tells why there is none."""
        size, kernel, (low, high) = self.input_size[axis], self.kernel_size[axis], self.padding[axis]
        extent = window_extent(kernel, self.dilation[axis])
        if not self.transposed:
            return output_size(size, extent, self.stride[axis], low, high)
        result = (size - 1) * self.stride[axis] - low - high + extent + self.output_padding[axis]
        check_fits("the output of this transposed convolution", result, "positions")
        if result < 1:
            raise ValueError(
                f"padding {low} + {high} leaves a transposed output of {result} positions on an axis, from input size "
                f"{size}, kernel size {kernel}, stride {self.stride[axis]}: lower the padding."
            )
        return result


@dataclass(frozen=True)
class PoolGeometry:
    """One pooling problem: windows over each channel by itself.

    The output size is the convolution's; with ceil_mode the division rounds up, as long as the last window still
    begins inside the input or its low padding (PyTorch's rule).

    Args:
        batch: N, may be 0. channels: C.
        input_size: spatial sizes, one to three of them.
        kernel_size, stride, dilation: one per axis, or one int for all; a stride of None is the kernel size.
        padding: as a convolution's, but never negative. ceil_mode: round the output size up.

    Raises:
        TypeError, ValueError, OverflowError: as `ConvGeometry`.

    Example:
        >>> PoolGeometry(1, 3, (5, 5), 2, ceil_mode=True).output_size
        (3, 3)
    """

    batch: int
    channels: int
    input_size: Sizes
    kernel_size: Sizes
    stride: Sizes | None = None
    padding: Pads = 0  # type: ignore[assignment]  # an int stands for one per axis
    dilation: Sizes = 1  # type: ignore[assignment]
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        if type(self.ceil_mode) is not bool:
            raise TypeError(f"ceil_mode is {shown(self.ceil_mode)}, and True or False is needed.")
        size = per_axis("input_size", self.input_size, None, 1)
        axes = len(size)
        kernel = per_axis("kernel_size", self.kernel_size, axes, 1)
        stride = kernel if self.stride is None else per_axis("stride", self.stride, axes, 1)
        dilation = per_axis("dilation", self.dilation, axes, 1)
        pads = padding_pairs(self.padding, size, kernel, stride, dilation)
        if any(pad < 0 for pair in pads for pad in pair):
            raise ValueError(f"padding is {pads}, and a pool cannot crop: slice x instead.")
        windows = []
        for i, k, s, d, (low, high) in zip(size, kernel, stride, dilation, pads, strict=True):
            extent = window_extent(k, d)
            count = output_size(i, extent, s, low, high + (s - 1 if self.ceil_mode else 0))
            if self.ceil_mode:
                count = min(count, (i + low - 1) // s + 1)
            windows.append(
                (low, (count - 1) * s + extent - i - low)
            )  # the high pad that gives just this count
        depthwise = ConvGeometry(
            self.batch,
            self.channels,
            self.channels,
            size,
            kernel,
            stride,
            tuple(windows),
            dilation,
            self.channels,
        )
        names = ("input_size", "kernel_size", "stride", "padding", "dilation", "_windows")
        for name, value in zip(names, (size, kernel, stride, pads, dilation, depthwise), strict=True):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_hash", _hash_of_fields(self))

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined, no-any-return]  # set in __post_init__

    @property
    def windows(self) -> ConvGeometry:
        """The depthwise convolution whose incidence says which input positions each window reads."""
        return self._windows  # type: ignore[attr-defined, no-any-return]  # set in __post_init__

    @property
    def output_size(self) -> Sizes:
        """Spatial sizes of the output."""
        return self.windows.output_size

    @classmethod
    def from_shape(
        cls,
        x_shape: Sizes,
        kernel_size: Any,
        *,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        layout: str = "channels_first",
    ) -> PoolGeometry:
        """The geometry of a pool over an array x of shape (N, C, *spatial), or (N, *spatial, C)."""
        first = check_layout(layout) == "channels_first"
        check_input_shape(x_shape, layout)
        channels, size = (x_shape[1], x_shape[2:]) if first else (x_shape[-1], x_shape[1:-1])
        return cls(x_shape[0], channels, size, kernel_size, stride, padding, dilation, ceil_mode)


def _hash_of_fields(geometry: ConvGeometry | PoolGeometry) -> int:
    """The hash that a geometry keeps: plans are looked up by it at every call."""
    return hash(tuple(getattr(geometry, field.name) for field in fields(geometry)))
