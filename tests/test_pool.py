"""The pooling pairs: by hand, by finite differences, by PyTorch; kinks, ties, NaN and padding; and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backlit as bl
from backlit.geometry import PoolGeometry
from configurations import dtypes, integers, layouts, pool_geometries
from differences import gradient_by_differences
from tolerance import assert_close
from ways import each_isa


def keywords(g: PoolGeometry) -> dict[str, Any]:
    return {"kernel_size": g.kernel_size, "stride": g.stride, "padding": g.padding, "ceil_mode": g.ceil_mode}


def distinct(seed: int, shape: tuple[int, ...], dtype: str) -> Any:
    """Integers at least 4 apart, so that a step of 1 changes no winner."""
    return (4 * np.random.default_rng(seed).permutation(int(np.prod(shape))).reshape(shape)).astype(dtype)


@given(g=pool_geometries(), layout=layouts, seed=st.integers(0, 2**32 - 1))
def test_max_pool_gradient_equals_finite_differences(g: PoolGeometry, layout: str, seed: int) -> None:
    xs, _, ys = g.windows.shapes(layout)
    x, dy = distinct(seed, xs, "float64"), integers(seed, ys, "float64")

    def forward(v: Any) -> Any:
        return bl.max_pool_forward(v, dilation=g.dilation, layout=layout, **keywords(g))

    _, cache = forward(x)
    expected = gradient_by_differences(lambda v: np.nan_to_num(forward(v)[0], neginf=0), x, dy)
    np.testing.assert_array_equal(bl.max_pool_backward(dy, cache), expected)


@given(
    g=pool_geometries(dilated=False),
    layout=layouts,
    seed=st.integers(0, 2**32 - 1),
    count=st.booleans(),
    divisor=st.sampled_from([None, None, 3]),
)
def test_avg_pool_gradient_equals_finite_differences(
    g: PoolGeometry, layout: str, seed: int, count: bool, divisor: int | None
) -> None:
    xs, _, ys = g.windows.shapes(layout)
    x, dy = integers(seed, xs, "float64"), integers(seed + 1, ys, "float64")

    def forward(v: Any) -> Any:
        return bl.avg_pool_forward(
            v, count_include_pad=count, divisor_override=divisor, layout=layout, **keywords(g)
        )

    _, cache = forward(x)
    expected = gradient_by_differences(lambda v: forward(v)[0], x, dy)
    assert_close(bl.avg_pool_backward(dy, cache), expected, terms=dy.size * 27, scale=4 * 27)


def _torch_pool(g: PoolGeometry, kind: str) -> tuple[Any, dict[str, Any]]:
    """PyTorch's function and its keywords."""
    import torch

    name = f"{kind}_pool{len(g.input_size)}d"
    return getattr(torch.nn.functional, name), keywords(g) | {"padding": tuple(low for low, _ in g.padding)}


@pytest.mark.torch
@given(g=pool_geometries(pytorch=True), dtype=dtypes, seed=st.integers(0, 2**32 - 1))
def test_max_pool_equals_pytorch_exactly(g: PoolGeometry, dtype: str, seed: int, torch: Any) -> None:
    pool, options = _torch_pool(g, "max")
    xs, _, ys = g.windows.shapes("channels_first")
    x, dy = integers(seed, xs, dtype), integers(seed + 1, ys, dtype)
    tx = torch.tensor(x, requires_grad=True)
    ty = pool(tx, dilation=g.dilation, **options)
    ty.backward(torch.tensor(dy))
    for isa in each_isa():
        y, cache = bl.max_pool_forward(x, dilation=g.dilation, **keywords(g))
        np.testing.assert_array_equal(y, ty.detach().numpy(), f"by {isa}")
        np.testing.assert_array_equal(bl.max_pool_backward(dy, cache), tx.grad.numpy(), f"by {isa}")


@pytest.mark.torch
@given(
    g=pool_geometries(pytorch=True, dilated=False),
    dtype=dtypes,
    seed=st.integers(0, 2**32 - 1),
    count=st.booleans(),
)
def test_avg_pool_equals_pytorch(g: PoolGeometry, dtype: str, seed: int, count: bool, torch: Any) -> None:
    pool, options = _torch_pool(g, "avg")
    xs, _, ys = g.windows.shapes("channels_first")
    x, dy = integers(seed, xs, dtype), integers(seed + 1, ys, dtype)
    tx = torch.tensor(x, requires_grad=True)
    ty = pool(tx, count_include_pad=count, **options)
    ty.backward(torch.tensor(dy))
    for _ in each_isa():
        y, cache = bl.avg_pool_forward(x, count_include_pad=count, **keywords(g))
        assert_close(y, ty.detach().numpy(), terms=27, scale=4)
        assert_close(bl.avg_pool_backward(dy, cache), tx.grad.numpy(), terms=27, scale=4 * 27)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("spatial", "output"), [((7,), 3), ((8, 5), (4, 5)), ((5, 6), (7, 1)), ((4, 5, 6), (2, 3, 4))]
)
def test_adaptive_avg_pool_equals_pytorch(spatial: Any, output: Any, dtype: str, torch: Any) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 3, *spatial)).astype(dtype)
    y, cache = bl.adaptive_avg_pool_forward(x, output)
    tx = torch.tensor(x, requires_grad=True)
    ty = getattr(torch.nn.functional, f"adaptive_avg_pool{len(spatial)}d")(tx, output)
    assert_close(y, ty.detach().numpy(), terms=64)
    dy = rng.standard_normal(y.shape).astype(dtype)
    ty.backward(torch.tensor(dy))
    assert_close(bl.adaptive_avg_pool_backward(dy, cache), tx.grad.numpy(), terms=64)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("output", [1, 2, 3, 5])
def test_adaptive_avg_pool_gradient_equals_finite_differences(output: int, layout: str) -> None:
    x = integers(1, (2, 4, 3, 2), "float64")
    y, cache = bl.adaptive_avg_pool_forward(x, output, layout=layout)
    dy = integers(2, y.shape, "float64")
    expected = gradient_by_differences(
        lambda v: bl.adaptive_avg_pool_forward(v, output, layout=layout)[0], x, dy
    )
    assert_close(bl.adaptive_avg_pool_backward(dy, cache), expected, terms=dy.size)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_global_avg_pool_is_the_mean_and_its_gradient_the_share(layout: str) -> None:
    x = integers(1, (2, 4, 3, 5), "float64")
    y, cache = bl.global_avg_pool_forward(x, layout=layout)
    axes = (2, 3) if layout == "channels_first" else (1, 2)
    assert_close(y, x.sum(axis=axes, keepdims=True) / (15 if axes == (2, 3) else 12), terms=15)
    dy = integers(2, y.shape, "float64")
    expected = gradient_by_differences(lambda v: bl.global_avg_pool_forward(v, layout=layout)[0], x, dy)
    assert_close(bl.global_avg_pool_backward(dy, cache), expected, terms=x.size)


def test_max_pool_sends_ties_to_the_first_in_row_major_order() -> None:
    x = np.array([[[[1.0, 7.0, 7.0], [7.0, 7.0, 0.0], [0.0, 0.0, 0.0]]]])
    _, cache = bl.max_pool_forward(x, 3)
    assert bl.max_pool_backward(np.array([[[[5.0]]]]), cache)[0, 0].tolist() == [
        [0, 5, 0],
        [0, 0, 0],
        [0, 0, 0],
    ]


def test_max_pool_of_minus_infinity_sends_the_gradient_to_the_first() -> None:
    y, cache = bl.max_pool_forward(np.full((1, 1, 4), -np.inf), 2)
    assert y.tolist() == [[[-np.inf, -np.inf]]]
    assert bl.max_pool_backward(np.array([[[1.0, 2.0]]]), cache).tolist() == [[[1.0, 0.0, 2.0, 0.0]]]


def test_max_pool_lets_the_first_nan_win() -> None:
    x = np.array([[[np.inf, np.nan, np.nan, 1.0]]])
    y, cache = bl.max_pool_forward(x, 4)
    assert np.isnan(y).all()
    assert bl.max_pool_backward(np.array([[[3.0]]]), cache).tolist() == [[[0.0, 3.0, 0.0, 0.0]]]


def test_window_wholly_in_the_padding_gives_minus_infinity_and_no_gradient() -> None:
    y, cache = bl.max_pool_forward(np.array([[[1.0, 2.0]]]), 2, padding=((2, 0),))
    assert y.tolist() == [[[-np.inf, 2.0]]]
    assert bl.max_pool_backward(np.array([[[9.0, 4.0]]]), cache).tolist() == [[[0.0, 4.0]]]


@pytest.mark.parametrize("count", [True, False])
def test_mean_of_a_window_wholly_in_the_padding_is_zero(count: bool) -> None:
    y, cache = bl.avg_pool_forward(np.array([[[1.0, 2.0]]]), 2, padding=((2, 0),), count_include_pad=count)
    assert y.tolist() == [[[0.0, 1.5]]]
    assert bl.avg_pool_backward(np.array([[[9.0, 4.0]]]), cache).tolist() == [[[2.0, 2.0]]]


def test_overlapping_windows_add_their_gradients() -> None:
    _, cache = bl.max_pool_forward(np.array([[[1.0, 9.0, 2.0]]]), 2, stride=1)
    assert bl.max_pool_backward(np.array([[[3.0, 4.0]]]), cache).tolist() == [[[0.0, 7.0, 0.0]]]


PAIRS: dict[str, tuple[Any, Any]] = {
    "max": (lambda x: bl.max_pool_forward(x, 2), bl.max_pool_backward),
    "avg": (lambda x: bl.avg_pool_forward(x, 2), bl.avg_pool_backward),
    "adaptive": (lambda x: bl.adaptive_avg_pool_forward(x, 2), bl.adaptive_avg_pool_backward),
    "global": (bl.global_avg_pool_forward, bl.global_avg_pool_backward),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pool_cache_serves_twice_and_output_may_be_overwritten(name: str) -> None:
    forward, backward = PAIRS[name]
    x = integers(3, (2, 3, 4, 4), "float32")
    before = x.copy()
    y, cache = forward(x)
    dy = integers(4, y.shape, "float32")
    first = backward(dy, cache).copy()
    y.fill(np.nan)
    np.testing.assert_array_equal(backward(dy, cache), first)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", PAIRS)
def test_pool_upstream_of_another_make_is_refused(name: str) -> None:
    forward, backward = PAIRS[name]
    y, cache = forward(np.ones((2, 3, 4, 4), "float32"))
    with pytest.raises(ValueError, match="dy has shape"):
        backward(np.ones((*y.shape, 1), "float32"), cache)
    with pytest.raises(TypeError, match="dy has dtype float64"):
        backward(y.astype("float64"), cache)
    with pytest.raises(TypeError, match=r"cache of .*_pool_backward has to come from"):
        backward(y, bl.conv_forward(np.ones((2, 2)), np.ones((1, 1)))[1])


@pytest.mark.parametrize("name", PAIRS)
def test_pool_of_an_empty_batch_is_empty(name: str) -> None:
    forward, backward = PAIRS[name]
    y, cache = forward(np.ones((0, 3, 4, 4), "float32"))
    assert y.shape[0] == 0
    assert backward(y, cache).shape == (0, 3, 4, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: bl.max_pool_forward(x, 0), ValueError, "kernel_size is 0"),
        (lambda x: bl.max_pool_forward(x, 2, stride=0), ValueError, "stride is 0"),
        (lambda x: bl.max_pool_forward(x, 2, padding=-1), ValueError, "a pool cannot crop"),
        (lambda x: bl.max_pool_forward(x[0, 0], 2), ValueError, "x has shape"),
        (lambda x: bl.max_pool_forward(x.astype(int), 2), TypeError, "x has dtype int64"),
        (lambda x: bl.avg_pool_forward(x, 2, divisor_override=0), ValueError, "divisor_override is 0"),
        (lambda x: bl.avg_pool_forward(x, 2, divisor_override=True), TypeError, "divisor_override is True"),
        (lambda x: bl.avg_pool_forward(x, 2, count_include_pad=1), TypeError, "count_include_pad is 1"),
        (lambda x: bl.adaptive_avg_pool_forward(x, 0), ValueError, "output_size is 0"),
        (lambda x: bl.adaptive_avg_pool_forward(x, (1, 2, 3)), ValueError, "output_size is"),
        (lambda x: bl.global_avg_pool_forward(x, layout="NHWC"), ValueError, "layout is 'NHWC'"),
    ],
)
def test_bad_pool_argument_is_refused_by_name(call: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        call(np.ones((1, 2, 4, 4)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_adaptive_avg_pool_keeps_what_is_not_finite_to_the_windows_that_read_it(bad: float) -> None:
    x = np.ones((1, 1, 8, 8))
    x[0, 0, 0, 0] = bad
    y, cache = bl.adaptive_avg_pool_forward(x, 2)
    assert np.isfinite(y[0, 0]).tolist() == [[False, True], [True, True]]
    dx = bl.adaptive_avg_pool_backward(np.array([[[[bad, 1.0], [1.0, 1.0]]]]), cache)
    assert np.isfinite(dx[0, 0]).sum() == 48


def test_adaptive_avg_pool_of_a_long_axis_needs_no_memory_beyond_its_arrays() -> None:
    x = np.ones((1, 1, 1_000_000), np.float32)
    y, cache = bl.adaptive_avg_pool_forward(x, 100_000)
    assert (y == 1).all()
    dx = bl.adaptive_avg_pool_backward(y, cache)
    assert_close(dx, np.full_like(x, 0.1), 1)  # 10 elements to a window, upstream 1


def test_adaptive_avg_pool_of_an_impossible_size_is_refused() -> None:
    with pytest.raises(OverflowError, match="y of shape"):
        bl.adaptive_avg_pool_forward(np.ones((1, 1, 4)), 2**62)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_global_avg_pool_of_a_million_float32_values_is_accurate(layout: str) -> None:
    values = np.random.default_rng(0).random((1, 2, 1_000_000), np.float32)
    x = values if layout == "channels_first" else np.moveaxis(values, 1, -1).copy()
    y = bl.global_avg_pool_forward(x, layout=layout)[0].reshape(-1)
    assert_close(y, values[0].mean(axis=1, dtype=np.float64), terms=1)
