"""In-place operators of tensors: updates under no_grad, new tensors elsewhere, and no leaf left behind unnoticed."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest

import backlit as bl

OPERATORS = [operator.iadd, operator.isub, operator.imul, operator.itruediv]


def test_step_of_gradient_descent_changes_the_parameters_of_a_model() -> None:
    model = bl.nn.Linear(2, 1)
    before = {name: value.copy() for name, value in model.state_dict().items()}
    (model(bl.Tensor(np.ones((1, 2), np.float32))) ** 2).sum().backward()
    with bl.no_grad():
        for parameter in model.parameters():
            parameter -= 0.5 * parameter.grad
        model.bias *= 2
    moved = model.state_dict()
    np.testing.assert_array_equal(moved["weight"], before["weight"] - 0.5 * model.weight.grad)
    np.testing.assert_array_equal(moved["bias"], 2 * (before["bias"] - 0.5 * model.bias.grad))


@pytest.mark.parametrize("update", OPERATORS)
def test_update_under_no_grad_keeps_the_tensor_and_its_array(update: Any) -> None:
    w = bl.Tensor([1.0, 2.0], requires_grad=True)
    data = w.data
    with bl.no_grad():
        result = update(w, bl.Tensor([2.0, 4.0]))
    assert result is w
    assert w.data is data
    assert w.requires_grad
    assert data.tolist() == update(np.array([1.0, 2.0]), [2.0, 4.0]).tolist()


@pytest.mark.parametrize("update", OPERATORS)
def test_update_of_a_leaf_while_recording_is_refused(update: Any) -> None:
    w = bl.Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(ValueError, match=r"with no_grad\(\)"):
        update(w, 2.0)
    assert w.data.tolist() == [1.0, 2.0]


def test_sum_in_a_loop_is_recorded() -> None:
    w = bl.Tensor(3.0, requires_grad=True)
    total = bl.Tensor(0.0)
    for factor in (1.0, 2.0, 4.0):
        total += factor * w
    total.backward()
    assert w.grad == 7.0


def test_update_that_does_not_fit_is_refused() -> None:
    w = bl.Tensor([1.0, 2.0])
    with bl.no_grad(), pytest.raises(ValueError, match=r"-= of shape \(3, 2\) does not fit"):
        w -= np.ones((3, 2))
