"""What holds of every pair: true gradients, fresh aligned results, inputs untouched, caches that work twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import backlit.ops as ops
from differences import gradient_by_differences
from pairs import CASES, Case
from tolerance import assert_close

TERMS = 100  # more than any sum here has
STEP = float(np.finfo(np.float64).eps ** (1 / 3))  # balances truncation and rounding of a central difference

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
floats = pytest.mark.parametrize("dtype", ["float32", "float64"])


def upstream(rng: np.random.Generator, y: Any) -> Any:
    return np.asarray(rng.standard_normal(y.shape), y.dtype)


def strided(x: Any) -> Any:
    """Every second element of a larger array, along the last axis."""
    larger = np.full((*x.shape[:-1], 2 * x.shape[-1]), 7, x.dtype) if x.ndim else np.full(2, 7, x.dtype)
    view = larger[..., ::2] if x.ndim else larger[0:1].reshape(())
    view[...] = x
    return view


def negative(x: Any) -> Any:
    """The same values, read backwards along every axis."""
    backwards = (slice(None, None, -1),) * x.ndim
    return np.array(x[backwards], order="C")[backwards]


def misaligned(x: Any) -> Any:
    """The same values, one byte off every boundary."""
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:]
    view = raw.view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def read_only(x: Any) -> Any:
    copy = np.array(x)
    copy.flags.writeable = False
    return copy


MEMORY = {
    "fortran": lambda x: np.array(x, order="F"),
    "strided": strided,
    "negative": negative,
    "misaligned": misaligned,
    "read_only": read_only,
    "byte_swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "list": lambda x: x.tolist(),
}


@every_case
def test_gradient_equals_finite_differences_in_every_element(case: Case, rng: np.random.Generator) -> None:
    inputs = case.inputs(rng)
    y, cache = case.forward(*inputs)
    dy = upstream(rng, y)
    gradients = case.backward(dy, cache)
    assert len(gradients) == len(inputs)
    for i, (x, dx) in enumerate(zip(inputs, gradients, strict=True)):
        numeric = gradient_by_differences(
            lambda v, i=i: case.forward(*inputs[:i], v, *inputs[i + 1 :])[0], x, dy, STEP
        )
        magnitude = max(np.abs(numeric).max(initial=0), np.abs(y * dy).sum())
        assert_close(dx, numeric, TERMS, magnitude, differenced=True)


@every_case
def test_gradient_equals_finite_differences_in_a_joint_direction(
    case: Case, rng: np.random.Generator
) -> None:
    inputs, direction = case.inputs(rng), case.inputs(rng)
    y, cache = case.forward(*inputs)
    dy = upstream(rng, y)
    ahead, behind = (
        np.sum(case.forward(*(x + sign * STEP * v for x, v in zip(inputs, direction, strict=True)))[0] * dy)
        for sign in (1, -1)
    )
    products = [g * v for g, v in zip(case.backward(dy, cache), direction, strict=True)]
    magnitude = sum(float(np.abs(p).sum()) for p in products) + float(np.abs(y * dy).sum())
    exact = sum(float(p.sum()) for p in products)
    assert_close(exact, (ahead - behind) / (2 * STEP), TERMS, magnitude, differenced=True)


@every_case
def test_float32_follows_float64(case: Case, rng: np.random.Generator) -> None:
    inputs = case.inputs(rng, np.float32)
    y, cache = case.forward(*inputs)
    wide, wide_cache = case.forward(*(x.astype(np.float64) for x in inputs))
    dy = upstream(rng, y)
    assert_close(y, wide, TERMS)
    for dx, wide_dx in zip(
        case.backward(dy, cache), case.backward(dy.astype(np.float64), wide_cache), strict=True
    ):
        assert_close(dx, wide_dx, TERMS, max(np.abs(wide_dx).max(), np.abs(dy).sum()))


@every_case
@floats
def test_results_are_fresh_aligned_and_of_the_input_precision(
    case: Case, dtype: str, rng: np.random.Generator
) -> None:
    inputs = case.inputs(rng, dtype)
    y, cache = case.forward(*inputs)
    dy = upstream(rng, y)
    results = [y, *case.backward(dy, cache)]
    for n, result in enumerate(results):
        assert type(result) is np.ndarray
        assert result.dtype == dtype
        assert result.flags.c_contiguous
        assert result.flags.writeable
        assert result.ctypes.data % 64 == 0
        others = [*inputs, dy, *results[:n]]
        assert not any(np.may_share_memory(result, other) for other in others)


@every_case
def test_gradients_have_the_shapes_of_the_inputs(case: Case, rng: np.random.Generator) -> None:
    inputs = case.inputs(rng)
    y, cache = case.forward(*inputs)
    assert [g.shape for g in case.backward(y, cache)] == [x.shape for x in inputs]


@every_case
def test_inputs_stay_what_they_were(case: Case, rng: np.random.Generator) -> None:
    inputs = case.inputs(rng)
    before = [x.tobytes() for x in inputs]
    y, cache = case.forward(*inputs)
    dy = upstream(rng, y)
    dy_before = dy.tobytes()
    case.backward(dy, cache)
    assert [x.tobytes() for x in inputs] == before
    assert dy.tobytes() == dy_before


@every_case
def test_a_cache_gives_the_same_bits_twice(case: Case, rng: np.random.Generator) -> None:
    y, cache = case.forward(*case.inputs(rng))
    dy = upstream(rng, y)
    first = [g.tobytes() for g in case.backward(dy, cache)]
    case.backward(2 * dy, cache)
    assert [g.tobytes() for g in case.backward(dy, cache)] == first


@every_case
def test_gradients_that_are_overwritten_leave_the_cache_alone(case: Case, rng: np.random.Generator) -> None:
    y, cache = case.forward(*case.inputs(rng))
    dy = upstream(rng, y)
    gradients = case.backward(dy, cache)
    first = [g.tobytes() for g in gradients]
    for g in gradients:
        g.fill(np.nan)
    assert [g.tobytes() for g in case.backward(dy, cache)] == first


@every_case
def test_an_output_may_be_overwritten_before_the_backward(case: Case, rng: np.random.Generator) -> None:
    inputs = case.inputs(rng)
    y, cache = case.forward(*inputs)
    dy = upstream(rng, y)
    expected = [g.tobytes() for g in case.backward(dy, cache)]
    y, cache = case.forward(*inputs)
    y.fill(np.nan)
    assert [g.tobytes() for g in case.backward(dy, cache)] == expected


@every_case
@pytest.mark.parametrize("memory", MEMORY)
def test_any_memory_layout_gives_the_same(case: Case, memory: str, rng: np.random.Generator) -> None:
    inputs = case.inputs(rng)
    y, cache = case.forward(*inputs)
    dy = upstream(rng, y)
    arranged = [MEMORY[memory](x) for x in inputs]
    if memory == "list":
        arranged[0] = inputs[0]  # the case asks it for its dtype
    y2, cache2 = case.forward(*arranged)
    assert_close(y2, y, TERMS)
    for dx2, dx in zip(case.backward(MEMORY[memory](dy), cache2), case.backward(dy, cache), strict=True):
        assert_close(dx2, dx, TERMS, max(np.abs(dx).max(), np.abs(dy).sum()))


@every_case
def test_broadcast_inputs_equal_their_copies(case: Case, rng: np.random.Generator) -> None:
    inputs = tuple(np.broadcast_to(x[:1] if x.ndim else x, x.shape) for x in case.inputs(rng))
    copies = tuple(np.array(x, order="C") for x in inputs)
    y, cache = case.forward(*inputs)
    y2, cache2 = case.forward(*copies)
    dy = np.broadcast_to(np.float64(1.5), y.shape)
    assert_close(y, y2, TERMS)
    for dx, dx2 in zip(case.backward(dy, cache), case.backward(np.array(dy), cache2), strict=True):
        assert_close(dx, dx2, TERMS, max(np.abs(dx2).max(), np.abs(dy).sum()))


@every_case
@floats
@pytest.mark.parametrize("size", ["largest", "smallest"])
def test_no_finite_input_warns_or_raises(case: Case, dtype: str, size: str, rng: np.random.Generator) -> None:
    info = np.finfo(dtype)
    extreme = info.max if size == "largest" else info.smallest_subnormal
    inputs = tuple(np.sign(x) * extreme for x in case.inputs(rng, dtype))
    with np.errstate(all="raise"):
        y, cache = case.forward(*inputs)
        case.backward(np.full(y.shape, extreme, dtype), cache)


@every_case
def test_nan_in_the_first_input_reaches_the_whole_result(case: Case, rng: np.random.Generator) -> None:
    first, *rest = case.inputs(rng)
    y, _ = case.forward(np.full_like(first, np.nan), *rest)
    assert np.isnan(y).all()


@pytest.mark.parametrize("case", [c for c in CASES if c.operation != "relu"], ids=lambda case: case.name)
def test_nan_upstream_reaches_every_gradient(case: Case, rng: np.random.Generator) -> None:
    y, cache = case.forward(*case.inputs(rng))
    for dx in case.backward(np.full_like(y, np.nan), cache):
        assert np.isnan(dx).all()


@every_case
def test_a_cache_of_another_operation_is_an_error(case: Case) -> None:
    _, other = ops.relu_forward([1.0]) if case.operation != "relu" else ops.tanh_forward([1.0])
    with pytest.raises(
        TypeError, match=rf"cache of {case.operation}_backward has to come from {case.operation}_forward"
    ):
        case.backward(np.ones(1), other)


@every_case
def test_an_upstream_gradient_of_another_shape_is_an_error(case: Case, rng: np.random.Generator) -> None:
    y, cache = case.forward(*case.inputs(rng))
    with pytest.raises(ValueError, match=r"(dy|dloss) has shape .* an upstream gradient has the shape"):
        case.backward(np.ones((*y.shape, 1)), cache)


@every_case
def test_an_upstream_gradient_of_another_precision_is_an_error(case: Case, rng: np.random.Generator) -> None:
    y, cache = case.forward(*case.inputs(rng))
    with pytest.raises(
        TypeError, match=r"(dy|dloss) has dtype float32 where the other arguments have float64"
    ):
        case.backward(np.ones(y.shape, np.float32), cache)


@every_case
@pytest.mark.parametrize(
    "bad", [np.int64, np.bool_, np.float16, np.complex128, object], ids=lambda bad: bad.__name__
)
def test_an_input_of_another_kind_is_an_error(case: Case, bad: Any, rng: np.random.Generator) -> None:
    first, *rest = case.inputs(rng)
    with pytest.raises(
        TypeError, match=r"^(x|a|logits|prediction) has dtype .*, and gradients need float32 or float64"
    ):
        case.forward(first.astype(bad), *rest)


@pytest.mark.parametrize("case", [c for c in CASES if len(c.shapes) > 1], ids=lambda case: case.name)
def test_mixed_precision_is_an_error(case: Case, rng: np.random.Generator) -> None:
    first, second, *rest = case.inputs(rng)
    with pytest.raises(TypeError, match=r"has dtype float32 where the other arguments have float64"):
        case.forward(first, second.astype(np.float32), *rest)


@every_case
def test_caches_are_frozen_and_have_slots(case: Case, rng: np.random.Generator) -> None:
    _, cache = case.forward(*case.inputs(rng))
    assert not hasattr(cache, "__dict__")
    with pytest.raises(AttributeError):
        setattr(cache, next(iter(cache.__slots__)), None)


def test_every_operation_has_its_own_kind_of_cache() -> None:
    rng = np.random.default_rng(0)
    kinds = {case.operation: type(case.forward(*case.inputs(rng))[1]) for case in CASES}
    assert len(set(kinds.values())) == len(kinds)
