"""The table of rules: every row against finite differences, over shapes that broadcast and attributes that matter."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature
from typing import Any

import numpy as np
import pytest

from backlit import ops
from backlit.graph import RULES, Tensor, apply, arithmetic, indexing, reductions
from backlit.graph.rule import rename
from differences import gradient_by_differences
from tolerance import assert_close

PAIRS_THAT_BROADCAST = [
    ((), ()),
    ((3,), ()),
    ((), (3,)),
    ((3,), (3,)),
    ((1,), (3,)),
    ((2, 3), (3,)),
    ((3,), (2, 3)),
    ((2, 1), (1, 3)),
    ((2, 3), (2, 1)),
    ((1, 1), ()),
    ((4, 1, 3), (2, 1)),
    ((2, 1, 1), (4, 2, 3, 1)),
    ((0, 3), (3,)),
    ((0, 1), (1, 3)),
]
MATRICES = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((6, 5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((1, 2, 3), (5, 3, 4)),
    ((6, 1, 2, 3), (5, 3, 4)),
    ((5, 2, 3), (3,)),
    ((3,), (5, 3, 4)),
    ((0, 3), (3, 4)),
]
INDICES = [
    0,
    -1,
    slice(1, None),
    slice(None, None, -2),
    ...,
    None,
    (0, 1),
    (slice(None), 1),
    (..., 0),
    (None, 1, ..., slice(0, 2)),
    (slice(3, 3),),
    np.array([0, 2, 2, 0, 2]),
    [0, 0],
    [],
    np.array([[0, 1], [1, 0]]),
    np.array([-1, 2]),
    (np.array([0, 1, 0]), np.array([1, 1, 1])),
    (slice(None), np.array([1, 1, 0])),
    (np.array([0, 0]), slice(None), np.array([1, 1])),
    (np.array([[0], [0]]), np.array([0, 1]), None, 1),
    (np.array([1, 1]), ..., 0),
    np.array([True, False, True]),
    (slice(None), np.array([True, False])),
    (np.array([True, False, True]), np.array([1, 1])),
    (np.arange(24).reshape(3, 2, 4) % 5 == 0,),
    np.int64(1),
    True,
    np.bool_(False),
]
REDUCTIONS = [
    ((), None, False),
    ((3,), None, False),
    ((3,), 0, True),
    ((2, 3, 4), None, True),
    ((2, 3, 4), 1, False),
    ((2, 3, 4), -1, True),
    ((2, 3, 4), (0, 2), False),
    ((2, 3, 4), (2, 0), True),
    ((2, 3, 4), (), False),
    ((2, 3, 4), (0, 1, 2), False),
    ((0, 3), 1, False),
    ((1, 1), 0, False),
]


def cases() -> Iterator[Any]:
    """Rule, shapes of the inputs (None for one left out), attributes."""
    rows: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    rows += [
        (rule, shapes, {}) for rule in ("add", "sub", "mul", "div", "pow") for shapes in PAIRS_THAT_BROADCAST
    ]
    rows += [("matmul", shapes, {}) for shapes in MATRICES]
    rows += [
        (rule, (shape,), {}) for rule in ("neg", "exp", "log") for shape in ((), (3,), (2, 0), (2, 3, 4))
    ]
    rows += [("getitem", ((3, 2, 4),), {"index": index}) for index in INDICES]
    rows += [("getitem", ((),), {"index": index}) for index in ((), ..., None)]
    rows += [("reshape", ((2, 3, 4),), {"shape": shape}) for shape in ((6, 4), (-1,), (4, 1, 6), (2, 3, 4))]
    rows += [("reshape", ((),), {"shape": (1, 1)}), ("reshape", ((1,),), {"shape": ()})]
    rows += [("transpose", ((2, 3, 4),), {"axes": axes}) for axes in (None, (0, 1, 2), (1, 2, 0), (-1, 0, 1))]
    rows += [("transpose", ((),), {}), ("transpose", ((3,),), {})]
    for rule in ("sum", "mean", "max"):
        rows += [(rule, (shape,), {"axis": axis, "keepdims": keep}) for shape, axis, keep in REDUCTIONS]
    rows += [
        ("conv", ((2, 4, 5, 5), (6, 2, 3, 3), (6,)), {"stride": 2, "padding": 1, "groups": 2}),
        ("conv", ((2, 2, 6), (3, 2, 3), None), {"dilation": 2}),
        ("conv_transpose", ((2, 4, 3, 3), (4, 3, 3, 3), (3,)), {"stride": 2, "output_padding": 1}),
        ("conv_transpose", ((1, 4, 3), (4, 1, 3), None), {"groups": 2}),
        ("max_pool", ((2, 2, 5, 5),), {"kernel_size": 3, "stride": 2, "padding": 1}),
        ("avg_pool", ((2, 2, 5, 5),), {"kernel_size": 3, "stride": 2, "padding": 1}),
        ("adaptive_avg_pool", ((2, 2, 5, 4),), {"output_size": (2, 3)}),
        ("global_avg_pool", ((2, 3, 4, 5),), {}),
        ("linear", ((4, 3), (5, 3), (5,)), {}),
        ("linear", ((2, 4, 3), (5, 3), None), {}),
        ("relu", ((3, 4),), {}),
        ("sigmoid", ((3, 4),), {}),
        ("tanh", ((3, 4),), {}),
        ("softmax", ((3, 4),), {"axis": 0}),
        ("log_softmax", ((3, 4),), {}),
        ("batch_norm", ((6, 3), (3,), (3,)), {}),
        ("batch_norm", ((2, 3, 2, 2), None, None), {}),
        (
            "batch_norm",
            ((6, 3), (3,), (3,)),
            {"running_mean": np.zeros(3), "running_var": np.full(3, 2.0), "training": False},
        ),
        ("dropout", ((3, 4),), {"p": 0.5, "rng": 5}),
        ("flatten", ((2, 3, 4),), {}),
        ("cross_entropy", ((4, 3),), {"labels": np.array([0, 2, 1, 2])}),
        ("cross_entropy", ((4, 3),), {"labels": np.array([0, 2, 1, 2]), "reduction": "none"}),
        ("mse", ((4, 3), (4, 3)), {}),
    ]
    for rule, shapes, attributes in rows:
        text = ",".join(f"{key}={value}" for key, value in attributes.items())
        yield pytest.param(rule, shapes, attributes, id=f"{rule}-{shapes}-{text}".replace("\n", ""))


CASES = list(cases())
each_case = pytest.mark.parametrize(("rule", "shapes", "attributes"), CASES)


def arrays(rule: str, shapes: tuple[Any, ...], rng: np.random.Generator) -> list[Any]:
    """Inputs at which the rule is smooth, None where one is left out."""
    low = 0.5 if rule in ("log", "div", "pow") else -2.0
    return [None if shape is None else np.asarray(rng.uniform(low, 2.0, shape)) for shape in shapes]


def forward(rule: str, inputs: list[Any], attributes: dict[str, Any]) -> tuple[Any, Any]:
    keywords = dict(attributes)
    if "rng" in keywords:
        keywords["rng"] = np.random.default_rng(keywords["rng"])
    return RULES[rule].forward(*inputs, **keywords)


def test_cases_reach_every_rule() -> None:
    assert {case.values[0] for case in CASES} == set(RULES)


@each_case
def test_rule_gives_the_gradients_that_finite_differences_give(
    rule: str, shapes: tuple[Any, ...], attributes: dict[str, Any], rng: np.random.Generator
) -> None:
    inputs = arrays(rule, shapes, rng)
    out, cache = forward(rule, inputs, attributes)
    upstream = np.asarray(rng.standard_normal(out.shape))
    needs = tuple(array is not None for array in inputs)
    gradients = RULES[rule].gradients(upstream, cache, needs)
    for i, (array, gradient) in enumerate(zip(inputs, gradients, strict=False)):
        if array is None:
            assert gradient is None
            continue

        def of_one(moved: Any, i: int = i) -> Any:
            return forward(rule, [*inputs[:i], moved, *inputs[i + 1 :]], attributes)[0]

        expected = gradient_by_differences(of_one, array, upstream, step=np.finfo(float).eps ** (1 / 3))
        scale = max(1.0, float(np.sum(np.abs(out * upstream))))
        assert_close(gradient, expected, terms=max(out.size, 1), scale=scale, differenced=True)


@each_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rule_keeps_the_dtype(
    rule: str, shapes: tuple[Any, ...], attributes: dict[str, Any], dtype: str, rng: np.random.Generator
) -> None:
    inputs = [None if a is None else a.astype(dtype) for a in arrays(rule, shapes, rng)]
    keywords = {
        key: value.astype(dtype) if getattr(value, "dtype", None) == np.float64 else value
        for key, value in attributes.items()
    }
    out, cache = forward(rule, inputs, keywords)
    assert type(out) is np.ndarray
    assert out.dtype == dtype
    needs = tuple(array is not None for array in inputs)
    for array, gradient in zip(inputs, RULES[rule].gradients(np.ones_like(out), cache, needs), strict=False):
        if array is not None:
            assert type(gradient) is np.ndarray
            assert gradient.dtype == dtype
            assert gradient.shape == array.shape


@each_case
def test_rule_shares_memory_with_its_upstream_only_where_its_row_says_so(
    rule: str, shapes: tuple[Any, ...], attributes: dict[str, Any], rng: np.random.Generator
) -> None:
    inputs = arrays(rule, shapes, rng)
    out, cache = forward(rule, inputs, attributes)
    upstream = np.ones_like(out)
    needs = tuple(array is not None for array in inputs)
    gradients = [d for d in RULES[rule].gradients(upstream, cache, needs) if d is not None]
    if RULES[rule].views:
        return
    for i, gradient in enumerate(gradients):
        others = [upstream, *[a for a in inputs if a is not None], *gradients[:i]]
        assert not any(np.shares_memory(gradient, other) for other in others)
        assert gradient.flags.writeable


@each_case
def test_rule_backward_can_be_repeated(
    rule: str, shapes: tuple[Any, ...], attributes: dict[str, Any], rng: np.random.Generator
) -> None:
    inputs = arrays(rule, shapes, rng)
    out, cache = forward(rule, inputs, attributes)
    needs = tuple(array is not None for array in inputs)
    first = [np.array(d) for d in RULES[rule].gradients(np.ones_like(out), cache, needs) if d is not None]
    out[...] = (
        7.0 if not np.shares_memory(out, inputs[0]) else out
    )  # the caller may overwrite what is its own
    second = [d for d in RULES[rule].gradients(np.ones_like(out), cache, needs) if d is not None]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_rule_says_its_formula_and_gradients_in_its_own_letters(rule: Any) -> None:
    assert rule.formula.startswith("y = ")
    assert len(rule.inputs) == len(rule.local) == len(rule.partial)
    for name, local, partial in zip(rule.inputs, rule.local, rule.partial, strict=True):
        assert local.startswith(f"d{name}")
        assert partial.startswith("∂y")
        assert partial.split(" = ")[0].partition("/")[2].startswith(f"∂{name}")
    renamed = rename(rule.formula, {"y": "out", **{name: f"in_{name}" for name in rule.inputs}})
    assert renamed.startswith("out = ")
    assert all(f"in_{name}" in renamed for name in rule.inputs)


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_rule_holds_its_pairs_own_functions(rule: Any) -> None:
    own = next(m for m in (arithmetic, indexing, reductions, ops) if hasattr(m, f"{rule.name}_backward"))
    assert rule.forward is getattr(own, f"{rule.name}_forward")
    assert rule.backward is getattr(own, f"{rule.name}_backward")


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_rule_selects_gradients_just_where_its_backward_can_leave_them_out(rule: Any) -> None:
    can = "needs" in signature(rule.backward).parameters
    assert rule.selects == (tuple(f"d{name}" for name in rule.inputs) if can else ())


@pytest.mark.parametrize("rule", ["sub", "mul", "div", "pow", "matmul", "conv", "conv_transpose", "linear"])
@pytest.mark.parametrize("wanted", [0, 1])
def test_rule_leaves_out_the_gradient_that_is_not_needed(
    rule: str, wanted: int, rng: np.random.Generator
) -> None:
    _, shapes, attributes = next(case.values for case in CASES if case.values[0] == rule)
    inputs = arrays(rule, shapes, rng)[:2]
    out, cache = forward(rule, inputs, attributes)
    gradients = RULES[rule].gradients(np.ones_like(out), cache, (wanted == 0, wanted == 1))
    assert [d is not None for d in gradients] == [wanted == 0, wanted == 1]


def test_first_layer_never_computes_its_input_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, ...]] = []
    row = RULES["conv"]

    def spy(dy: Any, cache: Any, *, needs: tuple[str, ...]) -> Any:
        seen.append(needs)
        gradients = row.backward(dy, cache, needs=needs)
        assert gradients[0] is None
        return gradients

    monkeypatch.setitem(RULES, "conv", row._replace(backward=spy))
    w = Tensor(np.ones((1, 1, 2, 2)), requires_grad=True)
    apply("conv", Tensor(np.ones((1, 1, 3, 3))), w, None).sum().backward()
    assert seen == [("dw",)]
    np.testing.assert_array_equal(w.grad, np.full((1, 1, 2, 2), 4.0))
