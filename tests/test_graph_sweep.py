"""The backward sweep: what adds up, in which order, what it frees and what it keeps."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from backlit.graph import RULES, Tensor, gradients
from tolerance import assert_close

DEEP = 100_000


def leaf(value: Any) -> Tensor:
    return Tensor(value, requires_grad=True)


def test_backward_of_the_articles_figure_by_hand() -> None:
    x, y, z = leaf(-2.0), leaf(5.0), leaf(-4.0)
    ((x + y) * z).backward()
    assert [float(t.grad) for t in (x, y, z)] == [-4.0, -4.0, 3.0]


def test_backward_of_a_sigmoid_neuron_by_hand() -> None:
    w, x = leaf([2.0, -3.0, -3.0]), leaf([-1.0, -2.0, 1.0])
    y = 1 / (1 + (-(w * x).sum()).exp())
    y.backward()
    s = 1 / (1 + np.exp(-1.0))  # the sum of w * x is 1
    slope = s * (1 - s)
    assert_close(w.grad, slope * np.array([-1.0, -2.0, 1.0]), 4)
    assert_close(x.grad, slope * np.array([2.0, -3.0, -3.0]), 4)


def test_paths_that_meet_again_add_up_by_hand() -> None:
    x = leaf(3.0)
    a = x * x  # used twice, at different depths
    b = a + x
    (a * b).backward()  # x**4 + x**3
    assert float(x.grad) == 4 * 27 + 3 * 9


def test_one_tensor_as_both_operands_counts_twice() -> None:
    x = leaf(3.0)
    (x * x).backward()
    assert float(x.grad) == 6.0


def test_nodes_wait_for_all_that_comes_back_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    visits = []
    row = RULES["exp"]

    def spy(dy: Any, cache: Any) -> Any:
        visits.append(float(dy))
        return row.backward(dy, cache)

    monkeypatch.setitem(RULES, "exp", row._replace(backward=spy))
    x = leaf(0.0)
    early = x.exp()
    late = early
    for _ in range(5):
        late = late + early
    late.backward()
    assert visits == [6.0]


def test_diamonds_in_a_row_are_visited_once_each() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(60):  # 2**60 paths
        y = y + y
    y.backward()
    assert float(x.grad) == 2.0**60


def test_backward_adds_to_the_gradient_that_is_there() -> None:
    x = leaf([1.0, 2.0])
    for expected in ([2.0, 2.0], [4.0, 4.0]):
        (x * 2).sum().backward()
        np.testing.assert_array_equal(x.grad, expected)
    x.zero_grad()
    assert x.grad is None


def test_gradient_is_a_new_array_after_each_backward() -> None:
    x = leaf([1.0, 2.0])
    (x * 2).sum().backward()
    first = x.grad
    (x * 2).sum().backward()
    np.testing.assert_array_equal(first, [2.0, 2.0])


@pytest.mark.parametrize("retain", [False, True])
def test_gradients_share_memory_with_nothing(retain: bool) -> None:
    x, y, z = leaf(np.ones((2, 3))), leaf(np.ones((2, 3))), leaf(np.ones((3, 2)))
    upstream = np.arange(6.0).reshape(2, 3)
    middle = x + y
    out = (middle - 0.0) + z.T.reshape(2, 3) + 0.0
    out.backward(upstream, retain=retain)
    kept = [t.grad for t in (x, y, z, *([middle, out] if retain else []))]
    for i, gradient in enumerate(kept):
        assert gradient is not None
        assert gradient.flags.writeable
        assert gradient.flags.c_contiguous
        assert not any(np.shares_memory(gradient, other) for other in (upstream, *kept[:i]))
    np.testing.assert_array_equal(x.grad, upstream)


def test_leaf_is_its_own_root() -> None:
    x = leaf([1.0, 2.0])
    upstream = np.array([3.0, 4.0])
    x.backward(upstream)
    np.testing.assert_array_equal(x.grad, upstream)
    assert not np.shares_memory(x.grad, upstream)


def test_gradients_of_broadcast_sums_are_full_arrays() -> None:
    x = leaf(np.ones((2, 3)))
    x.mean().backward()
    assert x.grad is not None
    x.grad[0, 0] = 7.0
    np.testing.assert_array_equal(x.grad, [[7.0, 1 / 6, 1 / 6], [1 / 6] * 3])


def test_intermediate_tensors_and_constants_get_no_gradient() -> None:
    x, constant = leaf([1.0, 2.0]), Tensor([3.0, 4.0])
    middle = x * constant
    middle.sum().backward()
    assert middle.grad is None
    assert constant.grad is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_has_the_tensors_dtype(dtype: str) -> None:
    x = leaf(np.ones((2, 3), dtype))
    ((x * 2.5 + 1) ** 2 / 3).mean().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype


def test_upstream_gradient_weights_the_outputs() -> None:
    x = leaf([1.0, 2.0])
    for upstream in (np.array([1.0, 10.0]), [1.0, 10.0], Tensor([1.0, 10.0])):
        x.zero_grad()
        (x * x).backward(upstream)
        np.testing.assert_array_equal(x.grad, [2.0, 40.0])


def test_upstream_gradient_of_a_scalar_may_be_a_number() -> None:
    x = leaf(np.float32(3).reshape(()))
    (x * x).backward(0.5)
    assert float(x.grad) == 3.0


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_element_needs_no_upstream_gradient(shape: tuple[int, ...]) -> None:
    x = leaf(np.full(shape, 3.0))
    (x * x).backward()
    np.testing.assert_array_equal(x.grad, np.full(shape, 6.0))


# --- depth


def test_chain_of_100000_operations_goes_backwards() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(DEEP):
        y = y + 1.0
    y.backward()
    assert float(x.grad) == 1.0


@pytest.mark.parametrize("retain", [False, True])
def test_chain_of_100000_operations_is_collected_without_recursion(retain: bool) -> None:
    y = leaf(1.0)
    for _ in range(DEEP):
        y = y + 1.0
    if retain:
        y.backward(retain=True)
    first = weakref.ref(y)
    del y
    gc.collect()
    assert first() is None


# --- what is freed


def test_sweep_frees_values_and_caches_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    row = RULES["exp"]
    alive: list[int] = []
    arrays: list[Any] = []

    def spy(dy: Any, cache: Any) -> Any:
        alive.append(sum(reference() is not None for reference in arrays))
        return row.backward(dy, cache)

    monkeypatch.setitem(RULES, "exp", row._replace(backward=spy))
    y = leaf(np.zeros(3))
    for _ in range(5):
        y = (y * 0.5).exp()
        arrays.append(weakref.ref(y.data))
    loss = y.sum()
    del y
    loss.backward()
    assert alive == [5, 4, 3, 2, 1]  # each visit finds its own value and the earlier ones
    assert not any(reference() for reference in arrays)


def test_intermediate_tensors_die_while_the_loss_lives() -> None:
    x = leaf([1.0, 2.0])
    middle = x * 2
    reference = weakref.ref(middle)
    loss = middle.sum()
    del middle
    assert reference() is not None
    loss.backward()
    assert reference() is None


def test_graph_that_is_never_swept_dies_with_its_root() -> None:
    middle = leaf([1.0, 2.0]) * 2
    reference = weakref.ref(middle)
    loss = middle.sum()
    del middle, loss
    assert reference() is None


def test_node_lets_go_of_everything_when_it_is_freed() -> None:
    y = leaf([1.0, 2.0])[np.array([0, 0])]
    y.sum().backward()
    assert y.node is not None
    assert y.node.freed
    assert y.node.inputs == ()
    assert y.node.cache is None
    assert y.node.attributes == {}


def test_second_backward_says_to_retain_and_changes_no_gradient() -> None:
    x = leaf([1.0, 2.0])
    loss = (x * x).sum()
    loss.backward()
    before = x.grad
    with pytest.raises(ValueError, match=r"freed by an earlier backward: call loss\.backward\(retain=True\)"):
        loss.backward()
    assert x.grad is before


def test_backward_through_a_part_that_was_freed_says_so_and_changes_no_gradient() -> None:
    x, w = leaf([1.0, 2.0]), leaf([1.0, 1.0])
    shared = x * x
    shared.sum().backward()
    before = x.grad
    with pytest.raises(ValueError, match="this result of mul was freed"):
        (w * shared).sum().backward()
    assert x.grad is before
    assert w.grad is None


# --- what is retained


def test_retain_keeps_values_caches_and_gradients_of_every_intermediate_tensor() -> None:
    x = leaf(3.0)
    a = x * x
    b = a.exp()
    loss = b * 2
    loss.backward(retain=True)
    assert [float(t.grad) for t in (loss, b)] == [1.0, 2.0]
    assert_close(a.grad, 2 * np.exp(9.0), 2)
    assert a.node is not None
    assert a.node.inputs[0] is x
    assert float(a.node.local_gradient(0)) == 3.0


def test_retain_lets_the_backward_be_repeated() -> None:
    x = leaf([1.0, 2.0])
    middle = x * x
    loss = middle.sum()
    loss.backward(retain=True)
    loss.backward(retain=True)
    np.testing.assert_array_equal(x.grad, [4.0, 8.0])
    np.testing.assert_array_equal(middle.grad, [2.0, 2.0])
    loss.backward()
    np.testing.assert_array_equal(x.grad, [6.0, 12.0])
    np.testing.assert_array_equal(middle.grad, [2.0, 2.0])


def test_retain_lets_two_losses_share_a_trunk() -> None:
    x = leaf([1.0, 2.0])
    trunk = x * x
    trunk.sum().backward(retain=True)
    (trunk * 10).sum().backward()
    np.testing.assert_array_equal(x.grad, [22.0, 44.0])


def test_gradients_gives_all_of_them_and_touches_nothing() -> None:
    x, constant = leaf([1.0, 2.0]), Tensor([5.0, 5.0])
    a = x * constant
    loss = a.sum()
    found = gradients(loss, 2.0)
    assert set(found) == {x, a, loss}
    np.testing.assert_array_equal(found[x], [10.0, 10.0])
    np.testing.assert_array_equal(found[a], [2.0, 2.0])
    assert x.grad is a.grad is loss.grad is None
    loss.backward()
    np.testing.assert_array_equal(x.grad, [5.0, 5.0])


# --- errors


@pytest.mark.parametrize(
    ("compute", "error", "message"),
    [
        (
            lambda: leaf([1.0, 2.0]).backward(),
            ValueError,
            r"shape \(2,\) needs gradient, .* with sum\(\) or mean\(\)",
        ),
        (
            lambda: Tensor(1.0).backward(),
            ValueError,
            r"nothing that requires a gradient: .* requires_grad=True",
        ),
        (lambda: (Tensor(1.0) * 2).backward(), ValueError, "compute outside of no_grad"),
        (lambda: leaf([1.0, 2.0]).backward(np.ones(3)), ValueError, r"gradient has shape \(3,\), .* \(2,\)"),
        (lambda: leaf([1.0, 2.0]).backward(1.0), ValueError, r"gradient has shape \(\), .* \(2,\)"),
        (lambda: leaf([1.0]).backward(np.ones(1, np.float32)), TypeError, "gradient has dtype float32"),
        (lambda: leaf([1.0]).backward(np.ones(1, int)), TypeError, "gradient has dtype int64"),
        (lambda: leaf(np.ones((), np.float32)).backward(1e40), OverflowError, r"gradient is 1e\+40"),
        (lambda: gradients(leaf([1.0, 2.0])), ValueError, "needs gradient"),
    ],
)
def test_backward_explains_what_it_cannot_do(compute: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compute()
