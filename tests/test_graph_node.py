"""What a node says of itself: its rule, and any element of its local gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backlit.graph import RULES, LocalGradient, Node, Tensor, apply
from tolerance import assert_close

A = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]])


def leaf(value: Any, **keywords: Any) -> Tensor:
    return Tensor(value, requires_grad=True, **keywords)


def node_of(tensor: Tensor) -> Node:
    assert tensor.node is not None
    return tensor.node


def dense(local: LocalGradient) -> Any:
    """Every element, asked for one by one."""
    result = np.empty(local.shape)
    for index in np.ndindex(local.shape):
        result[index] = local[index]
    return result


def test_describe_prints_the_rule_with_shapes() -> None:
    x, w, b = Tensor(np.ones((4, 3))), leaf(np.ones((5, 3))), leaf(np.ones(5))
    assert node_of(apply("linear", x, w, b)).describe().splitlines() == [
        "linear: y = x @ w.T + b",
        "  y (4, 5)",
        "  x (4, 3)  dx = dy @ w            local gradient (4, 5, 4, 3): ∂y[n, k]/∂x[n, i] = w[k, i]",
        "  w (5, 3)  dw = dy.T @ x          local gradient (4, 5, 5, 3): ∂y[n, k]/∂w[k, i] = x[n, i]",
        "  b (5,)    db = sum of dy over n  local gradient (4, 5, 5): ∂y[n, k]/∂b[k] = 1",
    ]


def test_describe_leaves_out_the_input_that_was_left_out() -> None:
    text = node_of(apply("linear", Tensor(np.ones((4, 3))), leaf(np.ones((5, 3))), None)).describe()
    assert text.startswith("linear: y = x @ w.T\n")
    assert "db" not in text


def test_describe_shows_attributes_that_are_no_defaults() -> None:
    y = apply(
        "conv", leaf(np.ones((1, 1, 5, 5))), leaf(np.ones((1, 1, 3, 3))), None, stride=(2, 2), padding=(0, 0)
    )
    assert "with stride=(2, 2)\n" in node_of(y).describe()
    assert "padding=" not in node_of(y).describe()
    assert (
        "with index=(0, 1:, ..., None, array (2,))\n"
        in node_of(leaf(np.ones((2, 3, 4)))[0, 1:, ..., None, np.array([0, 1])]).describe()
    )
    assert "with axis=0\n" in node_of(leaf(A).sum(axis=0)).describe()


def test_describe_says_where_a_gradient_is_summed() -> None:
    text = node_of(leaf(A) * leaf([1.0, 2.0, 3.0])).describe()
    assert "da = dy * b  " in text
    assert "db = dy * a, summed where b was repeated  local gradient (2, 3, 3)" in text


def test_describe_still_says_the_rule_when_freed() -> None:
    y = leaf(A).exp()
    y.sum().backward()
    assert node_of(y).describe().splitlines()[0] == "exp: y = exp(x)"
    assert "freed by a backward without retain=True" in node_of(y).describe()
    assert "freed" in repr(node_of(y))


@pytest.mark.parametrize("rule", ["add", "sub", "mul", "div", "pow"])
def test_local_gradient_of_scalars_by_hand(rule: str) -> None:
    a, b = 3.0, -2.0
    expected = {
        "add": (1, 1),
        "sub": (1, -1),
        "mul": (b, a),
        "div": (1 / b, -a / b**2),
        "pow": (b * a ** (b - 1), a**b * np.log(a)),
    }[rule]
    node = node_of(apply(rule, leaf(a), leaf(b)))
    for i in range(2):
        local = node.local_gradient(i)
        assert local.shape == ()
        assert_close([float(local), local[()]], [expected[i]] * 2, 4)


def test_local_gradient_of_a_matrix_product_by_hand() -> None:
    b = np.arange(12.0).reshape(3, 4)
    local = node_of(leaf(A) @ leaf(b)).local_gradient(0)
    assert local.shape == (2, 4, 2, 3)
    assert local[1, 3, 1, 2] == b[2, 3]
    assert local[1, 3, 0, 2] == 0.0
    assert local[-1, -1, -1, -1] == b[-1, -1]
    np.testing.assert_array_equal(dense(local), np.einsum("ij,kn->injk", np.eye(2), b))


def test_local_gradient_of_a_convolution_by_hand() -> None:
    x, w = leaf(np.arange(9.0).reshape(1, 1, 3, 3)), leaf(np.array([[[[1.0, 2.0], [3.0, 4.0]]]]))
    node = node_of(apply("conv", x, w, None))
    dx, dw = node.local_gradient(0), node.local_gradient(1)
    assert dx.shape == (1, 1, 2, 2, 1, 1, 3, 3)
    assert dx[0, 0, 1, 0, 0, 0, 1, 1] == 2.0  # output (1, 0) reads input (1, 1) through weight (0, 1)
    assert dx[0, 0, 1, 0, 0, 0, 0, 1] == 0.0
    assert dw[0, 0, 1, 0, 0, 0, 0, 1] == 4.0  # x[1, 1]


@pytest.mark.parametrize(
    ("rule", "inputs", "attributes"),
    [
        ("add", (A, A[0]), {}),
        ("mul", (A, A[:, :1]), {}),
        ("exp", (A,), {}),
        ("getitem", (A,), {"index": ([0, 0, 1], [2, 2, 0])}),
        ("transpose", (A,), {}),
        ("sum", (A,), {"axis": 1}),
        ("mean", (A,), {}),
        ("max", (A,), {"axis": 0}),
        ("softmax", (A,), {}),
        ("batch_norm", (A.T, A[:, 0], A[:, 1]), {}),
        ("cross_entropy", (A,), {"labels": np.array([2, 0])}),
        ("mse", (A, A * 0.3), {}),
    ],
)
def test_local_gradient_is_the_jacobian_of_finite_differences(
    rule: str, inputs: tuple[Any, ...], attributes: dict[str, Any]
) -> None:
    out = apply(rule, *[leaf(value) for value in inputs], **attributes)
    step = np.finfo(float).eps ** (1 / 3)
    for i, value in enumerate(inputs):
        expected = np.empty(out.shape + value.shape)
        for at in np.ndindex(value.shape):
            sides = []
            for sign in (step, -step):
                moved = value.copy()
                moved[at] += sign
                sides.append(RULES[rule].forward(*inputs[:i], moved, *inputs[i + 1 :], **attributes)[0])
            expected[(..., *at)] = (sides[0] - sides[1]) / (2 * step)
        local = node_of(out).local_gradient(i)
        assert local.shape == expected.shape
        assert_close(dense(local), expected, terms=10, scale=100, differenced=True)


def test_local_gradient_exists_for_an_input_that_needs_no_gradient() -> None:
    node = node_of(leaf(3.0) * Tensor(5.0))
    assert float(node.local_gradient(1)) == 3.0
    assert float(node.local_gradient(-1)) == 3.0


def test_local_gradient_says_its_formula() -> None:
    local = node_of(leaf(A) @ leaf(A.T)).local_gradient(0)
    assert local.text == "∂y[i, j]/∂a[i, k] = b[k, j]"
    assert repr(local) == "<local gradient (2, 2, 2, 3): ∂y[i, j]/∂a[i, k] = b[k, j]>"


def test_local_gradient_outlives_its_graph() -> None:
    loss = leaf(3.0) * 5.0
    local = node_of(loss).local_gradient(0)
    loss.backward()
    assert float(local) == 5.0


def test_local_gradient_asks_the_rule_once_for_all_inputs_of_one_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row, calls = RULES["exp"], []

    def spy(dy: Any, cache: Any) -> Any:
        calls.append(np.argmax(dy))
        return row.backward(dy, cache)

    monkeypatch.setitem(RULES, "exp", row._replace(backward=spy))
    local = node_of(leaf(A).exp()).local_gradient(0)
    assert local[1, 1, 0, 0] == 0.0
    assert local[1, 1, 1, 1] == np.exp(4.0)
    assert calls == [4]
    assert local[0, 0, 0, 0] == np.exp(1.0)
    assert calls == [4, 0]


def freed() -> Node:
    y = leaf(A) * 2
    y.sum().backward()
    return node_of(y)


LOCAL = node_of(leaf(A).sum(axis=0)).local_gradient(0)


@pytest.mark.parametrize(
    ("compute", "error", "message"),
    [
        (lambda: freed().local_gradient(0), ValueError, r"result of mul was freed .*\(retain=True\)"),
        (lambda: node_of(leaf(A) * 2).local_gradient(2), IndexError, "i is 2, and mul has 2 inputs: a, b"),
        (
            lambda: node_of(apply("linear", leaf(A), leaf(A), None)).local_gradient(2),
            ValueError,
            "input b of this linear was left out",
        ),
        (
            lambda: LOCAL[0, 0],
            IndexError,
            r"has 2 positions, and a local gradient of shape \(3, 2, 3\) needs 3",
        ),
        (lambda: LOCAL[3, 0, 0], IndexError, "index 3 is out of range for axis 0"),
        (lambda: LOCAL[0, -3, 0], IndexError, "index -3 is out of range for axis 1"),
        (lambda: LOCAL[0, :, 0], TypeError, "single elements only"),
        (lambda: LOCAL[0.0, 0, 0], TypeError, "made of integers"),
        (
            lambda: float(LOCAL),
            ValueError,
            "has 18 elements, and float.. needs one: index it with 3 integers",
        ),
        (lambda: list(LOCAL), TypeError, "single elements only"),
    ],
)
def test_node_explains_what_it_cannot_do(compute: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compute()
