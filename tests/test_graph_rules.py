"""The table of rules: every row against finite differences, over shapes that broadcast and attributes that matter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from backlit.graph import RULES, Tensor, apply
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
    gradients = RULES[rule].backward(upstream, cache, needs)
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
    for array, gradient in zip(inputs, RULES[rule].backward(np.ones_like(out), cache, needs), strict=False):
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
    gradients = [d for d in RULES[rule].backward(upstream, cache, needs) if d is not None]
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
    first = [np.array(d) for d in RULES[rule].backward(np.ones_like(out), cache, needs) if d is not None]
    out[...] = (
        7.0 if not np.shares_memory(out, inputs[0]) else out
    )  # the caller may overwrite what is its own
    second = [d for d in RULES[rule].backward(np.ones_like(out), cache, needs) if d is not None]
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


@pytest.mark.parametrize("rule", ["sub", "mul", "div", "pow", "matmul", "conv", "conv_transpose", "linear"])
@pytest.mark.parametrize("wanted", [0, 1])
def test_rule_leaves_out_the_gradient_that_is_not_needed(
    rule: str, wanted: int, rng: np.random.Generator
) -> None:
    _, shapes, attributes = next(case.values for case in CASES if case.values[0] == rule)
    inputs = arrays(rule, shapes, rng)[:2]
    out, cache = forward(rule, inputs, attributes)
    gradients = RULES[rule].backward(np.ones_like(out), cache, (wanted == 0, wanted == 1))
    assert [d is not None for d in gradients] == [wanted == 0, wanted == 1]


def test_first_layer_never_computes_its_input_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, ...]] = []
    row = RULES["conv"]

    def spy(dy: Any, cache: Any, needs: tuple[bool, ...]) -> Any:
        seen.append(needs)
        gradients = row.backward(dy, cache, needs)
        assert gradients[0] is None
        return gradients

    monkeypatch.setitem(RULES, "conv", row._replace(backward=spy))
    w = Tensor(np.ones((1, 1, 2, 2)), requires_grad=True)
    apply("conv", Tensor(np.ones((1, 1, 3, 3))), w, None).sum().backward()
    assert seen == [(False, True, False)]
    np.testing.assert_array_equal(w.grad, np.full((1, 1, 2, 2), 4.0))


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
    np.testing.assert_allclose([x.grad, y.grad], [da, db], rtol=1e-15)


def test_div_by_a_tiny_number_keeps_its_gradient_in_range() -> None:
    b = Tensor(np.float32(1e-30).reshape(()), requires_grad=True)
    (np.full((), 1e-35, np.float32) / b).backward()
    np.testing.assert_allclose(b.grad, -1e25, rtol=1e-6)


def test_ieee_754_decides_silently_what_mathematics_leaves_open() -> None:
    x = Tensor([0.0, -1.0], requires_grad=True)
    np.testing.assert_array_equal(x.log().numpy(), [-np.inf, np.nan])
    np.testing.assert_array_equal((x / 0.0).numpy(), [np.nan, -np.inf])
    (1 / x).sum().backward()
    np.testing.assert_array_equal(x.grad, [-np.inf, -1.0])


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
