"""The linear pair: by hand, as an adjoint, with `needs`, against PyTorch; and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backlit.ops import linear_backward, linear_forward
from tolerance import assert_close

X = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
W = np.array([[1.0, 10.0], [100.0, 0.0]])
B = np.array([0.5, -1.0])
DY = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]])


def test_linear_by_hand() -> None:
    y, cache = linear_forward(X, W, B)
    assert y.tolist() == [[21.5, 99.0], [43.5, 299.0], [65.5, 499.0]]
    dx, dw, db = linear_backward(DY, cache)
    assert dx is not None
    assert dw is not None
    assert db is not None
    assert dx.tolist() == [[1.0, 10.0], [100.0, 0.0], [-98.0, 20.0]]
    assert dw.tolist() == [[11.0, 14.0], [-2.0, -2.0]]
    assert db.tolist() == [3.0, 0.0]


def test_linear_without_bias_has_two_gradients() -> None:
    assert len(linear_backward(DY, linear_forward(X, W)[1])) == 2


@pytest.mark.parametrize("needs", [("dx",), ("dw",), ("db",), ("dw", "db"), ()])
def test_linear_leaves_out_what_is_not_needed(needs: tuple[str, ...]) -> None:
    cache = linear_forward(X, W, B)[1]
    everything = dict(zip(("dx", "dw", "db"), linear_backward(DY, cache), strict=True))
    some = dict(zip(("dx", "dw", "db"), linear_backward(DY, cache, needs=needs), strict=True))
    for name, gradient in everything.items():
        if name in needs:
            np.testing.assert_array_equal(some[name], gradient)
        else:
            assert some[name] is None


def test_linear_may_be_asked_for_the_gradient_of_a_bias_it_does_not_have() -> None:
    assert linear_backward(DY, linear_forward(X, W)[1], needs=("db",)) == (None, None)


def test_linear_is_its_own_adjoint_in_x_and_in_w(rng: np.random.Generator) -> None:
    x, w, dy = (rng.standard_normal(shape) for shape in ((50, 70), (30, 70), (50, 30)))
    y, cache = linear_forward(x, w)
    dx, dw = linear_backward(dy, cache)
    magnitude = float(np.sum(np.abs(y * dy)))
    assert_close(np.sum(dx * x), np.sum(y * dy), terms=y.size, scale=magnitude)
    assert_close(np.sum(dw * w), np.sum(y * dy), terms=y.size, scale=magnitude)


def test_linear_of_an_empty_batch_has_zero_weight_gradients() -> None:
    y, cache = linear_forward(np.zeros((0, 2)), W, B)
    dx, dw, db = linear_backward(np.zeros((0, 2)), cache)
    assert y.shape == (0, 2)
    assert dx is not None
    assert dx.shape == (0, 2)
    np.testing.assert_array_equal(dw, np.zeros((2, 2)))
    np.testing.assert_array_equal(db, np.zeros(2))


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_linear_passes_nan_through_a_weight_of_zero(rows: int) -> None:
    x = np.ones((rows, 5))
    x[0, 3] = np.nan
    y, _ = linear_forward(x, np.zeros((4, 5)))
    assert np.isnan(y[0]).all()
    assert not np.isnan(y[1:]).any()


def test_linear_sums_a_long_bias_gradient_in_float64() -> None:
    dy = np.full((100_000, 1), np.float32(0.1))
    _, _, db = linear_backward(dy, linear_forward(np.ones((100_000, 1), np.float32), dy[:1], dy[0])[1])
    assert db == np.float32(100_000 * np.float64(np.float32(0.1)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones(()), W), r"x has shape \(\), and a last axis of features is needed"),
        ((X, np.ones(2)), r"w has shape \(2,\), and a matrix \(out, in\) is needed"),
        ((X, np.ones((0, 2))), r"w has shape \(0, 2\), and its axis `out` needs a size of at least 1"),
        (
            (np.ones((3, 0)), np.ones((2, 0))),
            r"w has shape \(2, 0\), and its axis `in` needs a size of at least 1",
        ),
        (
            (X, np.ones((4, 3))),
            r"x of shape \(3, 2\) has 2 features, and w of shape \(4, 3\) needs 3: the last axes",
        ),
        (
            (X, np.ones((2, 5))),
            r"has 2 features, and w of shape \(2, 5\) needs 5: w is \(out, in\), so pass w.T",
        ),
        (
            (np.ones((3, 4, 5)), np.ones((2, 20))),
            r"has 5 features, and w of shape \(2, 20\) needs 20: flatten x first",
        ),
        (
            (X, W, np.ones(3)),
            r"b has shape \(3,\), and w of shape \(2, 2\) needs one value per output, \(2,\)",
        ),
        ((X, W, np.ones((2, 1))), r"b has shape \(2, 1\), and w"),
    ],
)
def test_linear_says_what_does_not_fit(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        linear_forward(*arguments)


def test_linear_says_which_need_it_does_not_know() -> None:
    cache = linear_forward(X, W, B)[1]
    with pytest.raises(ValueError, match=r'needs names "dz", and the gradients here are "dx", "dw", "db"'):
        linear_backward(DY, cache, needs=("dx", "dz"))


@pytest.mark.parametrize("needs", ["dx", None, 1, (1,)])
def test_linear_takes_needs_as_names_in_a_tuple_only(needs: Any) -> None:
    cache = linear_forward(X, W, B)[1]
    with pytest.raises(TypeError, match=r'needs is .*, and a tuple of names is needed: pass needs=\("dx",\)'):
        linear_backward(DY, cache, needs=needs)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(64,), (), (2, 3), (1,)])
def test_linear_equals_pytorch(
    dtype: str, bias: bool, batch: tuple[int, ...], rng: np.random.Generator, torch: Any
) -> None:
    arrays = [rng.standard_normal(s).astype(dtype) for s in ((*batch, 120), (84, 120), (84,))][: 2 + bias]
    y, cache = linear_forward(*arrays)
    dy = rng.standard_normal(y.shape).astype(dtype)
    gradients = linear_backward(dy, cache)
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    expected = torch.nn.functional.linear(*tensors)
    expected.backward(torch.tensor(dy))
    assert_close(y, expected.detach().numpy(), terms=121)
    for ours, tensor in zip(gradients, tensors, strict=True):
        assert ours is not None
        assert_close(ours, tensor.grad.numpy(), terms=84)
