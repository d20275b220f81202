"""Schedules by hand, clipping by hand and against PyTorch, and what both refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from backlit import nn, optim
from tolerance import assert_close


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(np.array(values))


def with_gradient(values: Any, gradient: Any) -> nn.Parameter:
    p = nn.Parameter(np.array(values, np.float64))
    p.grad = np.array(gradient, np.float64)
    return p


# --- schedules


def test_constant_schedule_is_one_after_the_warm_up() -> None:
    schedule = optim.ConstantLR(warmup_steps=4)
    assert [schedule(step, 10) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_step_schedule_drops_twice_in_a_run_if_not_told_otherwise() -> None:
    factors = [optim.StepLR()(step, 9) for step in range(9)]
    assert_close(factors, [1.0] * 3 + [0.1] * 3 + [0.01] * 3, 2)


def test_step_schedule_counts_from_the_end_of_the_warm_up() -> None:
    schedule = optim.StepLR(step_size=2, gamma=0.5, warmup_steps=2)
    assert [schedule(step, 8) for step in range(8)] == [0.5, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]


def test_cosine_schedule_goes_from_one_to_final() -> None:
    schedule = optim.CosineLR(final=0.2, warmup_steps=2)
    factors = [schedule(step, 12) for step in range(13)]
    assert factors[:3] == [0.5, 1, 1]
    assert_close(factors[7], 0.6, 4)  # half way
    assert factors[12] == 0.2
    assert factors[2:] == sorted(factors[2:], reverse=True)


@pytest.mark.parametrize("name", optim.SCHEDULES)
def test_schedule_stays_between_zero_and_one_for_any_run(name: str) -> None:
    for total in (0, 1, 2, 7):
        for warmup in (0, 1, 3):
            schedule = optim.SCHEDULES[name](warmup_steps=warmup)
            assert all(0 <= schedule(step, total) <= 1 for step in range(total + 3))


# --- clipping


def test_clipping_scales_all_gradients_by_one_factor() -> None:
    parameters = [with_gradient([0.0], [3.0]), with_gradient([0.0, 0.0], [0.0, 4.0]), parameter(1.0)]
    assert optim.clip_grad_norm_(iter(parameters), 2.5) == 5
    assert [None if p.grad is None else p.grad.tolist() for p in parameters] == [[1.5], [0, 2], None]


def test_clipping_leaves_small_gradients_alone() -> None:
    p = with_gradient([0.0], [3.0])
    assert optim.clip_grad_norm_([p], 3.0) == 3
    assert optim.clip_grad_norm_([p], math.inf) == 3
    assert p.grad.tolist() == [3]


def test_clipping_scales_gradients_that_share_memory_once() -> None:
    parameters = [parameter(0.0, 0.0), parameter(0.0, 0.0)]
    shared = np.broadcast_to(np.array([2.0]), (2,))
    for p in parameters:
        p.grad = shared
    assert optim.clip_grad_norm_(parameters, 1.0) == 4
    assert [p.grad.tolist() for p in parameters] == [[0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize("gradient", [[1e200, 0.0], [3e-200, 4e-200]])
def test_clipping_measures_what_has_no_square(gradient: list[float]) -> None:
    p = with_gradient([0.0, 0.0], gradient)
    norm = optim.clip_grad_norm_([p], math.inf)
    assert_close(norm, math.hypot(*gradient), 2)


def test_clipping_sums_float32_in_float64() -> None:
    p = nn.Parameter(np.zeros(2, np.float32))
    p.grad = np.full(2, 1e30, np.float32)
    assert_close(optim.clip_grad_norm_([p], 1.0), math.sqrt(2) * float(np.float32(1e30)), 2)
    assert_close(p.grad, np.full(2, math.sqrt(0.5), np.float32), 4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clipping_leaves_gradients_without_a_norm_alone_and_tells(bad: float) -> None:
    p, q = with_gradient([0.0], [bad]), with_gradient([0.0], [5.0])
    norm = optim.clip_grad_norm_([p, q], 1.0)
    assert not math.isfinite(norm)
    assert q.grad.tolist() == [5]
    with pytest.raises(ValueError, match="norm of the gradients is"):
        optim.clip_grad_norm_([p, q], 1.0, error_if_nonfinite=True)


def test_clipping_without_gradients_measures_zero() -> None:
    assert optim.clip_grad_norm_([parameter(1.0)], 1.0) == 0
    assert optim.clip_grad_norm_([with_gradient([0.0], [0.0])], 1.0) == 0


@pytest.mark.torch
def test_clipping_does_what_pytorchs_does(torch: Any) -> None:
    rng = np.random.default_rng(0)
    ours = [nn.Parameter(np.zeros(shape)) for shape in ((3, 4), (5,), (2,))]
    theirs = [torch.nn.Parameter(torch.from_numpy(p.data.copy())) for p in ours]
    for p, q in zip(ours[:2], theirs[:2], strict=True):
        p.grad = rng.normal(size=p.shape)
        q.grad = torch.from_numpy(p.grad.copy())
    norm = optim.clip_grad_norm_(ours, 0.5)
    assert_close(norm, torch.nn.utils.clip_grad_norm_(theirs, 0.5).item(), 17)
    for p, q in zip(ours[:2], theirs[:2], strict=True):
        assert_close(p.grad, q.grad.numpy() * (norm + 1e-6) / norm, 17)  # PyTorch adds 1e-6 to the norm


# --- what is refused

P = parameter(1.0)
REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "max_norm": (lambda: optim.clip_grad_norm_([P], 0.0), ValueError, "max_norm is 0"),
    "max_norm nan": (lambda: optim.clip_grad_norm_([P], math.nan), ValueError, "max_norm is nan"),
    "warm-up": (lambda: optim.CosineLR(warmup_steps=-1), ValueError, "warmup_steps is -1"),
    "warm-up float": (lambda: optim.ConstantLR(warmup_steps=1.5), TypeError, "warmup_steps is 1.5"),
    "step size": (lambda: optim.StepLR(step_size=0), ValueError, "step_size is 0"),
    "gamma": (lambda: optim.StepLR(gamma=2), ValueError, "gamma is 2"),
    "final": (lambda: optim.CosineLR(final=-0.5), ValueError, "final is -0.5"),
    "schedule abstract": (lambda: optim.Schedule(), TypeError, "abstract"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_schedule_or_clipping_refuses_with_a_sentence(case: str) -> None:
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call()


def test_clip_norm_has_the_same_bits_for_any_number_of_blas_threads() -> None:
    p = nn.Parameter(np.zeros(1_000_003))
    p.grad = np.random.default_rng(0).normal(size=p.shape)
    norms = set()
    for threads in (1, 2, 3, 4):
        with threadpool_limits(threads, user_api="blas"):
            norms.add(optim.clip_grad_norm_([p], math.inf))
    assert len(norms) == 1


def test_clip_norm_is_that_of_all_blocks_together() -> None:
    p = nn.Parameter(np.zeros(200_000, np.float32))
    p.grad = np.full(p.shape, 3.0, np.float32)
    assert_close(optim.clip_grad_norm_([p], math.inf), 3 * math.sqrt(200_000), 1)  # the sum of 9s is exact


def test_clip_refuses_a_gradient_that_is_no_array() -> None:
    p = nn.Parameter(np.zeros(2))
    p.grad = [1.0, 2.0]  # type: ignore[assignment]
    with pytest.raises(TypeError, match="grad of parameter 0 is a list, and a NumPy array is needed"):
        optim.clip_grad_norm_([p], 1.0)
