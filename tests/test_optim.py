"""Optimisers by hand and step by step against PyTorch; exact resumption; and what they refuse."""

from __future__ import annotations

import json
import math
from inspect import signature
from typing import Any

import numpy as np
import pytest

from backlit import nn, optim
from backlit.graph import Tensor
from tolerance import assert_close

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd decay": ("SGD", {"lr": 0.1, "weight_decay": 0.01}),
    "sgd momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "sgd dampening": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01}),
    "sgd nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "adam": ("Adam", {"lr": 0.01}),
    "adam decay": ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    "adamw": ("AdamW", {"lr": 0.01}),
    "adamw decay": ("AdamW", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.3}),
}
every_setting = pytest.mark.parametrize("case", SETTINGS)


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(np.array(values))


def with_gradient(values: Any, gradient: Any) -> nn.Parameter:
    p = nn.Parameter(np.array(values, np.float64))
    p.grad = np.array(gradient, np.float64)
    return p


def make(case: str, parameters: Any) -> optim.Optimizer:
    name, options = SETTINGS[case]
    optimizer: optim.Optimizer = getattr(optim, name)(parameters, **options)
    return optimizer


# --- by hand


def stepped(optimizer: Any, p: nn.Parameter, *gradients: float) -> list[float]:
    """The parameter after each step with one gradient after the other."""
    values = []
    for gradient in gradients:
        p.grad = np.array([gradient])
        optimizer.step()
        values.append(p.data.item())
    return values


def test_sgd_by_hand() -> None:
    p = parameter(1.0)
    assert stepped(optim.SGD([p], lr=0.5), p, 1.0, -2.0) == [0.5, 1.5]


def test_sgd_weight_decay_by_hand() -> None:
    p = parameter(2.0)  # 2 - 0.5 * (1 + 0.25 * 2)
    assert stepped(optim.SGD([p], lr=0.5, weight_decay=0.25), p, 1.0) == [1.25]


def test_sgd_momentum_by_hand() -> None:
    p = parameter(0.0)  # v = 1, then 0.5 + 1, then 0.75 + 0
    assert stepped(optim.SGD([p], lr=1.0, momentum=0.5), p, 1.0, 1.0, 0.0) == [-1.0, -2.5, -3.25]


def test_sgd_dampening_spares_the_first_step_by_hand() -> None:
    p = parameter(0.0)  # v = 1, then 0.5 + 0.75 * 2
    assert stepped(optim.SGD([p], lr=1.0, momentum=0.5, dampening=0.25), p, 1.0, 2.0) == [-1.0, -3.0]


def test_sgd_nesterov_by_hand() -> None:
    p = parameter(0.0)  # v = 1: 1 + 0.5; v = 1.5: 1 + 0.75
    assert stepped(optim.SGD([p], lr=1.0, momentum=0.5, nesterov=True), p, 1.0, 1.0) == [-1.5, -3.25]


def test_adam_first_step_has_the_size_of_lr_whatever_the_gradient() -> None:
    for gradient in (1e-6, 1.0, 1e6):
        p = parameter(0.0)
        assert_close(stepped(optim.Adam([p], lr=0.1, eps=0), p, gradient), [-0.1], 4)


def test_adam_second_step_by_hand() -> None:
    p = parameter(0.0)
    m, v = 0.5 * (0.5 * 1) + 0.5 * 3, 0.75 * (0.25 * 1) + 0.25 * 9
    second = 0.1 * (m / (1 - 0.25)) / (math.sqrt(v / (1 - 0.5625)) + 0.01)
    first = 0.1 * 1 / (1 + 0.01)
    values = stepped(optim.Adam([p], lr=0.1, betas=(0.5, 0.75), eps=0.01), p, 1.0, 3.0)
    assert_close(values[1], -first - second, 4)


def test_adam_decays_through_the_gradient_and_adamw_beside_it() -> None:
    p, q = parameter(4.0), parameter(4.0)
    assert_close(stepped(optim.Adam([p], lr=0.1, eps=0, weight_decay=0.5), p, 0.0), [4 - 0.1], 4)
    assert_close(stepped(optim.AdamW([q], lr=0.1, weight_decay=0.5), q, 0.0), [4 * (1 - 0.05)], 4)


# --- step by step against PyTorch


@pytest.mark.torch
@every_setting
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_optimizer_goes_where_pytorchs_goes(torch: Any, case: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (), (40_000,)]  # the last one longer than a block
    ours = [nn.Parameter(rng.normal(size=shape).astype(dtype)) for shape in shapes]
    theirs = [torch.nn.Parameter(torch.from_numpy(p.data.copy())) for p in ours]
    optimizer = make(case, ours)
    name, options = SETTINGS[case]
    reference = getattr(torch.optim, name)(theirs, **options)
    for step in range(1, 11):
        for index, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            if index == 1 and step in (1, 4):  # without a gradient: skipped, and its state with it
                p.grad, q.grad = None, None
                continue
            p.grad = (rng.normal(size=p.shape) * 10.0**-step).astype(dtype)
            q.grad = torch.from_numpy(np.array(p.grad))
        if step == 6:
            optimizer.lr *= 0.5
            reference.param_groups[0]["lr"] *= 0.5
        optimizer.step()
        reference.step()
        for p, q in zip(ours, theirs, strict=True):
            assert_close(p.data, q.detach().numpy(), 20 * step, scale=4.0)


# --- how a step treats arrays


@every_setting
def test_step_changes_parameters_in_place_and_no_gradient(case: str) -> None:
    p = nn.Parameter(np.ones(5, np.float32))
    array, gradient = p.data, np.full(5, 2, np.float32)
    gradient.flags.writeable = False
    p.grad = gradient
    optimizer = make(case, [p])
    for _ in range(3):
        optimizer.step()
    assert p.data is array
    assert (array != 1).all()
    assert (gradient == 2).all()


@every_setting
def test_step_takes_gradients_of_any_strides(case: str) -> None:
    rng = np.random.default_rng(0)
    gradient, values = rng.normal(size=(4, 6)), rng.normal(size=(6, 4))
    plain, strided = nn.Parameter(values), nn.Parameter(values)
    plain.grad, strided.grad = np.ascontiguousarray(gradient.T), gradient.T
    for p in (plain, strided):
        make(case, [p]).step()
    np.testing.assert_array_equal(plain.data, strided.data)


def test_step_replaces_an_array_that_cannot_be_written() -> None:
    p = with_gradient([1.0, 1.0], [1.0, 1.0])
    p.data = np.broadcast_to(np.ones(1), (2,))
    optim.SGD([p], lr=0.5).step()
    assert p.data.tolist() == [0.5, 0.5]


def test_step_takes_empty_and_0d_parameters() -> None:
    parameters = [with_gradient(np.zeros((0, 3)), np.zeros((0, 3))), with_gradient(1.0, 1.0)]
    optim.Adam(parameters, lr=0.5).step()
    assert parameters[1].data.shape == ()


def test_step_lets_infinity_and_nan_through() -> None:
    p = with_gradient([1.0, 1.0, 1.0], [np.nan, np.inf, 1.0])
    optim.Adam([p], lr=0.5).step()
    assert np.isnan(p.data[:2]).all()
    assert_close(p.data[2], 1 - 0.5 / (1 + 1e-8), 4)


def test_step_refuses_a_gradient_of_another_shape_or_dtype() -> None:
    p = parameter(1.0, 2.0)
    for wrong in (np.ones(3), np.ones(2, np.float32)):
        p.grad = wrong
        with pytest.raises(ValueError, match=r"grad of parameter 0 is float.* of shape"):
            optim.SGD([p], lr=1.0).step()


def test_step_follows_a_model_that_was_converted() -> None:
    layer = nn.Linear(2, 1)
    optimizer = optim.Adam(layer.parameters(), lr=0.1)
    for dtype in (np.float32, np.float64):
        layer.astype(dtype)(np.ones((1, 2), dtype)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert layer.weight.dtype == np.float64
    assert optimizer.state_dict()[0]["0.m"].dtype == np.float64


def test_moments_never_stay_denormal() -> None:
    p = nn.Parameter(np.zeros(3, np.float32))
    optimizer = optim.Adam([p], lr=0.1)
    p.grad = np.full(3, 1e-3, np.float32)
    optimizer.step()
    p.grad = np.zeros(3, np.float32)
    for _ in range(1000):  # 0.9**1000 * 1e-4 is far below the smallest normal number, 1.2e-38
        optimizer.step()
    m = optimizer.state_dict()[0]["0.m"]
    assert m.tolist() == [0, 0, 0]


def test_zero_grad_drops_gradients() -> None:
    p = with_gradient([1.0], [1.0])
    optim.SGD([p], lr=1.0).zero_grad()
    assert p.grad is None


# --- resumption


@every_setting
def test_optimizer_resumes_to_the_same_bits(case: str) -> None:
    def gradient(step: int, size: int) -> Any:
        return np.random.default_rng(step).normal(size=size).astype(np.float32)

    def run(parameters: list[nn.Parameter], optimizer: optim.Optimizer, steps: range) -> None:
        for step in steps:
            for p in parameters[: 2 - step % 2]:
                p.grad = gradient(step, p.size)
            optimizer.step()
            optimizer.zero_grad()

    straight = [nn.Parameter(np.ones(n, np.float32)) for n in (5, 3)]
    run(straight, make(case, straight), range(20))
    first = [nn.Parameter(np.ones(n, np.float32)) for n in (5, 3)]
    before = make(case, first)
    run(first, before, range(9))
    arrays, scalars = before.state_dict()
    second = [nn.Parameter(p.data) for p in first]
    after = make(case, second)
    after.lr = 7.0  # the state brings the right one
    after.load_state_dict(arrays, json.loads(json.dumps(scalars)))
    run(second, after, range(9, 20))
    for p, q in zip(straight, second, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_state_is_a_copy() -> None:
    p = with_gradient([1.0], [1.0])
    optimizer = optim.Adam([p], lr=0.1)
    optimizer.step()
    optimizer.state_dict()[0]["0.m"][...] = 9
    assert optimizer.state_dict()[0]["0.m"] != 9


def test_state_before_any_step_has_no_arrays() -> None:
    arrays, scalars = optim.Adam([parameter(1.0)], lr=0.1).state_dict()
    assert arrays == {}
    assert scalars == {
        "kind": "Adam",
        "steps": [0],
        "lr": 0.1,
        "weight_decay": 0.0,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
    }


def adam_state() -> tuple[dict[str, Any], dict[str, Any]]:
    optimizer = optim.Adam([with_gradient([1.0], [1.0])], lr=0.1)
    optimizer.step()
    return optimizer.state_dict()


STATES = {
    "another kind": ({}, {"kind": "SGD"}, "scalars is the state of 'SGD', and this is Adam"),
    "another count": ({}, {"steps": [1, 1]}, "one number is needed for each of the 1 parameters"),
    "no arrays": ({"0.m": None}, {}, r"arrays has the names \['0.v'\]"),
    "another shape": ({"0.m": np.ones(2)}, {}, r"arrays\['0.m'\] is float64 of shape \(2,\)"),
    "another dtype": ({"0.m": np.ones(1, np.float32)}, {}, "is float32 of shape"),
    "a setting missing": ({}, {"eps": None}, "scalars lacks eps"),
    "a setting wrong": ({}, {"betas": [0.5, 1.5]}, r"betas\[1\] is 1.5"),
}


@pytest.mark.parametrize("case", STATES)
def test_optimizer_refuses_a_state_and_changes_nothing(case: str) -> None:
    arrays, scalars = adam_state()
    array_changes, scalar_changes, message = STATES[case]
    arrays = {name: a for name, a in {**arrays, **array_changes}.items() if a is not None}
    scalars = {name: s for name, s in {**scalars, "lr": 5.0, **scalar_changes}.items() if s is not None}
    optimizer = optim.Adam([parameter(1.0)], lr=0.3, betas=(0.1, 0.2))
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(arrays, scalars)
    assert optimizer.state_dict() == before


# --- what is refused


P = parameter(1.0)
REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "none": (lambda: optim.SGD([]), ValueError, r"parameters is empty.*model.parameters\(\)"),
    "module": (lambda: optim.SGD(nn.Linear(1, 1)), TypeError, r"a Linear, .*pass model.parameters\(\)"),
    "single": (lambda: optim.SGD(P), TypeError, r"a Parameter, .*pass \[p\]"),
    "number": (lambda: optim.SGD(3), TypeError, "parameters is a int"),
    "tensor": (lambda: optim.SGD([P, Tensor([1.0])]), TypeError, "a Tensor at position 1"),
    "group": (
        lambda: optim.SGD([{"params": [P]}]),
        TypeError,
        "a dict at position 0.*groups are not supported.*for each group",
    ),
    "twice": (lambda: optim.SGD([P, P]), ValueError, "one parameter twice, at positions 0 and 1"),
    "lr negative": (lambda: optim.Adam([P], lr=-1), ValueError, "lr is -1"),
    "lr nan": (lambda: optim.Adam([P], lr=math.nan), ValueError, "lr is nan"),
    "lr infinite": (lambda: optim.Adam([P], lr=math.inf), ValueError, "lr is inf"),
    "lr text": (lambda: optim.Adam([P], lr="0.1"), TypeError, "lr is '0.1'"),
    "lr assigned": (lambda: setattr(optim.SGD([P]), "lr", -1), ValueError, "lr is -1"),
    "decay": (lambda: optim.AdamW([P], weight_decay=-1), ValueError, "weight_decay is -1"),
    "momentum": (lambda: optim.SGD([P], momentum=-0.1), ValueError, "momentum is -0.1"),
    "nesterov": (lambda: optim.SGD([P], nesterov=True), ValueError, "nesterov needs momentum above 0"),
    "nesterov dampened": (
        lambda: optim.SGD([P], momentum=0.9, dampening=0.1, nesterov=True),
        ValueError,
        "no dampening",
    ),
    "betas": (lambda: optim.Adam([P], betas=(0.9, 1.0)), ValueError, r"betas\[1\] is 1"),
    "one beta": (lambda: optim.Adam([P], betas=0.9), TypeError, "betas is 0.9, and two numbers"),
    "eps": (lambda: optim.Adam([P], eps=-1), ValueError, "eps is -1"),
    "amsgrad": (
        lambda: optim.Adam([P], amsgrad=True),
        ValueError,
        "amsgrad is True, and Adam has only amsgrad=False",
    ),
    "maximize": (lambda: optim.SGD([P], maximize=True), ValueError, "maximize is True, and SGD has only"),
    "fused": (
        lambda: optim.AdamW([P], fused=True),
        ValueError,
        "fused is True, and AdamW has only fused=None",
    ),
    "misspelt": (lambda: optim.SGD([P], momentun=0.9), TypeError, "SGD has no argument 'momentun'"),
    "abstract": (lambda: optim.Optimizer([P], 0.1, 0.0), TypeError, "abstract"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_optim_refuses_with_a_sentence(case: str) -> None:
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("gradient", "error", "message"),
    [
        ([1.0], TypeError, "grad of parameter 1 is a list, and a NumPy array is needed"),
        (np.zeros(3), ValueError, r"grad of parameter 1 is float64 of shape \(3,\)"),
    ],
)
def test_step_that_refuses_a_later_gradient_has_changed_nothing(
    gradient: Any, error: type[Exception], message: str
) -> None:
    first, second = with_gradient([1.0], [1.0]), parameter(1.0)
    second.grad = gradient
    optimizer = optim.Adam([first, second])
    with pytest.raises(error, match=message):
        optimizer.step()
    assert first.data.tolist() == [1.0]
    assert optimizer.state_dict()[1]["steps"] == [0, 0]


@pytest.mark.torch
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_optimizer_takes_pytorchs_arguments_at_their_defaults(torch: Any, name: str) -> None:
    _, *theirs = signature(getattr(torch.optim, name)).parameters.values()
    getattr(optim, name)([parameter(1.0)], **{p.name: p.default for p in theirs})


@pytest.mark.torch
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_optimizer_takes_pytorchs_positional_arguments_in_order(torch: Any, name: str) -> None:
    def positional(of: Any) -> list[tuple[str, Any]]:
        _, *rest = (p for p in signature(of).parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD)
        return [(p.name, p.default) for p in rest]

    assert positional(getattr(optim, name)) == positional(getattr(torch.optim, name))
