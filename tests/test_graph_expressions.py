"""Whole expressions, random ones and written ones, against finite differences of NumPy's values and against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlit.graph import Tensor, apply
from differences import gradient_by_differences
from tolerance import assert_close

SHAPES = [(), (1,), (3,), (2, 1), (1, 3), (2, 3), (4, 1, 3)]
STEP = float(np.finfo(float).eps ** (1 / 3))

# Functions over anything with the operators and methods that arrays, our tensors and PyTorch's have in common. Each
# is smooth and keeps its values within a few units, so that finite differences stay sharp at any depth.
UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": lambda x: -x,
    "square": lambda x: x**2 / 4,
    "cube": lambda x: x**3 / 16,
    "shrink": lambda x: x / (1 + x * x),
    "reflect": lambda x: 2 - x,
    "sum": lambda x: x.sum() / 8,
    "mean": lambda x: x.mean(),
    "sum_last": lambda x: x.sum(axis=-1) / 4 if x.ndim else x,
    "mean_first": lambda x: x.mean(axis=0, keepdims=True) if x.ndim else x,
    "flat": lambda x: x.reshape(-1),
    "column": lambda x: x.reshape(-1, 1),
    "turn": lambda x: x.T if x.ndim == 2 else x,
    "first": lambda x: x[0] if x.ndim else x,
    "last": lambda x: x[..., -1] if x.ndim else x,
    "rows": lambda x: x[[0, -1, 0]] if x.ndim else x,
    "every_other": lambda x: x[..., 0::2] if x.ndim else x,
    "new_axis": lambda x: x[None] if x.ndim < 3 else x,
    "gram": lambda x: x.reshape(1, -1) @ x.reshape(-1, 1) / 16,
    "outer": lambda x: x.reshape(-1)[:3][:, None] @ x.reshape(-1)[:2][None] / 4,
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: (a + b) / 2,
    "sub": lambda a, b: (a - b) / 2,
    "mul": lambda a, b: a * b / 2,
    "div": lambda a, b: a / (2 + b * b),
    "pow": lambda a, b: (1 + a * a) ** (b / (4 + b * b)) / 2,
}


@st.composite
def programs(draw: st.DrawFn) -> tuple[list[tuple[int, ...]], list[tuple[str, int, int]], int]:
    """Shapes of leaves, a list of (function, operand, operand) that refer to earlier results, a seed."""
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3))
    steps = []
    for i in range(draw(st.integers(1, 10))):
        operand = st.integers(0, len(shapes) + i - 1)
        steps.append((draw(st.sampled_from([*UNARY, *BINARY])), draw(operand), draw(operand)))
    return shapes, steps, draw(st.integers(0, 2**32 - 1))


def run(steps: list[tuple[str, int, int]], leaves: list[Any]) -> Any:
    """The mean of all results of the program, whatever the leaves are; what does not broadcast is left out."""
    results = list(leaves)
    for name, a, b in steps:
        if name in UNARY:
            results.append(UNARY[name](results[a]))
        elif broadcasts(results[a].shape, results[b].shape):
            results.append(BINARY[name](results[a], results[b]))
        else:
            results.append(results[a])
    total = results[-1].mean()
    for result in results[:-1]:
        total = total + result.mean() / 3
    return total


def broadcasts(a: Any, b: Any) -> bool:
    try:
        return int(np.prod(np.broadcast_shapes(tuple(a), tuple(b)))) <= 200
    except ValueError:
        return False


def leaves_of(shapes: list[tuple[int, ...]], seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.uniform(-2, 2, shape)) for shape in shapes]


@given(programs())
def test_random_expression_has_numpys_value_and_the_gradient_of_finite_differences(program: Any) -> None:
    shapes, steps, seed = program
    arrays = leaves_of(shapes, seed)
    tensors = [Tensor(array, requires_grad=True) for array in arrays]
    loss = run(steps, tensors)
    assert_close(loss.numpy(), run(steps, arrays), terms=100, scale=10)
    loss.backward()
    for i, (array, tensor) in enumerate(zip(arrays, tensors, strict=True)):

        def of_one(moved: Any, i: int = i) -> Any:
            return run(steps, [*arrays[:i], moved, *arrays[i + 1 :]])

        expected = gradient_by_differences(of_one, array, 1.0, step=STEP)
        assert_close(tensor.grad, expected, terms=400, scale=10, differenced=True)


@pytest.mark.torch
@given(programs())
def test_random_expression_has_pytorchs_gradient(program: Any) -> None:
    import torch

    shapes, steps, seed = program
    arrays = leaves_of(shapes, seed)
    ours = [Tensor(array, requires_grad=True) for array in arrays]
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
    run(steps, ours).backward()
    run(steps, theirs).backward()
    for mine, yours in zip(ours, theirs, strict=True):
        assert_close(mine.grad, yours.grad.numpy(), terms=1000, scale=10)


A, B, M = (2, 3), (3,), (3, 4)
STACK = (5, 2, 3)
EXPRESSIONS: dict[str, tuple[tuple[tuple[int, ...], ...], Callable[..., Any]]] = {
    "add": ((A, B), lambda a, b: a + b),
    "sub": ((A, B), lambda a, b: a - b),
    "mul": ((A, B), lambda a, b: a * b),
    "div": ((A, B), lambda a, b: a / (b * b + 1)),
    "pow": ((A, B), lambda a, b: (a * a + 0.5) ** b),
    "pow_number": ((A,), lambda a: a**3 + a**2 + a**1 + a**0),
    "root": ((A,), lambda a: (a * a + 1) ** 0.5),
    "number_pow": ((A,), lambda a: 2.0**a),
    "numbers_on_the_left": ((A,), lambda a: (1 + a) * 2 - (3 - a) / 4 + 5 / (a * a + 1)),
    "neg": ((A,), lambda a: -a * a),
    "exp": ((A,), lambda a: a.exp()),
    "log": ((A,), lambda a: (a * a + 0.1).log()),
    "matmul": ((A, M), lambda a, m: a @ m),
    "matmul_vectors": ((B, B), lambda a, b: a @ b),
    "matmul_row": ((B, M), lambda b, m: b @ m),
    "matmul_column": ((A, B), lambda a, b: a @ b),
    "matmul_stacks": ((STACK, (5, 3, 4)), lambda a, b: a @ b),
    "matmul_one_for_a_stack": ((STACK, M), lambda a, m: a @ m),
    "matmul_stack_for_one": ((A, (5, 3, 4)), lambda a, m: a @ m),
    "matmul_broadcast_stacks": (((5, 1, 2, 3), (4, 3, 2)), lambda a, b: a @ b),
    "transpose": ((STACK, B), lambda a, b: a.reshape(10, 3).T * b[:, None]),
    "reshape": ((STACK,), lambda a: a.reshape(3, -1) * a.reshape(3, 10)),
    "sum_axes": ((STACK,), lambda a: a * a.sum(axis=(0, 2), keepdims=True)),
    "mean_axis": ((STACK,), lambda a: (a - a.mean(axis=1, keepdims=True)) ** 2),
    "softmax": ((A,), lambda a: a.exp() / a.exp().sum(axis=-1, keepdims=True)),
    "norm": ((A,), lambda a: a / ((a * a).sum(axis=0, keepdims=True) + 1e-3) ** 0.5),
    "variance": ((STACK,), lambda a: ((a - a.mean()) ** 2).mean(axis=0)),
    "index_integer": ((STACK,), lambda a: a[1] * a[-1]),
    "index_slice": ((STACK,), lambda a: a[1:4, :, 0::2] * a[0:3, :, 1:]),
    "index_ellipsis": ((STACK,), lambda a: a[..., 0] + a[0, ..., 1]),
    "index_new_axis": ((B, B), lambda a, b: a[:, None] * b[None, :]),
    "index_repeats": ((STACK,), lambda a: a[[0, 0, 4, 0]] * a[[1, 0, 0, 0]]),
    "index_pairs": ((STACK,), lambda a: a[[0, 0, 1], [1, 1, 0]]),
    "index_table": ((STACK,), lambda a: a[np.array([[0, 1], [1, 0]])]),
    "index_apart": ((STACK,), lambda a: a[[0, 0, 1], :, [2, 2, 0]]),
    "index_mask": ((STACK,), lambda a: a[np.arange(30).reshape(STACK) % 4 == 0]),
    "index_mask_of_rows": ((STACK,), lambda a: a[np.array([True, False, True, True, False])]),
    "embedding": (((7, 3),), lambda a: a[np.arange(20).reshape(4, 5) % 3].sum(axis=1)),
    "recurrence": ((A, (3, 3)), lambda a, w: (((a @ w) ** 2 @ w) ** 2 @ w + a) @ w),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", EXPRESSIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_expression_has_pytorchs_value_and_gradients(name: str, dtype: str, rng: Any, torch: Any) -> None:
    shapes, compute = EXPRESSIONS[name]
    arrays = [rng.uniform(-1, 1, shape).astype(dtype) for shape in shapes]
    ours = [Tensor(array, requires_grad=True) for array in arrays]
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
    mine, yours = compute(*ours), compute(*theirs)
    assert mine.dtype == dtype
    assert_close(mine.numpy(), yours.detach().numpy(), terms=200)
    upstream = rng.uniform(-1, 1, mine.shape).astype(dtype)
    mine.backward(upstream)
    yours.backward(torch.tensor(upstream))
    for tensor, reference in zip(ours, theirs, strict=True):
        assert_close(tensor.grad, reference.grad.numpy(), terms=400)


@pytest.mark.torch
@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2)])
def test_max_without_ties_has_pytorchs_gradient(axis: Any, rng: Any, torch: Any) -> None:
    array = rng.standard_normal(STACK)
    ours, theirs = Tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
    (ours.max(axis=axis, keepdims=True) * ours).sum().backward()
    (theirs.amax(dim=(0, 1, 2) if axis is None else axis, keepdim=True) * theirs).sum().backward()
    assert_close(ours.grad, theirs.grad.numpy(), terms=30)


@pytest.mark.torch
def test_two_backwards_accumulate_as_pytorchs_do(rng: Any, torch: Any) -> None:
    array = rng.standard_normal(A)
    ours, theirs = Tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
    for x, keep in ((ours, {"retain": True}), (theirs, {"retain_graph": True})):
        middle = x * x
        if x is theirs:
            middle.retain_grad()
        loss = (middle * x).sum()
        loss.backward(**keep)
        loss.backward(**keep)
        kept = middle.grad
        if x is ours:
            mine = kept
    assert_close(ours.grad, theirs.grad.numpy(), terms=10)
    assert_close(mine, kept.numpy(), terms=10)


@pytest.mark.torch
def test_small_network_of_pairs_has_pytorchs_gradients(rng: Any, torch: Any) -> None:
    x, labels = rng.standard_normal((4, 1, 8, 8)), np.array([0, 2, 1, 2])
    parameters = [rng.standard_normal(shape) / 4 for shape in ((3, 1, 3, 3), (3,), (3,), (3,), (3, 27), (3,))]
    ours = [Tensor(p, requires_grad=True) for p in parameters]
    theirs = [torch.tensor(p, requires_grad=True) for p in parameters]

    w, b, gamma, beta, w2, b2 = ours
    h = apply("conv", Tensor(x), w, b)
    h = apply("relu", apply("batch_norm", h, gamma, beta))
    h = apply("flatten", apply("max_pool", h, kernel_size=2))
    logits = apply("linear", h, w2, b2)
    loss = apply("cross_entropy", logits, labels=labels)
    loss.backward()

    f = torch.nn.functional
    w, b, gamma, beta, w2, b2 = theirs
    h = f.batch_norm(f.conv2d(torch.tensor(x), w, b), None, None, gamma, beta, training=True)
    h = f.max_pool2d(f.relu(h), 2).flatten(1)
    expected = f.cross_entropy(f.linear(h, w2, b2), torch.tensor(labels))
    expected.backward()

    assert_close(loss.numpy(), expected.detach().numpy(), terms=1000)
    for i, (mine, yours) in enumerate(zip(ours, theirs, strict=True)):
        scale = 1.0 if i == 1 else None  # a bias before batch normalisation: everything cancels
        assert_close(mine.grad, yours.grad.numpy(), terms=1000, scale=scale)
