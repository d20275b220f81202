"""Convolutions and pools as functions of tensors, of any number of axes, and of one, two and three."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from inspect import cleandoc
from typing import Any, Concatenate, ParamSpec

from backlit.graph import Tensor, apply
from backlit.nn.inputs import shape_of

_P = ParamSpec("_P")


def conv(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """The cross-correlation of x with weight, plus bias.

        y[n, k, o] = bias[k] + sum over c, t of  weight[k, c, t] * x[n, c, stride*o + dilation*t - padding]

    Args:
        x: (N, C, *spatial). weight: (K, C/groups, *kernel). bias: (K,) or None.
        stride, dilation: int or one per axis.
        padding: int, one per axis, one (low, high) pair per axis, "same" or "valid".
        groups: number of independent channel groups.

    Returns:
        y, (N, K, *output_size).

    Raises:
        TypeError, ValueError: shapes, dtypes or settings that do not fit one another.
    """
    return apply("conv", x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)


def conv_transpose(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The adjoint of a cross-correlation, applied to x, plus bias.

        y[n, k, i] = bias[k] + sum over c, o, t of  weight[c, k, t] * x[n, c, o]
        where i = stride*o + dilation*t - padding

    Args:
        x: (N, C, *spatial). weight: (C, K/groups, *kernel). bias: (K,) or None.
        stride, dilation: int or one per axis.
        padding: int, one per axis, or one (low, high) pair per axis.
        output_padding: added to the high end of the output.
        groups: number of independent channel groups.

    Returns:
        y, (N, K, *output_size).

    Raises:
        TypeError, ValueError: shapes, dtypes or settings that do not fit one another.
    """
    settings = {"stride": stride, "padding": padding, "output_padding": output_padding}
    return apply("conv_transpose", x, weight, bias, dilation=dilation, groups=groups, **settings)


def max_pool(
    x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    """The largest element of each window.

        y[n, c, o] = max over tap t of  x[n, c, stride*o + dilation*t - padding]

    Args:
        x: (N, C, *spatial).
        kernel_size, stride, dilation: int or one per axis; a stride of None is the kernel size.
        padding: int, one per axis, or one (low, high) pair per axis; padded positions never win.
        ceil_mode: round the output size up.

    Returns:
        y, (N, C, *output_size).

    Raises:
        TypeError, ValueError: x is no such tensor, or a setting that no pool has.
    """
    settings = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
    return apply("max_pool", x, dilation=dilation, ceil_mode=ceil_mode, **settings)


def avg_pool(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window.

        y[n, c, o] = (sum over tap t of  x[n, c, stride*o + t - padding]) / number of taps

    Args:
        x: (N, C, *spatial).
        kernel_size, stride: int or one per axis; a stride of None is the kernel size.
        padding: int, one per axis, or one (low, high) pair per axis, of zeros.
        ceil_mode: round the output size up.
        count_include_pad: count padded positions in the number of taps.
        divisor_override: divide by this instead.

    Returns:
        y, (N, C, *output_size).

    Raises:
        TypeError, ValueError: x is no such tensor, or a setting that no pool has.
    """
    settings = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    how = {"count_include_pad": count_include_pad, "divisor_override": divisor_override}
    return apply("avg_pool", x, **settings, **how)


def adaptive_avg_pool(x: Any, output_size: Any) -> Tensor:
    """The means of a grid of windows that cover the input, whatever its size.

        window o of an axis:  floor(o * input / output)  to  ceil((o + 1) * input / output)

    Args:
        x: (N, C, *spatial). output_size: int or one per axis; None keeps an axis as it is.

    Returns:
        y, (N, C, *output_size).

    Raises:
        TypeError, ValueError: x is no such tensor, or a setting that no pool has.
    """
    spatial = shape_of(x)[2:]
    sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * len(spatial)
    if len(sizes) == len(spatial):
        sizes = tuple(own if size is None else size for size, own in zip(sizes, spatial, strict=True))
    return apply("adaptive_avg_pool", x, output_size=tuple(sizes))


def _over(
    axes: int, operation: Callable[Concatenate[Any, _P], Tensor], call: str, shape: str
) -> Callable[Concatenate[Any, _P], Tensor]:
    """`operation` for inputs of just `axes` spatial axes, under the name with the number: conv -> conv2d.

    Args:
        axes: 1, 2 or 3. operation: the function for any number of axes.
        call, shape: arguments and the shape of the result, for the example, where S5 stands for 5 on each axis.
    """
    name = f"{operation.__name__}{axes}d"

    @wraps(operation)
    def limited(x: Any, /, *arguments: _P.args, **options: _P.kwargs) -> Tensor:
        if len(shape_of(x)) != axes + 2:
            raise ValueError(
                f"x of {name} has shape {shape_of(x)}, and {axes + 2} axes are needed: (N, C, *spatial) with "
                f"{axes} spatial."
            )
        return operation(x, *arguments, **options)

    def sized(text: str) -> str:
        return re.sub(r"S(\d)", lambda found: ", ".join([found[1]] * axes), text)

    limited.__name__ = limited.__qualname__ = name
    example = (
        f"Example:\n    >>> import numpy as np\n    >>> {name}({sized(call)}).shape\n    {sized(shape)}\n"
    )
    limited.__doc__ = f"{cleandoc(operation.__doc__ or '')}\n\n{example}"
    return limited


_CONV = ("np.ones((1, 2, S5)), np.ones((3, 2, S4))", "(1, 3, S2)")
_CONV_TRANSPOSE = ("np.ones((1, 2, S2)), np.ones((2, 3, S4))", "(1, 3, S5)")
_POOL = ("np.ones((1, 2, S6)), 3", "(1, 2, S2)")
conv1d, conv2d, conv3d = (_over(axes, conv, *_CONV) for axes in (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = (
    _over(axes, conv_transpose, *_CONV_TRANSPOSE) for axes in (1, 2, 3)
)
max_pool1d, max_pool2d, max_pool3d = (_over(axes, max_pool, *_POOL) for axes in (1, 2, 3))
avg_pool1d, avg_pool2d, avg_pool3d = (_over(axes, avg_pool, *_POOL) for axes in (1, 2, 3))
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (
    _over(axes, adaptive_avg_pool, "np.ones((1, 2, S6)), 3", "(1, 2, S3)") for axes in (1, 2, 3)
)
