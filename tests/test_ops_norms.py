"""Batch normalisation: by hand, by its properties, its running arrays, against PyTorch; and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backlit.ops import batch_norm_backward, batch_norm_forward
from tolerance import assert_close

floats = pytest.mark.parametrize("dtype", ["float32", "float64"])


def running(channels: int = 3, dtype: Any = np.float64) -> dict[str, Any]:
    return {"running_mean": np.zeros(channels, dtype), "running_var": np.ones(channels, dtype)}


def test_batch_norm_by_hand() -> None:
    x = np.array([[1.0], [2.0], [6.0]])  # mean 3, variance (4 + 1 + 9) / 3 = 14/3
    y, cache = batch_norm_forward(x, [2.0], [1.0], eps=4 / 3)
    # sqrt(14/3 + 4/3) = sqrt(6)
    xhat = np.array([[-2.0], [-1.0], [3.0]]) / np.sqrt(6)
    assert_close(y, 2 * xhat + 1, terms=6)
    dx, dgamma, dbeta = batch_norm_backward([[6.0], [0.0], [0.0]], cache)
    # mean of dy = 2, mean of dy * xhat = 6 * (-2/sqrt(6)) / 3 = -4/sqrt(6)
    assert_close(dx, 2 / np.sqrt(6) * (np.array([[6.0], [0], [0]]) - 2 + xhat * 4 / np.sqrt(6)), terms=6)
    assert_close(dgamma, [6 * -2 / np.sqrt(6)], terms=6)
    assert_close(dbeta, [6.0], terms=6)


@floats
@pytest.mark.parametrize(("shape", "layout"), [((64, 3), "channels_first"), ((8, 3, 5, 4), "channels_first")])
def test_batch_norm_has_mean_zero_and_variance_one(
    shape: tuple[int, ...], layout: str, dtype: str, rng: np.random.Generator
) -> None:
    x = (3 * rng.standard_normal(shape) + 5).astype(dtype)
    y, _ = batch_norm_forward(x, eps=0, layout=layout)
    axes = tuple(a for a in range(x.ndim) if a != 1)
    assert_close(y.mean(axes), np.zeros(3, dtype), terms=200, scale=1.0)
    assert_close(y.var(axes), np.ones(3, dtype), terms=200)


@pytest.mark.parametrize("spatial", [(), (4,), (4, 3), (2, 3, 2)])
def test_batch_norm_layouts_agree(spatial: tuple[int, ...], rng: np.random.Generator) -> None:
    x, dy = rng.standard_normal((6, 3, *spatial)), rng.standard_normal((6, 3, *spatial))
    gamma, beta = rng.standard_normal(3), rng.standard_normal(3)
    y, cache = batch_norm_forward(x, gamma, beta)
    last, last_cache = batch_norm_forward(np.moveaxis(x, 1, -1), gamma, beta, layout="channels_last")
    assert_close(np.moveaxis(last, -1, 1), y, terms=80)
    dx, dgamma, dbeta = batch_norm_backward(dy, cache)
    dx_last, dgamma_last, dbeta_last = batch_norm_backward(np.moveaxis(dy, 1, -1), last_cache)
    assert dgamma is not None
    assert dbeta is not None
    assert_close(np.moveaxis(dx_last, -1, 1), dx, terms=80)
    assert_close(dgamma_last, dgamma, terms=80, scale=np.abs(dy).sum())
    assert_close(dbeta_last, dbeta, terms=80, scale=np.abs(dy).sum())


def test_batch_norm_gradient_is_orthogonal_to_one_and_to_xhat(rng: np.random.Generator) -> None:
    x, dy = rng.standard_normal((16, 3, 5)), rng.standard_normal((16, 3, 5))
    xhat, cache = batch_norm_forward(x, eps=0)
    dx, _, _ = batch_norm_backward(dy, cache)
    assert_close(dx.sum((0, 2)), np.zeros(3), terms=240, scale=np.abs(dx).sum())
    assert_close((dx * xhat).sum((0, 2)), np.zeros(3), terms=240, scale=np.abs(dx).sum())


@floats
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e6 / 3, 1e30])
def test_batch_norm_of_zero_variance_is_beta(constant: float, dtype: str) -> None:
    x = np.full((7, 2, 3), constant, dtype)
    gamma, beta = np.array([2, 3], dtype), np.array([0.5, -0.25], dtype)
    y, cache = batch_norm_forward(x, gamma, beta)
    np.testing.assert_array_equal(y, np.broadcast_to(beta.reshape(1, 2, 1), x.shape))
    dx, dgamma, dbeta = batch_norm_backward(np.ones_like(x), cache)
    assert_close(dx, np.zeros_like(x), terms=21, scale=3e3)
    assert dgamma is not None
    assert dgamma.tolist() == [0, 0]
    assert dbeta is not None
    assert dbeta.tolist() == [21, 21]


@pytest.mark.parametrize("offset", [1e3, 1e5])
def test_batch_norm_keeps_its_digits_under_a_large_mean(offset: float, rng: np.random.Generator) -> None:
    x = (rng.standard_normal((64, 2, 9)) + offset).astype(np.float32)
    dy = rng.standard_normal(x.shape).astype(np.float32)
    y, cache = batch_norm_forward(x)
    wide, wide_cache = batch_norm_forward(x.astype(np.float64))
    assert_close(y, wide, terms=4)
    for ours, exact in zip(
        batch_norm_backward(dy, cache)[:1], batch_norm_backward(dy.astype(float), wide_cache)[:1], strict=True
    ):
        assert_close(ours, exact, terms=8, scale=np.abs(dy).max())


def test_batch_norm_of_squares_beyond_float32_is_right() -> None:
    x = np.array([[1e25], [-1e25], [1e25], [-1e25]], np.float32)
    assert_close(batch_norm_forward(x)[0], np.sign(x), terms=4)


def test_batch_norm_updates_running_arrays_with_the_unbiased_variance() -> None:
    x = np.array([[1.0], [2.0], [6.0]])  # mean 3, unbiased variance 7
    state = {"running_mean": np.array([10.0]), "running_var": np.array([20.0])}
    batch_norm_forward(x, **state, momentum=0.25)
    assert state["running_mean"].tolist() == [0.75 * 10 + 0.25 * 3]
    assert state["running_var"].tolist() == [0.75 * 20 + 0.25 * 7]


def test_batch_norm_in_evaluation_reads_running_arrays_and_leaves_them() -> None:
    mean, var = np.array([1.0]), np.array([3.0])
    mean.flags.writeable = var.flags.writeable = False
    y, cache = batch_norm_forward(
        [[1.0], [3.0]], [4.0], [5.0], running_mean=mean, running_var=var, training=False, eps=1.0
    )
    assert y.tolist() == [[5.0], [9.0]]
    dx, dgamma, dbeta = batch_norm_backward([[1.0], [10.0]], cache)
    assert dgamma is not None
    assert dbeta is not None
    assert (dx.tolist(), dgamma.tolist(), dbeta.tolist()) == ([[2.0], [20.0]], [10.0], [11.0])


def test_batch_norm_in_evaluation_remembers_the_running_arrays_it_read() -> None:
    state = running(1)
    _, cache = batch_norm_forward([[1.0], [3.0]], **state, training=False, eps=0)
    state["running_mean"] += 5
    state["running_var"] *= 9
    assert batch_norm_backward([[1.0], [2.0]], cache)[0].tolist() == [[1.0], [2.0]]


def test_batch_norm_in_evaluation_takes_one_value_and_none() -> None:
    for batch in (1, 0):
        y, cache = batch_norm_forward(
            np.ones((batch, 3)), np.ones(3), np.ones(3), **running(), training=False
        )
        dx, dgamma, dbeta = batch_norm_backward(y, cache)
        assert dx.shape == (batch, 3)
        assert dgamma is not None
        assert dgamma.shape == (3,)
        assert dbeta is not None
        assert dbeta.shape == (3,)


@pytest.mark.parametrize(("gamma", "beta"), [(True, False), (False, True), (False, False)])
def test_batch_norm_has_no_gradient_of_what_was_not_given(gamma: bool, beta: bool) -> None:
    x = np.arange(6.0).reshape(3, 2)
    _, cache = batch_norm_forward(x, np.ones(2) if gamma else None, np.ones(2) if beta else None)
    _, dgamma, dbeta = batch_norm_backward(x, cache)
    assert (dgamma is not None, dbeta is not None) == (gamma, beta)


def test_batch_norm_keeps_nan_to_its_channel() -> None:
    x = np.arange(6.0).reshape(3, 2)
    x[1, 0] = np.nan
    y, cache = batch_norm_forward(x)
    dx, _, _ = batch_norm_backward(np.ones((3, 2)), cache)
    for result in (y, dx):
        assert np.isnan(result[:, 0]).all()
        assert not np.isnan(result[:, 1]).any()


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (np.ones(3), {}, r"x has shape \(3,\), and \(N, C\) or \(N, C, \*spatial\) is needed"),
        (np.ones(3), {"layout": "channels_last"}, r"and \(N, C\) or \(N, \*spatial, C\) is needed"),
        (np.ones((2, 0)), {}, r"x has shape \(2, 0\), and of .* only N may be 0"),
        (np.ones((2, 3, 0)), {}, r"x has shape \(2, 3, 0\), and of .* only N may be 0"),
        (
            np.ones((1, 3)),
            {},
            r"x has shape \(1, 3\) and so 1 value per channel, and training needs at least 2",
        ),
        (np.ones((1, 3, 1, 1)), {}, r"x has shape \(1, 3, 1, 1\) and so 1 value per channel"),
        (np.ones((0, 3)), {}, r"x has shape \(0, 3\) and so 0 values per channel"),
        (
            np.ones((4, 3)),
            {"gamma": np.ones(2)},
            r"gamma has shape \(2,\), and x with 3 channels needs \(3,\)",
        ),
        (
            np.ones((4, 1)),
            {"beta": np.ones((1, 1))},
            r"beta has shape \(1, 1\), and x with 1 channel needs \(1,\)",
        ),
        (
            np.ones((4, 3)),
            {"training": False},
            r"running_mean is None, and training=False needs it: pass an array",
        ),
        (
            np.ones((4, 3)),
            {"running_mean": np.zeros(3)},
            r"running_var is None, and running_mean and running_var go together",
        ),
        (
            np.ones((4, 3)),
            {"running_mean": np.zeros(3), "training": False},
            r"running_var is None, and training=False needs it",
        ),
        (np.ones((4, 3)), {"momentum": 1.5}, r"momentum is 1.5, and a number from 0 to 1 is needed"),
        (np.ones((4, 3)), {"momentum": np.nan}, r"momentum is nan, and a number from 0 to 1 is needed"),
        (np.ones((4, 3)), {"eps": -1e-5}, r"eps is -1e-05, and a number of at least 0 and finite is needed"),
        (np.ones((4, 3)), {"eps": np.inf}, r"eps is inf, and a number of at least 0 and finite is needed"),
        (np.ones((4, 3)), {"eps": 0}, r"eps is 0, and so is the variance of channel 0: pass eps=1e-5"),
        (np.full((3, 2), 0.1), {"eps": 0}, r"eps is 0, and so is the variance of channel 0"),
        (np.ones((4, 3)), {"layout": "NCHW"}, r"layout is 'NCHW', and it has to be 'channels_first' or"),
    ],
)
def test_batch_norm_says_what_does_not_fit(x: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batch_norm_forward(x, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"training": 1}, r"training is 1, and True or False is needed: pass training=True"),
        ({"eps": True}, r"eps is True, and a number of at least 0 and finite is needed"),
        ({"momentum": None}, r"momentum is None, and a number from 0 to 1 is needed"),
        (
            {"gamma": np.ones(3, np.float32)},
            r"gamma has dtype float32 where the other arguments have float64",
        ),
        (
            {**running(3, np.float32)},
            r"running_mean has dtype float32 where the other arguments have float64",
        ),
        (
            {**running(), "running_var": [1.0, 1.0, 1.0]},
            r"running_var is a list, and training updates it in place",
        ),
        (
            {**running(), "running_mean": np.zeros(3, np.dtype(float).newbyteorder())},
            r"running_mean is a ndarray, and training updates it in place: pass a NumPy array of native byte order",
        ),
    ],
)
def test_batch_norm_says_what_is_of_the_wrong_kind(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        batch_norm_forward(np.ones((4, 3)), **arguments)


def test_batch_norm_refuses_running_arrays_it_cannot_update_alone() -> None:
    x, shared, state = np.ones((4, 3)), np.ones((2, 3)), running()
    with pytest.raises(ValueError, match=r"running_mean and running_var share memory"):
        batch_norm_forward(x, running_mean=shared[0], running_var=shared[0])
    with pytest.raises(ValueError, match=r"x overlaps a running array, which is written to: pass x.copy\(\)"):
        batch_norm_forward(x, running_mean=x[0], running_var=np.ones(3))
    with pytest.raises(ValueError, match=r"gamma overlaps a running array"):
        batch_norm_forward(x, shared[0], running_mean=shared[0], running_var=shared[1])
    state["running_var"].flags.writeable = False
    with pytest.raises(ValueError, match=r"running_var is read-only, and training updates it in place"):
        batch_norm_forward(x, **state)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_refuses_a_negative_running_variance(training: bool) -> None:
    with pytest.raises(ValueError, match=r"running_var\[1\] is -2, and a variance is at least 0: start from"):
        batch_norm_forward(
            np.ones((4, 2)), running_mean=np.zeros(2), running_var=np.array([1.0, -2.0]), training=training
        )


@pytest.mark.parametrize(
    "arguments",
    [
        {"running_var": np.ones(2)},
        {"running_var": np.array([1.0, 1.0, -1.0])},
        {"running_var": np.ones(3, np.float32)},
        {"eps": 0},
        {"gamma": np.ones(2)},
    ],
)
def test_batch_norm_changes_nothing_when_it_refuses(arguments: dict[str, Any]) -> None:
    state = running() | arguments
    before = {name: np.copy(value) for name, value in state.items()}
    with pytest.raises((ValueError, TypeError)):
        batch_norm_forward(np.ones((4, 3)), **state)
    for name, value in before.items():
        np.testing.assert_array_equal(state[name], value)


@pytest.mark.torch
@floats
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(64, 5), (8, 5, 9), (4, 5, 6, 7), (2, 5, 3, 4, 2)])
def test_batch_norm_equals_pytorch(
    shape: tuple[int, ...], training: bool, dtype: str, rng: np.random.Generator, torch: Any
) -> None:
    x, dy = ((2 * rng.standard_normal(shape) + 1).astype(dtype) for _ in range(2))
    gamma, beta, mean, var = (rng.uniform(0.5, 2, 5).astype(dtype) for _ in range(4))
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    state = [torch.tensor(a) for a in (mean, var)]
    expected = torch.nn.functional.batch_norm(tensors[0], *state, *tensors[1:], training, 0.3, 1e-3)
    expected.backward(torch.tensor(dy))
    y, cache = batch_norm_forward(
        x, gamma, beta, running_mean=mean, running_var=var, training=training, momentum=0.3, eps=1e-3
    )
    terms, magnitude = x.size // 5, float(np.abs(dy).sum() / 5)
    assert_close(y, expected.detach().numpy(), terms=terms)
    assert_close(mean, state[0].numpy(), terms=terms)
    assert_close(var, state[1].numpy(), terms=terms)
    dx, *others = batch_norm_backward(dy, cache)
    assert_close(dx, tensors[0].grad.numpy(), terms=terms)
    for ours, tensor in zip(others, tensors[1:], strict=True):
        assert ours is not None
        assert_close(ours, tensor.grad.numpy(), terms=terms, scale=magnitude)


@pytest.mark.torch
def test_batch_norm_is_no_less_accurate_than_pytorch(rng: np.random.Generator, torch: Any) -> None:
    x = (rng.standard_normal((256, 4, 14, 14)) + 30).astype(np.float32)
    wide = x.astype(np.float64)
    axes = (0, 2, 3)
    exact = (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + 1e-5)
    theirs = torch.nn.functional.batch_norm(torch.tensor(x), None, None, training=True).numpy()
    ours = batch_norm_forward(x)[0]
    assert np.sqrt(np.mean((ours - exact) ** 2)) <= np.sqrt(np.mean((theirs - exact) ** 2))
