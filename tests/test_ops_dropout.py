"""Dropout: what it keeps, what it draws and from where, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backlit.ops import dropout_backward, dropout_forward
from backlit.ops.random import generator, manual_seed, using
from tolerance import assert_close


def test_dropout_zeroes_or_scales_up(rng: np.random.Generator) -> None:
    y, _ = dropout_forward(np.full(1000, 3.0), 0.25, rng=rng)
    assert set(y.tolist()) == {0.0, 4.0}


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(p: float, rng: np.random.Generator) -> None:
    n = 100_000
    y, _ = dropout_forward(np.ones(n), p, rng=rng)
    deviation = np.sqrt(p / (1 - p) / n)  # of the mean of y
    assert abs(y.mean() - 1) < 5 * deviation


def test_dropout_gradient_goes_through_the_same_mask(rng: np.random.Generator) -> None:
    x, dy = rng.standard_normal(50) + 10, rng.standard_normal(50)
    y, cache = dropout_forward(x, 0.5, rng=rng)
    assert_close(dropout_backward(dy, cache), np.where(y == 0, 0.0, 2.0) * dy, terms=1)


def test_dropout_is_its_own_adjoint(rng: np.random.Generator) -> None:
    x, dy = rng.standard_normal((20, 30)), rng.standard_normal((20, 30))
    y, cache = dropout_forward(x, 0.3, rng=rng)
    assert_close(
        np.sum(dropout_backward(dy, cache) * x), np.sum(y * dy), terms=600, scale=np.abs(y * dy).sum()
    )


@pytest.mark.parametrize("arguments", [{"training": False}, {"p": 0.0}, {"p": 0}])
def test_dropout_that_drops_nothing_copies_and_draws_nothing(arguments: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    x = np.array([1.0, np.nan, -np.inf])
    y, cache = dropout_forward(x, **arguments, rng=rng)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(dropout_backward(x, cache), x)
    assert rng.bit_generator.state == before


def test_dropout_of_everything_is_zero() -> None:
    y, cache = dropout_forward(np.arange(5.0), 1)
    assert y.tolist() == [0.0] * 5
    assert dropout_backward(np.ones(5), cache).tolist() == [0.0] * 5


def test_dropout_draws_the_same_mask_in_both_precisions() -> None:
    masks = [dropout_forward(np.ones(500, d), 0.3, rng=np.random.default_rng(1))[0] > 0 for d in ("f4", "f8")]
    np.testing.assert_array_equal(*masks)


def test_dropout_draws_the_same_mask_whatever_the_memory_order() -> None:
    x = np.ones((20, 30))
    first, second = (dropout_forward(a, rng=np.random.default_rng(1))[0] for a in (x, np.asfortranarray(x)))
    np.testing.assert_array_equal(first, second)


def test_dropout_draws_anew_each_time() -> None:
    rng = np.random.default_rng(0)
    first, second = (dropout_forward(np.ones(100), rng=rng)[0] for _ in range(2))
    assert (first != second).any()


def test_dropout_follows_manual_seed() -> None:
    masks = []
    for _ in range(2):
        manual_seed(3)
        masks.append(dropout_forward(np.ones(100))[0])
    np.testing.assert_array_equal(*masks)


def test_dropout_follows_the_generator_in_force() -> None:
    manual_seed(3)
    before = generator().bit_generator.state
    with using(np.random.default_rng(5)):
        y, _ = dropout_forward(np.ones(100))
    np.testing.assert_array_equal(y, dropout_forward(np.ones(100), rng=np.random.default_rng(5))[0])
    assert generator().bit_generator.state == before


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan, np.inf])
def test_dropout_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(ValueError, match=r"p is .*, and a number from 0 to 1 is needed"):
        dropout_forward(np.ones(3), p)


@pytest.mark.parametrize("p", [True, np.True_, "0.5", None, [0.5], np.array(0.5), 0.5j])
def test_dropout_refuses_what_is_no_number(p: Any) -> None:
    with pytest.raises(TypeError, match=r"p is .*, and a number from 0 to 1 is needed"):
        dropout_forward(np.ones(3), p)


@pytest.mark.parametrize("rng", [0, np.random, "seed"])
def test_dropout_refuses_what_is_no_generator(rng: Any) -> None:
    with pytest.raises(
        TypeError, match=r"rng is .*, and a NumPy Generator is needed: pass np.random.default_rng\(0\)"
    ):
        dropout_forward(np.ones(3), rng=rng)


def test_dropout_refuses_a_number_for_training() -> None:
    with pytest.raises(TypeError, match=r"training is 0, and True or False is needed: pass training=False"):
        dropout_forward(np.ones(3), training=0)  # type: ignore[arg-type]


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dropout_gradient_equals_pytorch_under_the_same_mask(
    dtype: str, rng: np.random.Generator, torch: Any
) -> None:
    x, dy = (rng.standard_normal((8, 9)).astype(dtype) for _ in range(2))
    y, cache = dropout_forward(x, 0.4, rng=rng)
    tensor = torch.tensor(x, requires_grad=True)
    expected = tensor * torch.tensor((y != 0).astype(dtype)) / (1 - 0.4)
    expected.backward(torch.tensor(dy))
    assert_close(y, expected.detach().numpy(), terms=2)
    assert_close(dropout_backward(dy, cache), tensor.grad.numpy(), terms=2)
