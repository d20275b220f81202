"""flatten and add: by hand, as adjoints, against PyTorch; and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backlit.ops import add_backward, add_forward, flatten_backward, flatten_forward


def test_flatten_reads_in_row_major_order_whatever_the_memory_order() -> None:
    x = np.arange(12.0).reshape(1, 2, 3, 2)
    for arranged in (x, np.asfortranarray(x)):
        assert flatten_forward(arranged)[0].tolist() == [list(range(12))]


@pytest.mark.parametrize(
    ("start_axis", "shape"),
    [(0, (24,)), (1, (2, 12)), (2, (2, 3, 4)), (-1, (2, 3, 4)), (-2, (2, 12)), (-3, (24,))],
)
def test_flatten_starts_where_it_is_told(start_axis: int, shape: tuple[int, ...]) -> None:
    assert flatten_forward(np.zeros((2, 3, 4)), start_axis=start_axis)[0].shape == shape


def test_flatten_backward_undoes_flatten() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    y, cache = flatten_forward(x)
    np.testing.assert_array_equal(flatten_backward(y, cache), x)


def test_flatten_of_an_empty_batch_keeps_the_number_of_features() -> None:
    y, cache = flatten_forward(np.zeros((0, 3, 4)))
    assert y.shape == (0, 12)
    assert flatten_backward(y, cache).shape == (0, 3, 4)


def test_flatten_refuses_an_axis_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"start_axis is 1, and x of shape \(3,\) has the axes -1 to 0"):
        flatten_forward(np.zeros(3))


@pytest.mark.parametrize("start_axis", [True, 1.0, "1", None])
def test_flatten_refuses_a_start_that_is_no_integer(start_axis: Any) -> None:
    with pytest.raises(TypeError, match=r"start_axis is .*, and an integer is needed"):
        flatten_forward(np.zeros((3, 2)), start_axis=start_axis)


def test_add_by_hand() -> None:
    y, cache = add_forward([[1.0, 2.0]], [[10.0, 20.0]])
    da, db = add_backward([[3.0, 4.0]], cache)
    assert y.tolist() == [[11.0, 22.0]]
    assert da.tolist() == db.tolist() == [[3.0, 4.0]]


def test_add_of_an_array_to_itself_gives_two_gradients() -> None:
    x = np.ones(3)
    da, db = add_backward(x, add_forward(x, x)[1])
    da += 1
    assert db.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("shape", [(1, 3), (3,), (2, 1), (), (3, 2)])
def test_add_refuses_to_broadcast(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"a has shape \(2, 3\) and b has shape .*, and add takes equal shapes"
    ):
        add_forward(np.zeros((2, 3)), np.zeros(shape))


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_flatten_and_add_equal_pytorch(dtype: str, rng: np.random.Generator, torch: Any) -> None:
    a, b, dy = (rng.standard_normal(shape).astype(dtype) for shape in ((2, 3, 4), (2, 3, 4), (2, 12)))
    s, add_cache = add_forward(a, b)
    y, flat_cache = flatten_forward(s)
    tensors = [torch.tensor(v, requires_grad=True) for v in (a, b)]
    expected = torch.flatten(tensors[0] + tensors[1], 1)
    expected.backward(torch.tensor(dy))
    np.testing.assert_array_equal(y, expected.detach().numpy())
    for ours, tensor in zip(add_backward(flatten_backward(dy, flat_cache), add_cache), tensors, strict=True):
        np.testing.assert_array_equal(ours, tensor.grad.numpy())
