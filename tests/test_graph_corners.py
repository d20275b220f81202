"""Rules where mathematics leaves something open, by hand, and the sentences they refuse with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backlit.graph import Tensor, apply
from tolerance import assert_close


def test_getitem_adds_up_what_was_taken_twice_by_hand() -> None:
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    (x[np.array([0, 2, 0, 0])] * Tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    np.testing.assert_array_equal(x.grad, [1101.0, 0.0, 10.0])


@pytest.mark.parametrize(
    ("values", "axis", "expected"),
    [
        ([[1.0, 3.0, 3.0], [3.0, 0.0, 3.0]], None, [[0, 1, 0], [0, 0, 0]]),
        ([[1.0, 3.0, 3.0], [3.0, 0.0, 3.0]], 1, [[0, 1, 0], [1, 0, 0]]),
        ([[1.0, 3.0, 3.0], [3.0, 0.0, 3.0]], 0, [[0, 1, 1], [1, 0, 0]]),
        ([[1.0, np.nan, 3.0], [np.nan, 0.0, 3.0]], None, [[0, 1, 0], [0, 0, 0]]),
        ([[-np.inf, -np.inf]], 1, [[1, 0]]),
    ],
)
def test_max_gives_the_gradient_to_the_first_of_equal_elements(values: Any, axis: Any, expected: Any) -> None:
    x = Tensor(values, requires_grad=True)
    x.max(axis=axis).sum().backward()
    np.testing.assert_array_equal(x.grad, expected)


def test_max_is_nan_where_an_element_is() -> None:
    assert np.isnan(Tensor([1.0, np.nan, 2.0]).max().item())


@pytest.mark.parametrize(
    ("a", "b", "da", "db"),
    [
        (0.0, 0.0, 0.0, 0.0),  # a ** 0 is 1 for every a, and torch calls 0 ** b constant at 0
        (3.0, 0.0, 0.0, np.log(3.0)),
        (0.0, 2.0, 0.0, 0.0),
        (0.0, 1.0, 1.0, 0.0),
        (0.0, 0.5, np.inf, 0.0),
        (0.0, -1.0, -np.inf, -np.inf),
        (-2.0, 3.0, 12.0, np.nan),
        (-2.0, 2.0, -4.0, np.nan),
    ],
)
def test_pow_decides_its_corner_cases_by_hand(a: float, b: float, da: float, db: float) -> None:
    x, y = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
    (x**y).backward()
    np.testing.assert_array_equal([x.grad, y.grad], [da, db])


def test_div_by_a_tiny_number_keeps_its_gradient_in_range() -> None:
    b = Tensor(np.float32(1e-30).reshape(()), requires_grad=True)
    a = np.full((), 1e-35, np.float32)
    (a / b).backward()
    assert_close(b.grad, -float(a) / float(b.data) ** 2, 1)


def test_ieee_754_decides_silently_what_mathematics_leaves_open() -> None:
    x = Tensor([0.0, -1.0], requires_grad=True)
    np.testing.assert_array_equal(x.log().numpy(), [-np.inf, np.nan])
    np.testing.assert_array_equal((x / 0.0).numpy(), [np.nan, -np.inf])
    (1 / x).sum().backward()
    np.testing.assert_array_equal(x.grad, [-np.inf, -1.0])


MANY = 1_000_000


def test_long_sum_in_float32_keeps_its_digits() -> None:
    x = Tensor(np.full((MANY, 2), 0.1, np.float32))  # along the first axis NumPy's own sum is 1% off
    for result in (x.sum(axis=0) / MANY, x.mean(axis=0), x[:, 0].mean()):
        assert_close(result.numpy(), np.full(result.shape, np.float32(0.1)), terms=3)


@pytest.mark.parametrize(
    "use", [lambda x: x + np.zeros((MANY, 1), np.float32), lambda x: x[np.zeros(MANY, int)]]
)
def test_gradient_of_an_element_used_a_million_times_keeps_its_digits(use: Any) -> None:
    x = Tensor(np.ones(1, np.float32), requires_grad=True)
    y = use(x)
    y.backward(np.full(y.shape, 0.1, np.float32))
    assert x.grad is not None
    assert_close(x.grad / MANY, np.full(1, np.float32(0.1)), terms=3)


@pytest.mark.parametrize(
    ("compute", "error", "message"),
    [
        (
            lambda: Tensor([1.0, 2.0]) + Tensor([1.0, 2.0, 3.0]),
            ValueError,
            r"add: a has shape \(2,\) and b has shape \(3,\)",
        ),
        (lambda: Tensor([1.0, 2.0]) - Tensor([1.0, 2.0, 3.0]), ValueError, "sub: .* do not broadcast"),
        (lambda: Tensor([1.0, 2.0]) * Tensor([1.0, 2.0, 3.0]), ValueError, "mul: .* do not broadcast"),
        (lambda: Tensor([1.0, 2.0]) / Tensor([1.0, 2.0, 3.0]), ValueError, "div: .* do not broadcast"),
        (lambda: Tensor([1.0, 2.0]) ** Tensor([1.0, 2.0, 3.0]), ValueError, "pow: .* do not broadcast"),
        (
            lambda: Tensor([[1.0, 2.0]]) @ Tensor([[1.0, 2.0]]),
            ValueError,
            "the 2 columns of a .* not 1: transpose one",
        ),
        (
            lambda: Tensor([1.0, 2.0]) @ Tensor([1.0]),
            ValueError,
            "the 2 columns of a have to meet as many rows of b, not 1",
        ),
        (
            lambda: Tensor(np.ones((2, 3, 4))) @ Tensor(np.ones((3, 4, 5))),
            ValueError,
            "axes before the last two",
        ),
        (lambda: Tensor(2.0) @ Tensor([1.0]), ValueError, r"matmul: a is a single number.*multiply with \*"),
        (lambda: Tensor([1.0]) @ Tensor(2.0), ValueError, "matmul: b is a single number"),
        (lambda: Tensor([1.0, 2.0])[2], IndexError, r"index 2 does not fit a tensor of shape \(2,\)"),
        (lambda: Tensor([1.0, 2.0])[0, 0], IndexError, r"index \(0, 0\) does not fit"),
        (lambda: Tensor([1.0, 2.0])[np.array([0.5])], IndexError, "does not fit"),
        (
            lambda: Tensor([1.0, 2.0])[np.arange(100)],
            IndexError,
            r"index array\(\[.{60,80}\.\.\. does not fit",
        ),
        (
            lambda: Tensor([1.0, 2.0])[Tensor([1.0])],
            TypeError,
            "index holds a Tensor.* pass a NumPy array of integers",
        ),
        (lambda: Tensor([1.0, 2.0])[0.5], TypeError, "index holds a float"),
        (lambda: Tensor([1.0, 2.0]).reshape(3), ValueError, r"shape \(3,\) cannot hold the 2 elements"),
        (lambda: Tensor([1.0, 2.0]).reshape(-1, -1), ValueError, r"shape \(-1, -1\) cannot hold"),
        (lambda: Tensor([1.0, 2.0]).reshape(2.0, 1), ValueError, "all integers"),
        (lambda: Tensor(np.ones(6)).reshape(-2, 3), ValueError, r"shape \(-2, 3\) cannot hold the 6"),
        (lambda: Tensor([1.0, 2.0])[[[0, 1], [0]]], ValueError, "index holds a list .* equally long.$"),
        (lambda: Tensor([1.0, 2.0])[0:2.5], TypeError, "index holds the slice 0:2.5, and .* integers"),
        (lambda: Tensor([1.0, 2.0])[::0], ValueError, "index holds the slice ::0, .* step .* not 0"),
        (lambda: Tensor([1.0, 2.0])[[0.5]], IndexError, "does not fit"),
        (
            lambda: Tensor(np.ones((2, 3))).transpose(0, 0),
            ValueError,
            "axes .* does not name each of the 2 axes",
        ),
        (lambda: Tensor(np.ones((2, 3))).transpose(0), ValueError, "does not name each of the 2 axes"),
        (
            lambda: Tensor(np.ones((2, 3))).sum(axis=2),
            ValueError,
            r"axis of sum is 2, .* has 2 axes: pass -2 to 1",
        ),
        (lambda: Tensor(1.0).sum(axis=0), ValueError, "leave axis out"),
        (lambda: Tensor(np.ones((2, 3))).mean(axis=(0, -2)), ValueError, "names an axis twice"),
        (lambda: Tensor(np.ones((2, 3))).max(axis=1.0), TypeError, "axis of max is 1.0, and an integer"),
        (lambda: Tensor(np.ones((2, 3))).sum(axis=True), TypeError, "axis of sum is True"),
        (lambda: Tensor(np.ones((0, 3))).mean(), ValueError, "mean over axis .* has no elements"),
        (lambda: Tensor(np.ones((0, 3))).max(axis=0), ValueError, "max over axis .* leave empty batches out"),
        (lambda: apply("cos", Tensor(1.0)), ValueError, "rule_name is 'cos', and the rules are add, sub"),
        (
            lambda: apply("exp", Tensor(1.0), 2.0),
            TypeError,
            "exp was given 2 inputs, and y = exp.x. has 1: x",
        ),
    ],
)
def test_rule_explains_what_it_cannot_do(compute: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compute()


@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 0), (0, 4)), ((3, 2), (2, 0)), ((2,), (2, 0)), ((0,), (0,)), ((2, 3, 0), (0, 4)), ((0, 2), (2, 4))],
)
def test_matmul_over_empty_axes_has_gradients_of_zero(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = Tensor(np.ones(a), requires_grad=True), Tensor(np.ones(b), requires_grad=True)
    (x @ y).sum().backward()
    np.testing.assert_array_equal(x.grad, np.zeros(a))
    np.testing.assert_array_equal(y.grad, np.zeros(b))
