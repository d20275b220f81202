"""Geometry: sizes by formula and by brute force, the descriptor's round trip, and every refusal in words."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from backlit.geometry import ConvGeometry, PoolGeometry
from configurations import conv_geometries, pool_geometries

LAYERS = [
    "conv2d:n1,c1-1,i3x3,k2x2,s1,p0",
    "conv2d:n64,c6-16,i14x14,k5x5,s1,p0",
    "conv2d:n8,c16-32,g4,i28x28,k3x3,s2,p1",
    "conv2d:n8,c16-32,i28x28,k3x3,s1,p1:2x0:-1",
    "conv2d:n16,c32-32,g32,i112x112,k3x3,s1,p1",
    "conv1d:n8,c64-128,i4096,k2,s1,p0,d16",
    "conv3d:n2,c3-64,i8x56x56,k3x3x3,s1,p1",
    "convT2d:n0,c4-6,g2,i3x3,k2x2,s3x2,p0,o2x1,d3x1",
]


@pytest.mark.parametrize("text", LAYERS)
def test_descriptor_round_trips(text: str) -> None:
    assert str(ConvGeometry.parse(text)) == text


@given(conv_geometries())
def test_descriptor_of_any_geometry_round_trips(g: ConvGeometry) -> None:
    assert ConvGeometry.parse(str(g)) == g
    assert hash(ConvGeometry.parse(str(g))) == hash(g)


def test_descriptor_fills_in_what_is_left_out() -> None:
    full = "conv2d:n1,c1-1,g1,i3x3,k2x2,s1,p0,d1"
    assert ConvGeometry.parse("conv2d:n1,c1-1,i3x3,k2x2") == ConvGeometry.parse(full)


@given(conv_geometries(transposed=False))
def test_output_size_counts_the_window_positions(g: ConvGeometry) -> None:
    for axis in range(g.axes):
        low, high = g.padding[axis]
        reach = g.dilation[axis] * (g.kernel_size[axis] - 1)
        starts = range(-low, g.input_size[axis] + high - reach, g.stride[axis])
        assert g.output_size[axis] == len(starts)


@given(conv_geometries(transposed=True))
def test_transposed_geometry_is_the_adjoint_of_its_convolution(g: ConvGeometry) -> None:
    assert g.convolution.output_size == g.input_size
    assert g.convolution.input_size == g.output_size
    x, w, y = g.shapes("channels_first")
    assert g.convolution.shapes("channels_first") == (y, w, x)


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (2, 1), (3, 1), (3, 2)])
def test_same_padding_gives_ceil_of_size_over_stride(
    size: int, stride: int, kernel: int, dilation: int
) -> None:
    g = ConvGeometry(1, 1, 1, (size,), (kernel,), stride, "same", dilation)
    ((low, high),) = g.padding
    assert g.output_size == (-(-size // stride),)
    assert high - low in (0, 1)


def test_same_padding_puts_the_odd_zero_at_the_end() -> None:
    assert ConvGeometry(1, 1, 1, (4, 5), (2, 3), 2, "same").padding == ((0, 0), (1, 1))
    assert ConvGeometry(1, 1, 1, (4,), (2,), 1, "same").padding == ((0, 1),)


def test_shapes_follow_the_layout() -> None:
    g = ConvGeometry.parse("conv2d:n2,c4-6,g2,i5x7,k3x2")
    assert g.shapes("channels_first") == ((2, 4, 5, 7), (6, 2, 3, 2), (2, 6, 3, 6))
    assert g.shapes("channels_last") == ((2, 5, 7, 4), (3, 2, 2, 6), (2, 3, 6, 6))
    t = ConvGeometry.parse("convT2d:n2,c4-6,g2,i5x7,k3x2")
    assert t.shapes("channels_first") == ((2, 4, 5, 7), (4, 3, 3, 2), (2, 6, 7, 8))
    assert t.shapes("channels_last") == ((2, 5, 7, 4), (3, 2, 3, 4), (2, 7, 8, 6))


@given(conv_geometries())
def test_geometry_from_its_own_shapes_is_itself(g: ConvGeometry) -> None:
    for layout in ("channels_first", "channels_last"):
        x, w, _ = g.shapes(layout)
        again = ConvGeometry.from_shapes(
            x,
            w,
            stride=g.stride,
            padding=g.padding,
            dilation=g.dilation,
            groups=g.groups,
            layout=layout,
            transposed=g.transposed,
            output_padding=g.output_padding,
        )
        assert again == g


@given(pool_geometries())
def test_pool_windows_begin_inside_the_padded_input(g: PoolGeometry) -> None:
    for axis in range(len(g.input_size)):
        low, high = g.padding[axis]
        size, stride = g.input_size[axis], g.windows.stride[axis]
        extent = g.windows.dilation[axis] * (g.kernel_size[axis] - 1) + 1
        fitting = len(range(-low, size + high - extent + 1, stride))
        starts = [start for start in range(-low, size + high, stride) if start < size]
        overhanging = [start for start in starts if start + extent - (stride - 1) <= size + high]
        assert g.output_size[axis] == (len(overhanging) if g.ceil_mode else fitting)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"stride": 0}, ValueError, "stride is 0, and it has to be at least 1"),
        ({"stride": -1}, ValueError, "stride is -1"),
        ({"stride": ()}, ValueError, r"stride is \(\) with 0 values, and 2, one per axis, are needed"),
        ({"stride": (1, 2, 3)}, ValueError, r"stride is \(1, 2, 3\) with 3 values"),
        ({"stride": True}, TypeError, "stride is True, and an integer is needed"),
        ({"stride": np.True_}, TypeError, "stride is np.True_, and an integer is needed"),
        ({"stride": 2.0}, TypeError, r"stride is 2.0, and an integer is needed"),
        ({"stride": "2"}, TypeError, "stride is '2', and an integer is needed"),
        ({"stride": None}, TypeError, "stride is None"),
        ({"stride": np.ones((2, 2), int)}, TypeError, "stride is "),
        ({"stride": {2, 1}}, TypeError, r"stride is \{1, 2\}, and an integer is needed"),
        ({"stride": {2: 0, 1: 0}}, TypeError, "stride is "),
        ({"stride": iter((2, 1))}, TypeError, "stride is <tuple_iterator"),
        ({"padding": {1, 2}}, TypeError, "padding is "),
        ({"stride": np.array(2.5)}, TypeError, "stride is array\\(2.5\\)"),
        ({"stride": 10**400}, OverflowError, "stride comes to more than 1e\\+300"),
        ({"stride": -(10**5000)}, OverflowError, "stride comes to more than 1e\\+300"),
        ({"dilation": 0}, ValueError, "dilation is 0"),
        ({"dilation": (1, 0)}, ValueError, "dilation is 0"),
        ({"groups": 0}, ValueError, "groups is 0"),
        ({"groups": 3}, ValueError, "groups is 3, which does not divide in_channels 4"),
        ({"groups": 4}, ValueError, "groups is 4, which does not divide out_channels 6"),
        ({"kernel_size": (0, 1)}, ValueError, "kernel_size is 0"),
        ({"kernel_size": (-2, 1)}, ValueError, "kernel_size is -2"),
        (
            {"kernel_size": (7, 1)},
            ValueError,
            r"kernel_size spans 7 positions on an axis.* has 5 \(5 \+ 0 \+ 0\)",
        ),
        ({"padding": -3}, ValueError, r"the padded input has 0 \(5 \+ -3 \+ -3\)"),
        (
            {"padding": "full"},
            ValueError,
            "padding is 'full', and the words it may be are 'same' and 'valid'",
        ),
        ({"padding": 1.5}, TypeError, "padding is 1.5"),
        ({"padding": ((1, 2, 3), 0)}, ValueError, r"each axis takes one int or a \(low, high\) pair"),
        ({"padding": (1,)}, ValueError, r"padding is \(1,\), and an int, 2 ints or 2 \(low, high\) pairs"),
        ({"input_size": (0, 3)}, ValueError, "input_size is 0"),
        ({"input_size": (2, 2, 2, 2)}, ValueError, "input_size is .* with 4 values, and one to three"),
        ({"batch": -1}, ValueError, "batch is -1, and it has to be at least 0"),
        ({"output_padding": 1}, ValueError, r"output_padding is \(1, 1\), which only a transposed"),
        ({"transposed": True, "output_padding": 1}, ValueError, "it has to be smaller than the stride"),
        ({"transposed": True, "padding": "same"}, ValueError, "a transposed convolution takes numbers only"),
        ({"transposed": True, "padding": 9}, ValueError, "leaves a transposed output of -11 positions"),
        ({"transposed": 1}, TypeError, "transposed is 1, and True or False"),
        ({"dilation": 2**62}, OverflowError, "a kernel of size 3 under dilation 4611686018427387904"),
        ({"dilation": 2**63}, OverflowError, "dilation comes to 9.22e[+]18, more than 64 bits can count"),
        ({"padding": 2**62}, OverflowError, "an input of size 5 under padding"),
        ({"padding": -(2**64)}, OverflowError, "padding comes to 1.84e[+]19"),
        ({"padding": 2**31}, OverflowError, "y of shape .* bytes, more than 64 bits"),
        ({"batch": 2**62}, OverflowError, "x of shape"),
        ({"transposed": True, "stride": 2**62}, OverflowError, "the output of this transposed convolution"),
    ],
)
def test_impossible_configuration_is_refused_in_words(
    change: dict[str, Any], error: type, message: str
) -> None:
    usual = {"batch": 2, "in_channels": 4, "out_channels": 6, "input_size": (5, 5), "kernel_size": (3, 3)}
    with pytest.raises(error, match=message):
        ConvGeometry(**(usual | change))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conv4d:n1,c1-1,i3,k2", "has to begin with conv1d:"),
        ("conv2d:c1-1,i3x3,k2x2", "lacks its part n"),
        ("conv2d:n1,c1-1,i3,k2x2", "has 1 values in i3, and 2 are needed"),
        ("conv1d:n1,c1-1,i3,k2,s1x1", "has 2 values in s1x1, and 1 is needed"),
        ("conv2d:n1,c1-1,i3x3,k2x2,q1", "has the part 'q1'"),
        ("conv2d:n1,n2,c1-1,i3x3,k2x2", "has the part 'n2'"),
        ("conv2d:n1,c1,i3x3,k2x2", "has the part 'c1'"),
        ("conv2d:n1,c1-1,i3x3,k2x2,o1", "has output padding o"),
        ("conv2d:n1,c1-1,i3x3,k2x2,s0", "stride is 0"),
        ("conv2d:n" + "9" * 5000 + ",c1-1,i3x3,k2x2", "has the part"),
    ],
)
def test_text_that_is_no_descriptor_is_refused_in_words(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        ConvGeometry.parse(text)
    assert len(str(caught.value)) < 400


def test_numpy_integers_of_every_make_are_integers() -> None:
    usual = {"batch": 2, "in_channels": 4, "out_channels": 6, "input_size": (5, 5), "kernel_size": (3, 3)}
    g = ConvGeometry(**usual, stride=2, padding=1, dilation=(1, 1))  # type: ignore[arg-type]
    changed = {"stride": np.array(2), "padding": np.array([1, 1]), "dilation": [np.int8(1), 1]}
    assert ConvGeometry(**(usual | changed)) == g  # type: ignore[arg-type]
    assert all(type(size) is int for size in ConvGeometry(**(usual | changed)).stride)  # type: ignore[arg-type]


def test_descriptor_of_another_type_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="descriptor is 3"):
        ConvGeometry.parse(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("x", "w", "message"),
    [
        ((2, 3, 5, 5), (4, 2, 3, 3), "fits an x of 2 channels, and x of shape .* has 3"),
        ((2, 3, 5, 5), (3, 3), "both need the same number of axes"),
        ((), (), "both need the same number of axes"),
        ((1,) * 6, (1,) * 6, "of one to three spatial axes"),
        ((2, 3, 0, 5), (4, 3, 3, 3), "x has shape .*only the batch N of x may be 0"),
        ((2, 3, 5, 5), (0, 3, 3, 3), "w has shape"),
        ((2, 3, 5, 5), (4, 3, 0, 3), "w has shape"),
        ((0, 5), (1, 1), "x has shape"),
    ],
)
def test_shapes_that_do_not_go_together_name_the_array(x: Any, w: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvGeometry.from_shapes(x, w)


@pytest.mark.parametrize("layout", ["NCHW", "", None, 3, np.array(["channels_last"])])
def test_unknown_layout_is_refused(layout: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"layout is {layout!r}")):
        ConvGeometry.from_shapes((1, 1, 3), (1, 1, 2), layout=layout)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"kernel_size": 0}, ValueError, "kernel_size is 0"),
        ({"kernel_size": 9}, ValueError, "kernel_size spans 9 positions"),
        ({"kernel_size": 2, "stride": 0}, ValueError, "stride is 0"),
        ({"kernel_size": 2, "padding": -1}, ValueError, "a pool cannot crop"),
        ({"kernel_size": 2, "ceil_mode": 1}, TypeError, "ceil_mode is 1"),
    ],
)
def test_impossible_pool_is_refused_in_words(keywords: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        PoolGeometry.from_shape((1, 2, 5, 5), **keywords)


@pytest.mark.parametrize("shape", [(5, 5), (1, 0, 5), (1, 2, 0), (1,) * 6])
def test_pool_of_an_impossible_shape_names_x(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="x has shape"):
        PoolGeometry.from_shape(shape, 1)
