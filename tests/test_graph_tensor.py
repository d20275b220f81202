"""Tensors as values: what they are made from, the operators and comparisons, and what they refuse."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from backlit.graph import Tensor, apply, no_grad
from tolerance import assert_close

A = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]])
B = np.array([2.0, 3.0, -2.0])

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul]
each_binary = pytest.mark.parametrize("operate", BINARY, ids=lambda op: op.__name__)
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


def operands(operate: Callable[..., Any]) -> tuple[Any, Any]:
    return (np.abs(A), B) if operate is operator.pow else (A, B)


@each_binary
def test_operator_on_tensors_equals_numpys(operate: Callable[..., Any]) -> None:
    a, b = operands(operate)
    result = operate(Tensor(a), Tensor(b))
    assert type(result) is Tensor
    np.testing.assert_array_equal(result.numpy(), operate(a, b))


@each_binary
def test_operator_with_an_array_on_either_side_gives_a_tensor(operate: Callable[..., Any]) -> None:
    a, b = operands(operate)
    for result in (operate(Tensor(a), b), operate(a, Tensor(b))):
        assert type(result) is Tensor
        np.testing.assert_array_equal(result.numpy(), operate(a, b))


@pytest.mark.parametrize("operate", BINARY[:5], ids=lambda op: op.__name__)
@pytest.mark.parametrize("number", [2, 2.5, np.float64(2.5), np.float32(2.5), np.int64(2), True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_operator_with_a_number_on_either_side_keeps_the_tensors_dtype(
    operate: Callable[..., Any], number: Any, dtype: str
) -> None:
    a = np.abs(A).astype(dtype)
    for result, expected in (
        (operate(Tensor(a), number), operate(a, float(number))),
        (operate(number, Tensor(a)), operate(float(number), a)),
    ):
        assert type(result) is Tensor
        assert result.dtype == dtype
        assert_close(result.numpy(), expected, 1, np.abs(expected))


def test_operator_with_a_list_takes_it_for_numbers_of_the_tensors_dtype() -> None:
    x = Tensor(np.ones(3, np.float32))
    numbers = [1, 2.5, 3]
    for result in (x + numbers, numbers + x, x * tuple(numbers) + 1):
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result.numpy(), [2, 3.5, 4])


def test_unary_operators_equal_numpys() -> None:
    x = Tensor(A)
    np.testing.assert_array_equal((-x).numpy(), -A)
    assert +x is x


@pytest.mark.parametrize("compare", COMPARISONS, ids=lambda op: op.__name__)
def test_comparison_gives_a_plain_array(compare: Callable[..., Any]) -> None:
    for result in (
        compare(Tensor(A), Tensor(B)),
        compare(Tensor(A), B),
        compare(A, Tensor(B)),
    ):
        assert type(result) is np.ndarray
        np.testing.assert_array_equal(result, compare(A, B))
    np.testing.assert_array_equal(compare(Tensor(A), 1), compare(A, 1))
    np.testing.assert_array_equal(compare(1.0, Tensor(A)), compare(1.0, A))


def test_comparison_selects_by_mask() -> None:
    x = Tensor(A, requires_grad=True)
    x[x > 0].sum().backward()
    np.testing.assert_array_equal(x.grad, (A > 0).astype(float))


def test_hash_tells_tensors_apart_by_identity() -> None:
    x, y = Tensor([1.0, 2.0]), Tensor([1.0, 2.0])
    assert len({x, y, x}) == 2
    assert {x: "x", y: "y"}[y] == "y"


@pytest.mark.parametrize(
    ("ours", "numpys"),
    [
        (lambda x: x.reshape(3, 2), lambda a: a.reshape(3, 2)),
        (lambda x: x.reshape((-1,)), lambda a: a.reshape(-1)),
        (lambda x: x.reshape([3, 2]), lambda a: a.reshape(3, 2)),
        (lambda x: x.T, lambda a: a.T),
        (lambda x: x.transpose(), lambda a: a.T),
        (lambda x: x.transpose(1, 0), lambda a: a.T),
        (lambda x: x.transpose((0, -1)), lambda a: a),
        (lambda x: x.sum(), lambda a: a.sum()),
        (lambda x: x.sum(0), lambda a: a.sum(0)),
        (lambda x: x.mean(axis=-1, keepdims=True), lambda a: a.mean(axis=-1, keepdims=True)),
        (lambda x: x.max(axis=(0, 1)), lambda a: a.max()),
        (lambda x: x.max(axis=1, keepdims=True), lambda a: a.max(axis=1, keepdims=True)),
        (lambda x: x.exp(), np.exp),
        (lambda x: (x * x).log(), lambda a: np.log(a * a)),
        (lambda x: x[1, ::-1], lambda a: a[1, ::-1]),
        (lambda x: x[[0, 0], np.array([1, 2])], lambda a: a[[0, 0], np.array([1, 2])]),
        (lambda x: x[..., None, 0], lambda a: a[..., None, 0]),
        (lambda x: x[A > 0], lambda a: a[a > 0]),
    ],
)
def test_method_equals_numpys(ours: Callable[..., Any], numpys: Callable[..., Any]) -> None:
    expected = np.asarray(numpys(A))
    result = ours(Tensor(A)).numpy()
    assert type(result) is np.ndarray
    np.testing.assert_array_equal(result, expected, strict=True)


def test_tensor_shares_the_array_it_is_made_from() -> None:
    array = np.ones(3, np.float32)
    assert Tensor(array).numpy() is array
    assert Tensor(array, requires_grad=True).detach().numpy() is array


@pytest.mark.parametrize("data", [3.0, [1.0, 2.0], [[1.0], [2.0]], (1.0, 2.5), np.float64(2.0), []])
def test_tensor_of_python_floats_is_float64(data: Any) -> None:
    tensor = Tensor(data)
    assert tensor.dtype == np.float64
    assert tensor.shape == np.asarray(data).shape


def test_tensor_has_the_attributes_of_an_array() -> None:
    x = Tensor(A.astype(np.float32))
    assert (x.shape, x.dtype, x.ndim, x.size, len(x)) == ((2, 3), np.dtype("float32"), 2, 6, 2)
    assert (x.grad, x.node, x.name, x.requires_grad) == (None, None, None, False)


def test_iteration_gives_rows_whose_gradients_come_back() -> None:
    x = Tensor(A, requires_grad=True)
    first, second = x
    (first * 2 + second * 3).sum().backward()
    np.testing.assert_array_equal(x.grad, [[2.0] * 3, [3.0] * 3])


@pytest.mark.parametrize("data", [2.5, [2.5], [[2.5]]])
def test_single_number_comes_out_as_a_python_float(data: Any) -> None:
    for value in (float(Tensor(data)), Tensor(data).item()):
        assert type(value) is float
        assert value == 2.5


def test_truth_of_a_single_number_is_its_own() -> None:
    assert Tensor(2.0)
    assert not Tensor([0.0])


def test_array_of_a_constant_tensor_is_its_data() -> None:
    np.testing.assert_array_equal(np.asarray(Tensor(A)), A)
    assert np.array(Tensor(A), dtype=np.float32).dtype == np.float32


def test_leaf_is_copied_with_its_gradient_and_without_sharing() -> None:
    x = Tensor(A.copy(), requires_grad=True, name="x")
    (x * 2).sum().backward()
    twin = copy.deepcopy(x)
    x.data[:] = 0
    np.testing.assert_array_equal(twin.numpy(), A)
    np.testing.assert_array_equal(twin.grad, np.full((2, 3), 2.0))
    assert (twin.name, twin.requires_grad) == ("x", True)


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (Tensor([1.0, 2.5]), "Tensor([1. , 2.5])"),
        (Tensor(np.float32(3).reshape(())), "Tensor(3., dtype=float32)"),
        (Tensor([[1.0], [2.0]], requires_grad=True), "Tensor([[1.],\n        [2.]], requires_grad=True)"),
        (Tensor(2.0, name="x"), "Tensor(2., name='x')"),
        (Tensor(2.0, requires_grad=True) * 3, "Tensor(6., rule=mul)"),
        (Tensor(np.ones((0, 3))), "Tensor([], shape=(0, 3))"),
    ],
)
def test_repr_shows_values_dtype_and_origin(tensor: Tensor, text: str) -> None:
    assert repr(tensor) == text


def test_repr_of_a_large_tensor_is_short() -> None:
    assert len(repr(Tensor(np.zeros(10**5)))) < 200


def test_none_stands_for_an_input_left_out() -> None:
    x, w = Tensor(A), Tensor(np.ones((4, 3)), requires_grad=True)
    y = apply("linear", x, w, None)
    y.sum().backward()
    assert y.node is not None
    assert y.node.inputs == ()
    np.testing.assert_array_equal(w.grad, np.tile(A.sum(axis=0), (4, 1)))


def test_nothing_is_recorded_without_an_input_that_requires_a_gradient() -> None:
    y = Tensor(A) * Tensor(B)
    assert y.node is None
    assert not y.requires_grad
    with no_grad():
        assert (Tensor(A, requires_grad=True) * 2).node is None


X32, X64 = Tensor(np.ones(2, np.float32)), Tensor(np.ones(2))


@pytest.mark.parametrize(
    ("compute", "error", "message"),
    [
        (lambda: Tensor(3), TypeError, r"data holds integers, .* write 3\.0 for 3"),
        (
            lambda: Tensor([1, 2]),
            TypeError,
            r"data holds integers, .* or pass np\.asarray\(data, np\.float32\)",
        ),
        (lambda: Tensor(np.arange(3)), TypeError, r"data has dtype int64, .* data\.astype\(np\.float32\)"),
        (lambda: Tensor(np.ones(2, np.float16)), TypeError, "data has dtype float16"),
        (lambda: Tensor(1j), TypeError, "data is of type complex, .* pass a NumPy array of np.float32"),
        (lambda: Tensor([[1.0], [1.0, 2.0]]), ValueError, "data is a list that cannot be .* equally long.$"),
        (lambda: Tensor("abc"), TypeError, "data is of type str, .* pass a NumPy array"),
        (lambda: Tensor({}), TypeError, "data is of type dict, .* pass a NumPy array"),
        (lambda: Tensor(x for x in [1.0]), TypeError, "data is of type generator, .* pass a NumPy array"),
        (lambda: Tensor(["1"]), TypeError, "data is a list of other things, .* pass a NumPy array"),
        (lambda: Tensor(2**100), TypeError, r"data holds integers, .* pass np\.asarray\(data, np\.float32\)"),
        (lambda: Tensor([1.0], requires_grad="yes"), TypeError, "requires_grad is 'yes', and True or False"),
        (lambda: Tensor(None), TypeError, "data is None"),
        (lambda: Tensor(True), TypeError, "data is of type bool"),
        (
            lambda: Tensor(Tensor(1.0, requires_grad=True)),
            ValueError,
            r"requires a gradient: pass data\.detach\(\)\.$",
        ),
        (
            lambda: X32 + X64,
            TypeError,
            r"in add, y = a \+ b: b is a tensor of float64 where the other .* float32",
        ),
        (lambda: X64 * X32, TypeError, r"in mul, y = a \* b: b is a tensor of float32"),
        (lambda: X32 + np.ones(2), TypeError, r"in add, .* b has dtype float64 .* b\.astype\(np\.float32\)"),
        (lambda: np.ones(2) + X32, TypeError, "in add, .* b is a tensor of float32 .* float64"),
        (lambda: X32 + np.arange(2), TypeError, r"b has dtype int64, .* b\.astype\(np\.float32\)"),
        (lambda: np.array([True, False]) * X32, TypeError, "in mul, .* a has dtype bool"),
        (lambda: X32 + "abc", TypeError, "in add, .* b is of type str"),
        (lambda: X32 * [1.0, "x"], TypeError, "in mul, .* b is a list that holds more than numbers"),
        (lambda: X32 * [[1.0], [1.0, 2.0]], ValueError, "in mul, .* b is a list .* equally long.$"),
        (lambda: X32 * [None, 1.0], TypeError, "in mul, .* b is a list that holds more than numbers"),
        (lambda: X32 * None, TypeError, r"in mul, y = a \* b: b is None, and a tensor, array or number"),
        (lambda: X32 * [1e39, 2], OverflowError, r"b is a list with an element that is 1e\+39, .* float32"),
        (lambda: X32 * [2**200, 2], OverflowError, "b is a list with an element that is .* float32"),
        (lambda: X64 * [10**400, 2], OverflowError, "b is a list with an element that is inf, .* float64"),
        (lambda: X64.sum(keepdims=2), TypeError, "keepdims is 2, and True or False is needed"),
        (lambda: X64.mean(keepdims=1), TypeError, "keepdims is 1, and True or False is needed"),
        (lambda: X64.max(keepdims="yes"), TypeError, "keepdims is 'yes', and True or False is needed"),
        (lambda: Tensor(1.0, True).backward(retain=1), TypeError, "retain is 1, and True or False is needed"),
        (lambda: X32 + 1j, TypeError, "b is of type complex"),
        (lambda: X32 * 1e39, OverflowError, r"in mul, .* b is 1e\+39, which is too large for float32"),
        (lambda: X64 * 10**400, OverflowError, "b is inf, which is too large for float64"),
        (
            lambda: apply("linear", X64.reshape(1, 2), X32.reshape(1, 2), None),
            TypeError,
            "in linear, .* w is a tensor",
        ),
        (
            lambda: X64.item(),
            ValueError,
            r"item\(\) needs a single element, and this tensor has shape \(2,\)",
        ),
        (lambda: float(X64), ValueError, "needs a single element"),
        (lambda: len(Tensor(1.0)), TypeError, r"len\(\) of a tensor without axes"),
        (lambda: iter(Tensor(1.0)), TypeError, "a tensor without axes is a single number"),
        (lambda: np.asarray(Tensor(1.0, requires_grad=True)), TypeError, r"write t\.numpy\(\) to say so"),
        (lambda: np.exp(X64), TypeError, "__array_ufunc__"),
    ],
)
def test_tensor_explains_what_it_cannot_do(compute: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compute()


def test_infinity_is_a_number_of_either_precision() -> None:
    assert (X32 * float("inf")).numpy().tolist() == [np.inf, np.inf]
    assert (X64 + 1e39).numpy().tolist() == [1e39, 1e39]


def test_deepcopy_of_a_leaf_shares_no_memory() -> None:
    leaf = Tensor([1.0, 2.0], requires_grad=True, name="x")
    (leaf * leaf).sum().backward()
    copied = copy.deepcopy(leaf)
    leaf.data[0] = leaf.grad[0] = 9
    assert (copied.name, copied.requires_grad) == ("x", True)
    assert (copied.data.tolist(), copied.grad.tolist()) == ([1.0, 2.0], [2.0, 4.0])


def test_deepcopy_refuses_a_computed_tensor_however_long_its_graph() -> None:
    y = Tensor([1.0], requires_grad=True)
    for _ in range(3000):
        y = y + 1
    with pytest.raises(ValueError, match=r"has no deep copy: .*t\.detach\(\)"):
        copy.deepcopy(y)


@pytest.mark.torch
def test_tensor_of_torch_that_numpy_cannot_hold_is_refused_with_the_fix(torch: Any) -> None:
    half = torch.ones(2, dtype=torch.bfloat16)
    with pytest.raises(TypeError, match=r"data has dtype bfloat16, .* pass data\.float\(\)\.$"):
        Tensor(half)
    with pytest.raises(TypeError, match=r"data has dtype float16, .* pass data\.float\(\)\.$"):
        Tensor(half.half())
    with pytest.raises(
        ValueError, match=r"data is a Tensor .* requires a gradient: pass data\.detach\(\)\.$"
    ):
        Tensor(torch.ones(2, requires_grad=True))
