"""relu, sigmoid and tanh: by hand, at their limits, against PyTorch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import backlit.ops as ops
from tolerance import assert_close

floats = pytest.mark.parametrize("dtype", ["float32", "float64"])


@floats
def test_relu_by_hand(dtype: str) -> None:
    x = np.array([-2.0, -0.0, 0.0, 3.0, -np.inf, np.inf], dtype)
    y, cache = ops.relu_forward(x)
    assert y.tolist() == [0.0, 0.0, 0.0, 3.0, 0.0, np.inf]
    assert not np.signbit(y).any()
    dx = ops.relu_backward(np.arange(1, 7).astype(dtype), cache)
    assert dx.tolist() == [0.0, 0.0, 0.0, 4.0, 0.0, 6.0]


@floats
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_relu_passes_nan_and_its_gradient(dtype: str, sign: float) -> None:
    x = np.copysign(np.full(3, np.nan, dtype), np.array(sign, dtype))
    y, cache = ops.relu_forward(x)
    assert np.isnan(y).all()
    assert ops.relu_backward(np.array([1, 2, 3], dtype), cache).tolist() == [1, 2, 3]


def test_relu_drops_whatever_is_upstream_of_a_negative_element() -> None:
    _, cache = ops.relu_forward([-1.0, -1.0, 0.0])
    assert ops.relu_backward([np.nan, np.inf, -np.inf], cache).tolist() == [0.0, 0.0, 0.0]


@floats
def test_relu_keeps_the_smallest_number(dtype: str) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    assert ops.relu_forward(np.array([tiny, -tiny]))[0].tolist() == [tiny, 0.0]


def test_sigmoid_by_hand() -> None:
    x = [0.0, math.log(3.0), -math.log(3.0)]
    y, cache = ops.sigmoid_forward(x)
    assert_close(y, [0.5, 0.75, 0.25], terms=3)
    assert_close(ops.sigmoid_backward([1.0, 1.0, 2.0], cache), [0.25, 0.1875, 0.375], terms=3)


@floats
def test_sigmoid_keeps_its_relative_accuracy_far_from_zero(dtype: str) -> None:
    x = np.array([-87.0, -60.0, -20.0, 20.0, 60.0, 87.0], dtype)
    y, cache = ops.sigmoid_forward(x)
    dx = ops.sigmoid_backward(np.ones(6, dtype), cache)
    exact = np.array([1 / (1 + math.exp(-v)) for v in x])
    e = np.array([math.exp(-abs(v)) for v in x])
    assert_close((y / exact).astype(dtype), np.ones(6), terms=4)
    assert_close((dx / (e / (1 + e) ** 2)).astype(dtype), np.ones(6), terms=4)


@floats
def test_sigmoid_and_tanh_reach_their_limits(dtype: str) -> None:
    x = np.array([-np.inf, np.finfo(dtype).min, np.finfo(dtype).max, np.inf], dtype)
    y, cache = ops.sigmoid_forward(x)
    assert y.tolist() == [0, 0, 1, 1]
    assert ops.sigmoid_backward(np.ones(4, dtype), cache).tolist() == [0, 0, 0, 0]
    y, cache2 = ops.tanh_forward(x)
    assert y.tolist() == [-1, -1, 1, 1]
    assert ops.tanh_backward(np.ones(4, dtype), cache2).tolist() == [0, 0, 0, 0]


def test_tanh_by_hand() -> None:
    y, cache = ops.tanh_forward([0.0, math.log(2.0), -math.log(2.0)])
    assert_close(y, [0.0, 0.6, -0.6], terms=3)
    assert_close(ops.tanh_backward([1.0, 1.0, 2.0], cache), [1.0, 0.64, 1.28], terms=3)


@floats
def test_tanh_keeps_its_gradient_accurate_in_saturation(dtype: str) -> None:
    x = np.array([-12.0, 9.5, 15.0, 30.0], dtype)
    dx = ops.tanh_backward(np.ones(4, dtype), ops.tanh_forward(x)[1])
    exact = np.array([1 / math.cosh(v) ** 2 for v in x])
    assert_close((dx / exact).astype(dtype), np.ones(4), terms=6)


@pytest.mark.parametrize("operation", ["relu", "sigmoid", "tanh"])
def test_activation_of_an_empty_array_is_empty(operation: str) -> None:
    y, cache = getattr(ops, f"{operation}_forward")(np.zeros((0, 3)))
    assert getattr(ops, f"{operation}_backward")(y, cache).shape == (0, 3)


@pytest.mark.parametrize("operation", ["sigmoid", "tanh"])
def test_activation_passes_a_single_nan_to_its_own_element_only(operation: str) -> None:
    y, cache = getattr(ops, f"{operation}_forward")(np.array([1.0, np.nan, -1.0]))
    dx = getattr(ops, f"{operation}_backward")(np.ones(3), cache)
    assert np.isnan(y).tolist() == [False, True, False]
    assert np.isnan(dx).tolist() == [False, True, False]


@pytest.mark.torch
@floats
@pytest.mark.parametrize("operation", ["relu", "sigmoid", "tanh"])
def test_activation_equals_pytorch(operation: str, dtype: str, rng: np.random.Generator, torch: Any) -> None:
    x = (3 * rng.standard_normal((4, 6, 7, 5))).astype(dtype)
    x[0, 0, 0] = [0.0, -0.0, 100.0, -100.0, 1e-30]
    dy = rng.standard_normal(x.shape).astype(dtype)
    y, cache = getattr(ops, f"{operation}_forward")(x)
    tensor = torch.tensor(x, requires_grad=True)
    expected = getattr(torch, operation)(tensor)
    expected.backward(torch.tensor(dy))
    assert_close(y, expected.detach().numpy(), terms=4)
    assert_close(getattr(ops, f"{operation}_backward")(dy, cache), tensor.grad.numpy(), terms=4)


@pytest.mark.torch
def test_relu_treats_nan_and_infinity_as_pytorch_does(torch: Any) -> None:
    x = np.array([np.nan, 1.0, -1.0, 0.0, -1.0, np.inf])
    dy = np.array([2.0, np.nan, np.nan, np.inf, -np.inf, 3.0])
    tensor = torch.tensor(x, requires_grad=True)
    torch.relu(tensor).backward(torch.tensor(dy))
    np.testing.assert_array_equal(ops.relu_backward(dy, ops.relu_forward(x)[1]), tensor.grad.numpy())
