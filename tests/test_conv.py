"""The convolution pairs: by hand, by finite differences, by SciPy, by PyTorch; and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

import backlit as bl
from backlit.geometry import ConvGeometry
from configurations import conv_geometries, dtypes, integers, layouts
from differences import gradient_by_differences
from tolerance import assert_close
from ways import each_isa

X = np.arange(1.0, 10.0).reshape(3, 3)
W = np.array([[1.0, 2.0], [3.0, 4.0]])


def pair(g: ConvGeometry, layout: str) -> tuple[Any, Any, dict[str, Any]]:
    """The forward and backward function of a geometry, and the keywords that describe it."""
    keywords = {
        "stride": g.stride,
        "padding": g.padding,
        "dilation": g.dilation,
        "groups": g.groups,
        "layout": layout,
    }
    if not g.transposed:
        return bl.conv_forward, bl.conv_backward, keywords
    return (
        bl.conv_transpose_forward,
        bl.conv_transpose_backward,
        keywords | {"output_padding": g.output_padding},
    )


def arrays(g: ConvGeometry, layout: str, dtype: str, seed: int) -> tuple[Any, Any, Any, Any]:
    """x, w, b and dy of small integers."""
    x, w, y = g.shapes(layout)
    return tuple(integers(seed + n, s, dtype) for n, s in enumerate((x, w, (g.out_channels,), y)))  # type: ignore[return-value]


def test_article_forward_by_hand() -> None:
    h, _ = bl.conv_forward(X, W)
    x11, x12, x13, x21, x22, x23, x31, x32, x33 = X.ravel()
    w11, w12, w21, w22 = W.ravel()
    assert h.tolist() == [
        [w11 * x11 + w12 * x12 + w21 * x21 + w22 * x22, w11 * x12 + w12 * x13 + w21 * x22 + w22 * x23],
        [w11 * x21 + w12 * x22 + w21 * x31 + w22 * x32, w11 * x22 + w12 * x23 + w21 * x32 + w22 * x33],
    ]


def test_article_weight_gradient_by_hand() -> None:
    _, cache = bl.conv_forward(X, W)
    _, dw = bl.conv_backward(np.array([[1.0, -2.0], [3.0, 5.0]]), cache)
    x11, x12, x13, x21, x22, x23, x31, x32, x33 = X.ravel()
    h11, h12, h21, h22 = 1.0, -2.0, 3.0, 5.0
    assert dw.tolist() == [
        [x11 * h11 + x12 * h12 + x21 * h21 + x22 * h22, x12 * h11 + x13 * h12 + x22 * h21 + x23 * h22],
        [x21 * h11 + x22 * h12 + x31 * h21 + x32 * h22, x22 * h11 + x23 * h12 + x32 * h21 + x33 * h22],
    ]


def test_article_input_gradient_by_hand() -> None:
    _, cache = bl.conv_forward(X, W)
    dx, _ = bl.conv_backward(np.array([[1.0, -2.0], [3.0, 5.0]]), cache)
    w11, w12, w21, w22 = W.ravel()
    h11, h12, h21, h22 = 1.0, -2.0, 3.0, 5.0
    assert dx.tolist() == [
        [w11 * h11, w12 * h11 + w11 * h12, w12 * h12],
        [w21 * h11 + w11 * h21, w22 * h11 + w21 * h12 + w12 * h21 + w11 * h22, w22 * h12 + w12 * h22],
        [w21 * h21, w22 * h21 + w21 * h22, w22 * h22],
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bare_bias_may_be_a_python_float(dtype: str) -> None:
    h, cache = bl.conv_forward(X.astype(dtype), W.astype(dtype), 0.5)
    assert h.dtype == dtype
    assert h.tolist() == [[37.5, 47.5], [67.5, 77.5]]
    assert bl.conv_backward(h, cache)[2].shape == ()


def test_transposed_convolution_by_hand() -> None:
    y, cache = bl.conv_transpose_forward(
        np.array([1.0, 2.0]), np.array([1.0, 10.0, 100.0]), np.array(0.5), stride=2
    )
    assert y.tolist() == [1.5, 10.5, 102.5, 20.5, 200.5]
    dx, dw, db = bl.conv_transpose_backward(np.array([1.0, 0.0, 2.0, 0.0, 0.0]), cache)
    assert dx.tolist() == [201.0, 2.0]
    assert dw.tolist() == [1.0 + 4.0, 0.0, 2.0]
    assert db == 3.0


@pytest.mark.parametrize("mode", ["valid", "same", "full"])
def test_single_channel_equals_scipy(mode: str) -> None:
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((9, 11)), rng.standard_normal((3, 5))
    padding = {"valid": 0, "same": (1, 2), "full": (2, 4)}[mode]
    y, cache = bl.conv_forward(x, w, padding=padding)
    assert_close(y, scipy.signal.correlate2d(x, w, mode), terms=15)
    dy = rng.standard_normal(y.shape)
    dx, dw = bl.conv_backward(dy, cache)
    inverse = {"valid": "full", "same": "same", "full": "valid"}[mode]
    assert_close(dx, scipy.signal.convolve2d(dy, w, inverse), terms=15)
    if mode == "valid":
        assert_close(dw, scipy.signal.correlate2d(x, dy, "valid"), terms=dy.size)


@given(g=conv_geometries(most_axes=2), layout=layouts, seed=st.integers(0, 2**32 - 1))
def test_gradients_equal_finite_differences(g: ConvGeometry, layout: str, seed: int) -> None:
    forward, backward, keywords = pair(g, layout)
    x, w, b, dy = arrays(g, layout, "float64", seed)
    dx, dw, db = backward(dy, forward(x, w, b, **keywords)[1])
    np.testing.assert_array_equal(
        dw, gradient_by_differences(lambda v: forward(x, v, b, **keywords)[0], w, dy)
    )
    np.testing.assert_array_equal(
        db, gradient_by_differences(lambda v: forward(x, w, v, **keywords)[0], b, dy)
    )
    np.testing.assert_array_equal(
        dx, gradient_by_differences(lambda v: forward(v, w, b, **keywords)[0], x, dy)
    )


@given(g=conv_geometries(), seed=st.integers(0, 2**32 - 1), dtype=dtypes)
def test_layouts_agree(g: ConvGeometry, seed: int, dtype: str) -> None:
    x, w, b, dy = arrays(g, "channels_first", dtype, seed)
    forward, backward, keywords = pair(g, "channels_first")
    y, cache = forward(x, w, b, **keywords)
    dx, dw, db = backward(dy, cache)
    last = {"layout": "channels_last"}
    xl, dyl, wl = np.moveaxis(x, 1, -1), np.moveaxis(dy, 1, -1), np.moveaxis(w, (0, 1), (-1, -2))
    yl, cache = forward(xl, wl, b, **(keywords | last))
    dxl, dwl, dbl = backward(dyl, cache)
    np.testing.assert_array_equal(np.moveaxis(yl, -1, 1), y)
    np.testing.assert_array_equal(np.moveaxis(dxl, -1, 1), dx)
    np.testing.assert_array_equal(np.moveaxis(dwl, (-1, -2), (0, 1)), dw)
    np.testing.assert_array_equal(dbl, db)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize(
    "text",
    [
        "conv2d:n16,c32-48,g2,i28x28,k3x3,s2,p1",
        "convT2d:n4,c16-8,i14x14,k4x4,s2,p1",
        "conv1d:n4,c8-16,i512,k9,p4,d2",
    ],
)
def test_adjoint_identity_at_real_sizes(text: str, layout: str) -> None:
    g = ConvGeometry.parse(text)
    rng = np.random.default_rng(7)
    x, w, dy = (rng.standard_normal(shape) for shape in g.shapes(layout))
    forward, backward, keywords = pair(g, layout)
    y, cache = forward(x, w, **keywords)
    dx, dw = backward(dy, cache)
    magnitude = float(np.sqrt(np.sum(y * y) * np.sum(dy * dy)))
    assert_close(np.sum(dx * x), np.sum(y * dy), terms=y.size, scale=magnitude)
    assert_close(np.sum(dw * w), np.sum(y * dy), terms=y.size, scale=magnitude)


@pytest.mark.torch
@given(g=conv_geometries(pytorch=True), dtype=dtypes, seed=st.integers(0, 2**32 - 1))
def test_pairs_equal_pytorch_exactly(g: ConvGeometry, dtype: str, seed: int, torch: Any) -> None:
    forward, backward, keywords = pair(g, "channels_first")
    x, w, b, dy = arrays(g, "channels_first", dtype, seed)
    theirs = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    extra = {"output_padding": g.output_padding} if g.transposed else {}
    name = f"conv{'_transpose' if g.transposed else ''}{g.axes}d"
    result = getattr(torch.nn.functional, name)(
        *theirs,
        stride=g.stride,
        padding=tuple(low for low, _ in g.padding),
        dilation=g.dilation,
        groups=g.groups,
        **extra,
    )
    result.backward(torch.tensor(dy))
    for isa in each_isa():
        y, cache = forward(x, w, b, **keywords)
        ours = (y, *backward(dy, cache))
        for our, their in zip(ours, (result.detach(), *(t.grad for t in theirs)), strict=True):
            np.testing.assert_array_equal(our, their.numpy(), f"by {isa}")


@pytest.mark.torch
@pytest.mark.parametrize("text", ["conv2d:n8,c64-64,i28x28,k3x3,p1", "convT2d:n8,c64-32,i14x14,k4x4,s2,p1"])
def test_float32_pairs_equal_pytorch_within_rounding(text: str, torch: Any) -> None:
    g = ConvGeometry.parse(text)
    rng = np.random.default_rng(11)
    x, w, dy = (rng.standard_normal(shape).astype("float32") for shape in g.shapes("channels_first"))
    forward, backward, keywords = pair(g, "channels_first")
    tx, tw = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, w))
    op = torch.nn.functional.conv_transpose2d if g.transposed else torch.nn.functional.conv2d
    ty = op(tx, tw, stride=g.stride, padding=[low for low, _ in g.padding])
    ty.backward(torch.tensor(dy, dtype=torch.float64))
    for _ in each_isa():
        y, cache = forward(x, w, **keywords)
        dx, dw = backward(dy, cache)
        assert_close(y, ty.detach().numpy(), terms=64 * 16)
        assert_close(dx, tx.grad.numpy(), terms=64 * 16)
        assert_close(dw, tw.grad.numpy(), terms=dy.size // dy.shape[1])


def test_same_padding_is_the_rule_of_keras_and_jax() -> None:
    x = np.arange(1.0, 6.0)
    assert bl.conv_forward(x, np.array([1.0, 10.0]), stride=2, padding="same")[0].tolist() == [
        21.0,
        43.0,
        5.0,
    ]
    assert bl.conv_forward(x, np.array([1.0, 10.0, 100.0]), stride=2, padding="same")[0].tolist() == [
        210.0,
        432.0,
        54.0,
    ]


def test_negative_padding_crops() -> None:
    x, w = np.arange(1.0, 7.0), np.array([1.0, 10.0])
    cropped, cache = bl.conv_forward(x, w, padding=((-1, -2),))
    assert cropped.tolist() == bl.conv_forward(x[1:-2], w)[0].tolist()
    assert bl.conv_backward(np.ones(2), cache)[0].tolist() == [0.0, 1.0, 11.0, 10.0, 0.0, 0.0]


def test_needs_spares_what_is_not_asked_for() -> None:
    x, w, b = np.ones((1, 2, 4)), np.ones((3, 2, 2)), np.ones(3)
    y, cache = bl.conv_forward(x, w, b)
    dx, dw, db = bl.conv_backward(np.ones_like(y), cache, needs=("dw", "db"))
    assert dx is None
    assert dw.shape == w.shape
    assert db.tolist() == [3.0, 3.0, 3.0]
    assert bl.conv_backward(np.ones_like(y), cache, needs=()) == (None, None, None)
    y, cache = bl.conv_forward(x, w)
    assert len(bl.conv_backward(np.ones_like(y), cache)) == 2


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_bias_gradient_over_a_million_float32_values_is_accurate(layout: str) -> None:
    values = np.random.default_rng(0).random((1, 2, 1_000_000), np.float32)
    x = values[:, :1] if layout == "channels_first" else values[:, 0, :, None]
    w = np.ones((2, 1, 1) if layout == "channels_first" else (1, 1, 2), np.float32)
    _, cache = bl.conv_forward(x, w, np.zeros(2, np.float32), layout=layout)
    dy = values if layout == "channels_first" else np.moveaxis(values, 1, -1)
    db = bl.conv_backward(dy, cache, needs=("db",))[2]
    assert_close(db, values[0].sum(axis=1, dtype=np.float64), terms=1)


def test_empty_batch_gives_an_empty_result_and_zero_weight_gradients() -> None:
    y, cache = bl.conv_forward(np.ones((0, 2, 5)), np.ones((3, 2, 2)), np.ones(3))
    assert y.shape == (0, 3, 4)
    dx, dw, db = bl.conv_backward(y, cache)
    assert dx.shape == (0, 2, 5)
    assert not dw.any()
    assert not db.any()


def _variants(a: Any) -> dict[str, Any]:
    """The same values in arrays of every make."""
    wide = np.zeros((*a.shape[:-1], a.shape[-1] * 2), a.dtype)
    wide[..., ::2] = a
    raw = np.zeros(a.nbytes + 1, np.uint8)
    misaligned = raw[1:].view(a.dtype).reshape(a.shape)
    misaligned[...] = a
    readonly = a.copy()
    readonly.flags.writeable = False
    return {
        "fortran": np.asfortranarray(a),
        "strided": wide[..., ::2],
        "negative strides": np.flip(np.flip(a).copy()),
        "read-only": readonly,
        "misaligned": misaligned,
        "byte-swapped": a.astype(a.dtype.newbyteorder()),
        "list": a.tolist(),
        "subclass": a.view(type("Sub", (np.ndarray,), {})),
    }


@pytest.mark.parametrize(
    "make",
    ["fortran", "strided", "negative strides", "read-only", "misaligned", "byte-swapped", "list", "subclass"],
)
def test_arrays_of_every_make_give_the_same_values(make: str) -> None:
    shapes = ((2, 4, 7, 6), (6, 2, 3, 2), (6,), (2, 6, 4, 5))
    x, w, b, dy = (integers(n, shape, "float64") for n, shape in enumerate(shapes))
    keywords: dict[str, Any] = {"stride": (2, 1), "padding": ((1, 1), (0, 0)), "groups": 2}
    y, cache = bl.conv_forward(x, w, b, **keywords)
    expected = (y, *bl.conv_backward(dy, cache))
    y, cache = bl.conv_forward(*(_variants(a)[make] for a in (x, w, b)), **keywords)
    for result, right in zip((y, *bl.conv_backward(_variants(dy)[make], cache)), expected, strict=True):
        assert type(result) is np.ndarray
        np.testing.assert_array_equal(result, right)


def test_broadcast_input_counts_every_element_of_its_own() -> None:
    x = np.broadcast_to(np.array(2.0), (1, 1, 4))
    y, cache = bl.conv_forward(x, np.ones((1, 1, 2)))
    assert y.tolist() == [[[4.0, 4.0, 4.0]]]
    assert bl.conv_backward(np.ones((1, 1, 3)), cache)[0].tolist() == [[[1.0, 2.0, 2.0, 1.0]]]


def test_inputs_are_never_modified() -> None:
    x, w, b, dy = arrays(ConvGeometry.parse("conv2d:n2,c2-4,i5x5,k3x3,p1"), "channels_first", "float32", 1)
    before = [a.copy() for a in (x, w, b, dy)]
    _, cache = bl.conv_forward(x, w, b, padding=1)
    bl.conv_backward(dy, cache)
    for array, copy in zip((x, w, b, dy), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_cache_serves_twice_and_output_may_be_overwritten() -> None:
    y, cache = bl.conv_forward(X, W)
    first = bl.conv_backward(np.ones((2, 2)), cache)
    y.fill(np.nan)
    first[0].fill(np.nan)
    assert bl.conv_backward(np.ones((2, 2)), cache)[0].tolist() == [[1, 3, 2], [4, 10, 6], [3, 7, 4]]


def test_nan_reaches_every_output_that_reads_it() -> None:
    x = np.ones((1, 2, 6))
    x[0, 1, 2] = np.nan
    y, cache = bl.conv_forward(x, np.ones((3, 2, 2)))
    assert np.isnan(y[0]).tolist() == [[False, True, True, False, False]] * 3
    dy = np.ones((1, 3, 5))
    dy[0, 0, 4] = np.inf
    dx, _ = bl.conv_backward(dy, cache)
    assert np.isinf(dx[0]).tolist() == [[False] * 4 + [True] * 2] * 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.ones((1, 1, 4), int)}, TypeError, r"x has dtype int64.*pass x.astype\(np.float32\)"),
        ({"x": np.ones((1, 1, 4), bool)}, TypeError, "x has dtype bool"),
        ({"x": np.ones((1, 1, 4), complex)}, TypeError, "x has dtype complex128"),
        ({"x": np.ones((1, 1, 4), "float16")}, TypeError, "x has dtype float16"),
        ({"x": np.array([[["1"]]])}, TypeError, "x has dtype <U1"),
        ({"x": np.array([[[None]]])}, TypeError, "x has dtype object"),
        ({"x": np.ma.masked_array(np.ones((1, 1, 4)))}, TypeError, "x is a masked array"),
        ({"x": None}, TypeError, "x is None"),
        ({"x": [[1.0], [1.0, 2.0]]}, ValueError, "x is a list that cannot be read as an array"),
        ({"x": object()}, TypeError, "x is of type object, .* pass a NumPy array of np.float32"),
        ({"x": np.float64(3.0)}, ValueError, r"x has shape \(\)"),
        (
            {"w": np.ones((1, 1, 2), "float32")},
            TypeError,
            "w has dtype float32 where the other arguments have float64",
        ),
        ({"w": np.ones((1, 1, 5))}, ValueError, "kernel_size spans 5 positions"),
        ({"w": np.ones((1, 2, 2))}, ValueError, "w has shape"),
        ({"b": np.ones(2)}, ValueError, r"b has shape \(2,\), and it has to be \(1,\)"),
        ({"b": 1.0}, ValueError, r"b has shape \(\)"),
        ({"b": np.ones(1, "float32")}, TypeError, "b has dtype float32"),
        ({"stride": 0}, ValueError, "stride is 0"),
        ({"layout": "NHWC"}, ValueError, "layout is 'NHWC'"),
    ],
)
@pytest.mark.parametrize("forward", [bl.conv_forward, bl.conv_transpose_forward])
def test_bad_argument_is_refused_by_name(
    forward: Any, change: dict[str, Any], error: type, message: str
) -> None:
    usual = {"x": np.ones((1, 1, 4)), "w": np.ones((1, 1, 2))}
    if forward is bl.conv_transpose_forward and "kernel_size spans" in message:
        change, message, error = {"padding": 9}, "leaves a transposed output", ValueError
    if forward is bl.conv_transpose_forward and change.get("w", np.ones(1)).shape == (1, 2, 2):
        change = {"w": np.ones((2, 1, 2))}
    with pytest.raises(error, match=message):
        forward(**(usual | change))


@pytest.mark.parametrize(
    ("dy", "error", "message"),
    [
        (np.ones((2, 1)), ValueError, r"dy has shape \(2, 1\), and an upstream gradient has .* \(2, 2\)"),
        (np.ones((2, 2), "float32"), TypeError, "dy has dtype float32"),
        (np.ones((2, 2), int), TypeError, "dy has dtype int64"),
        (1.0, ValueError, r"dy has shape \(\)"),
        (None, TypeError, "dy is None"),
    ],
)
def test_upstream_gradient_of_another_make_is_refused(dy: Any, error: type, message: str) -> None:
    _, cache = bl.conv_forward(X, W)
    with pytest.raises(error, match=message):
        bl.conv_backward(dy, cache)


def test_cache_of_another_operation_is_refused() -> None:
    _, cache = bl.conv_transpose_forward(X, W)
    with pytest.raises(
        TypeError, match=r"cache of conv_backward has to come from conv_forward.*ConvTransposeCache"
    ):
        bl.conv_backward(np.ones((2, 2)), cache)
    with pytest.raises(TypeError, match="this is None"):
        bl.conv_transpose_backward(np.ones((4, 4)), None)


@pytest.mark.parametrize(("needs", "error"), [(("dz",), ValueError), ("dx", TypeError), (None, TypeError)])
def test_unknown_need_is_refused(needs: Any, error: type) -> None:
    _, cache = bl.conv_forward(X, W)
    with pytest.raises(error, match="needs"):
        bl.conv_backward(np.ones((2, 2)), cache, needs=needs)


class _Foreign:
    """An array of another library: only DLPack, or an export that fails."""

    def __init__(self, array: Any, fails: bool = False) -> None:
        self.array, self.fails = array, fails

    def __dlpack__(self, **keywords: Any) -> Any:
        if self.fails:
            raise RuntimeError("it lives on another device")
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def test_foreign_array_is_taken_through_dlpack() -> None:
    assert bl.conv_forward(_Foreign(X), W)[0].tolist() == bl.conv_forward(X, W)[0].tolist()


def test_foreign_array_whose_export_fails_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"x is a _Foreign that cannot be read as an array.*another device"):
        bl.conv_forward(_Foreign(X, fails=True), W)


@pytest.mark.torch
def test_torch_tensor_is_taken_and_one_that_requires_grad_is_refused(torch: Any) -> None:
    assert bl.conv_forward(torch.tensor(X), torch.tensor(W))[0].tolist() == bl.conv_forward(X, W)[0].tolist()
    with pytest.raises(ValueError, match=r"x is a Tensor that cannot be read.*detach"):
        bl.conv_forward(torch.tensor(X, requires_grad=True), W)
