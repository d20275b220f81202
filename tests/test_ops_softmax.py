"""softmax and log_softmax: by hand, by their properties, at their limits, against PyTorch; and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import backlit.ops as ops
from tolerance import assert_close

floats = pytest.mark.parametrize("dtype", ["float32", "float64"])
scores = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=st.floats(-1e3, 1e3))


def pair(operation: str) -> tuple[Any, Any]:
    return getattr(ops, f"{operation}_forward"), getattr(ops, f"{operation}_backward")


both = pytest.mark.parametrize("operation", ["softmax", "log_softmax"])


def test_softmax_by_hand() -> None:
    y, cache = ops.softmax_forward(np.log([[1.0, 2.0, 5.0]]))
    assert_close(y, [[0.125, 0.25, 0.625]], terms=4)
    # sum of dy * y = 8 * 0.125 = 1
    assert_close(ops.softmax_backward([[8.0, 0.0, 0.0]], cache), [[0.875, -0.25, -0.625]], terms=4)


def test_log_softmax_by_hand() -> None:
    y, cache = ops.log_softmax_forward(np.log([[1.0, 2.0, 5.0]]))
    assert_close(y, np.log([[0.125, 0.25, 0.625]]), terms=4)
    assert_close(ops.log_softmax_backward([[8.0, 0.0, 0.0]], cache), [[7.0, -2.0, -5.0]], terms=4)


@given(x=scores)
def test_softmax_sums_to_one(x: Any) -> None:
    assert_close(ops.softmax_forward(x)[0].sum(axis=1), np.ones(len(x)), terms=6)


@given(x=scores, shift=st.floats(-1e3, 1e3))
def test_softmax_does_not_see_a_shift(x: Any, shift: float) -> None:
    # the scores' own rounding is what moves the probabilities
    assert_close(ops.softmax_forward(x + shift)[0], ops.softmax_forward(x)[0], terms=6, scale=4e3)


@given(x=scores)
def test_softmax_gradient_sums_to_zero(x: Any) -> None:
    for operation in ("softmax", "log_softmax"):
        forward, backward = pair(operation)
        _, cache = forward(x)
        dy = np.cos(np.arange(x.size)).reshape(x.shape)
        assert_close(backward(dy, cache).sum(axis=1), np.zeros(len(x)), terms=12, scale=6.0)


@given(x=scores)
def test_log_softmax_is_the_logarithm_of_softmax(x: Any) -> None:
    assert_close(np.exp(ops.log_softmax_forward(x)[0]), ops.softmax_forward(x)[0], terms=6, scale=2e3)


@both
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_softmax_over_any_axis_equals_the_last_one_moved(
    operation: str, axis: int, rng: np.random.Generator
) -> None:
    forward, backward = pair(operation)
    x, dy = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 4))
    y, cache = forward(x, axis=axis)
    y_last, cache_last = forward(np.moveaxis(x, axis, -1))
    assert_close(y, np.moveaxis(y_last, -1, axis), terms=4)
    dx_last = backward(np.moveaxis(dy, axis, -1), cache_last)
    assert_close(backward(dy, cache), np.moveaxis(dx_last, -1, axis), terms=8)


@floats
def test_softmax_does_not_overflow(dtype: str) -> None:
    most = np.finfo(dtype).max
    x = np.array([[most, 0, -most], [-most, -most, -most]], dtype)
    assert_close(ops.softmax_forward(x)[0], np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]], dtype), terms=3)
    y = ops.log_softmax_forward(x)[0]
    assert y[0].tolist() == [0, -most, -np.inf]


def test_masked_scores_have_no_probability_and_no_gradient() -> None:
    x = np.array([1.0, -np.inf, 1.0])
    y, cache = ops.softmax_forward(x)
    assert y.tolist() == [0.5, 0.0, 0.5]
    assert ops.softmax_backward(np.array([1.0, 5.0, 0.0]), cache).tolist() == [0.25, 0.0, -0.25]
    y, log_cache = ops.log_softmax_forward(x)
    assert y[1] == -np.inf
    assert ops.log_softmax_backward(np.array([0.0, 0.0, 2.0]), log_cache).tolist() == [-1.0, 0.0, 1.0]


@both
@pytest.mark.parametrize("row", [[np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf]])
def test_softmax_of_undefined_scores_is_nan_in_their_row_alone(operation: str, row: list[float]) -> None:
    y, _ = pair(operation)[0](np.array([row, [0.0, 0.0]]))
    assert np.isnan(y[0]).any()
    assert not np.isnan(y[1]).any()


def test_log_softmax_resolves_a_confident_answer_in_float32() -> None:
    x = np.array([20.0, 0.0], np.float32)
    assert_close(ops.log_softmax_forward(x)[0][0], np.float32(-math.log1p(math.exp(-20))), terms=2)


@both
def test_softmax_of_an_empty_batch_is_empty(operation: str) -> None:
    forward, backward = pair(operation)
    y, cache = forward(np.zeros((0, 3)))
    assert backward(y, cache).shape == (0, 3)


@both
def test_softmax_refuses_an_axis_of_no_scores(operation: str) -> None:
    with pytest.raises(
        ValueError, match=r"x has shape \(3, 0\), and its axis 1 of scores needs a size of at least 1"
    ):
        pair(operation)[0](np.zeros((3, 0)))


@both
@pytest.mark.parametrize("axis", [2, -3])
def test_softmax_refuses_an_axis_that_is_not_there(operation: str, axis: int) -> None:
    with pytest.raises(ValueError, match=rf"axis is {axis}, and x of shape \(3, 2\) has the axes -2 to 1"):
        pair(operation)[0](np.zeros((3, 2)), axis=axis)


@both
def test_softmax_refuses_a_number(operation: str) -> None:
    with pytest.raises(ValueError, match=r"x has shape \(\) and so no axis -1: give it one, x.reshape\(1\)"):
        pair(operation)[0](1.0)


@both
@pytest.mark.parametrize("axis", [True, 1.0, "1", None, ()])
def test_softmax_refuses_an_axis_that_is_no_integer(operation: str, axis: Any) -> None:
    with pytest.raises(TypeError, match=r"axis is .*, and an integer is needed"):
        pair(operation)[0](np.zeros((3, 2)), axis=axis)


@pytest.mark.torch
@both
@floats
@pytest.mark.parametrize(("shape", "axis"), [((64, 10), 1), ((3, 5, 4, 2), 1), ((7, 3), 0), ((1000,), 0)])
def test_softmax_equals_pytorch(
    operation: str, dtype: str, shape: tuple[int, ...], axis: int, rng: np.random.Generator, torch: Any
) -> None:
    forward, backward = pair(operation)
    x, dy = ((4 * rng.standard_normal(shape)).astype(dtype) for _ in range(2))
    y, cache = forward(x, axis=axis)
    tensor = torch.tensor(x, requires_grad=True)
    expected = getattr(torch, operation)(tensor, axis)
    expected.backward(torch.tensor(dy))
    assert_close(y, expected.detach().numpy(), terms=shape[axis])
    assert_close(
        backward(dy, cache), tensor.grad.numpy(), terms=shape[axis], scale=np.abs(dy).sum(axis).max()
    )
