"""Gradient health against NumPy by hand, its silence towards training, and saliency against finite differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from backlit import nn
from backlit.graph import Tensor
from backlit.inspect import GradientHealth, gradient_health, saliency
from backlit.ops import random
from backlit.train import Run, evaluate, fit
from tolerance import assert_close

CLASSES = 3


def model(dtype: Any = np.float64) -> nn.Sequential:
    with random.using(np.random.default_rng(7)):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(64, CLASSES),
        ).astype(dtype)


def data(samples: int = 20, dtype: Any = np.float64) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(samples, 1, 4, 4)).astype(dtype), rng.integers(0, CLASSES, samples)


def run(trained: nn.Module, **options: Any) -> Any:
    settings = {"epochs": 3, "batch_size": 6, "lr": 0.05, "validation": data(8), "progress": False}
    return fit(trained, data(), **(settings | options))


def test_gradient_health_does_not_change_the_bits_of_training() -> None:
    with_it, without = model(), model()
    histories = [run(with_it, callbacks=[GradientHealth(*data(8))]), run(without)]
    for name, array in without.state_dict().items():
        np.testing.assert_array_equal(with_it.state_dict()[name], array, name)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "lr"):
        assert histories[0][name] == histories[1][name]


def test_gradient_health_leaves_gradients_modes_and_random_state_as_they_were() -> None:
    health = GradientHealth(*data(8))
    seen: list[bool] = []

    def check(event: str, run: Run) -> None:
        if event != "epoch":
            health(event, run)
            return
        run.model[1].eval()  # type: ignore[index]
        before = [random.generator().bit_generator.state, [m.training for m in run.model.modules()]]
        gradients = [parameter.grad for parameter in run.model.parameters()]
        buffers = [buffer.copy() for buffer in run.model.buffers()]
        health(event, run)
        seen.append(
            before == [random.generator().bit_generator.state, [m.training for m in run.model.modules()]]
        )
        seen.extend(p.grad is g for p, g in zip(run.model.parameters(), gradients, strict=True))
        seen.extend((a == b).all() for a, b in zip(run.model.buffers(), buffers, strict=True))
        seen.append(not any(m._hooks for m in run.model.modules()))

    run(model(), callbacks=[check])
    assert all(seen)
    assert len(seen) == 3 * (1 + 6 + 3 + 1)


def test_gradient_health_names_every_parameter_and_relu() -> None:
    columns = run(model(), callbacks=[GradientHealth(*data(8))]).columns
    parameters = [name for name, _ in model().named_parameters()]
    expected = [f"{measure}/{name}" for measure in ("grad_norm", "update_ratio") for name in parameters]
    assert [name for name in columns if "/" in name] == [*expected, "dead/2"]


def test_gradient_norms_are_those_of_finite_differences() -> None:
    trained = model()
    x, y = data(8)
    history = run(trained, callbacks=[GradientHealth(x, y)])
    bias = trained[5].bias.data  # (3,)
    gradient, step = np.zeros(CLASSES), 1e-5
    for k in range(CLASSES):
        losses = []
        for sign in (1, -1):
            bias[k] += sign * step
            losses.append(evaluate(trained, x, y)["loss"])
            bias[k] -= sign * step
        gradient[k] = (losses[0] - losses[1]) / (2 * step)  # type: ignore[operator]
    assert_close(history["grad_norm/5.bias"][-1], np.linalg.norm(gradient), terms=100, differenced=True)


def test_update_ratios_compare_the_last_step_with_the_weight_before_it() -> None:
    before: dict[int, Any] = {}
    expected: list[float] = []

    def follow(event: str, run: Run) -> None:
        weight = run.model[5].weight.data  # type: ignore[index]
        if event == "gradients":
            before[run.step] = weight.copy()
        if event == "update" and run.step == run.steps_per_epoch:
            old = before[run.step]
            expected.append(math.sqrt(((weight - old) ** 2).sum()) / math.sqrt((old**2).sum()))

    history = run(model(), callbacks=[GradientHealth(*data(8)), follow])
    assert_close(history["update_ratio/5.weight"], expected, terms=64 * CLASSES)


def test_dead_units_are_those_that_are_zero_for_every_probe_image() -> None:
    trained = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    trained[0].weight.data[...] = [[1, 0], [-1, 0], [0, 0], [0, 1]]
    trained[0].bias.data[...] = [0, 0, -1, 0]
    x = np.array([[1, -1], [2, -3]], np.float32)  # the units 1, 2 and 3 stay at zero
    history = fit(trained, (x, np.array([0, 1])), epochs=1, batch_size=2, lr=0.0, progress=False,
                  callbacks=[GradientHealth(x, np.array([0, 1]))])  # fmt: skip
    assert history["dead/1"] == [0.75]


def test_dead_channels_count_as_alive_when_one_pixel_is() -> None:
    trained = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    trained[0].weight.data[...] = np.array([1, -1]).reshape(2, 1, 1, 1)
    trained[0].bias.data[...] = 0
    x = np.zeros((3, 1, 2, 2), np.float32)
    x[2, 0, 1, 1] = 1
    y = np.array([0, 1, 0])
    history = fit(
        trained, (x, y), epochs=1, batch_size=3, lr=0.0, progress=False, callbacks=[GradientHealth(x, y)]
    )
    assert history["dead/1"] == [0.5]


class Functional(nn.Module):
    """Three ReLUs, of which one is a module of a name that a number could have; the loss may add one of its own."""

    def __init__(self) -> None:
        self.first = nn.Linear(2, 4)
        self.second = nn.Linear(4, 2)
        self.relu1 = nn.ReLU()
        self.first.weight.data[...] = [[1, 0], [-1, 0], [0, 0], [0, 1]]
        self.first.bias.data[...] = [0, 0, -1, 0]
        self.second.weight.data[...] = [[1, 0, 0, 0], [-1, 0, 0, 0]]
        self.second.bias.data[...] = 0

    def forward(self, x: Any) -> Tensor:
        return self.relu1(nn.functional.relu(self.second(nn.functional.relu(self.first(x))))) - 1


FUNCTIONAL_X = np.array(
    [[1, -1], [2, -3]], np.float32
)  # the first layer's units 1, 2, 3 stay at zero, the second's 1


def dead_columns(trained: nn.Module, **options: Any) -> dict[str, Any]:
    y = options.pop("y", np.array([0, 1]))
    health = GradientHealth(FUNCTIONAL_X, y, **options)
    history = fit(trained, (FUNCTIONAL_X, y), epochs=1, batch_size=2, lr=0.0, progress=False,
                  callbacks=[health], **options)  # fmt: skip
    return {name: history[name] for name in history.columns if name.startswith("dead/")}


def test_dead_units_of_functional_relus_are_counted_in_order_of_computation() -> None:
    assert dead_columns(Functional()) == {"dead/relu1": [0.5], "dead/relu2": [0.75], "dead/relu3": [0.5]}


def test_dead_units_are_counted_in_frozen_layers() -> None:
    trained = Functional()
    trained.first.weight.requires_grad = trained.first.bias.requires_grad = False
    assert dead_columns(trained)["dead/relu2"] == [0.75]


def test_dead_units_are_those_of_the_model_not_of_the_loss() -> None:
    def hinge(output: Tensor, y: Any) -> Tensor:
        return nn.functional.relu(1 - output).mean()

    columns = dead_columns(Functional(), loss=hinge, y=np.zeros((2, 2), np.float32))
    assert list(columns) == ["dead/relu1", "dead/relu2", "dead/relu3"]


def test_gradient_health_takes_the_loss_of_the_run() -> None:
    x = np.random.default_rng(0).normal(size=(10, 2))
    trained = nn.Linear(2, 2).astype(np.float64)
    health = GradientHealth(x, 2 * x, loss="mse")
    history = fit(
        trained, (x, 2 * x), epochs=1, batch_size=5, lr=0.1, loss="mse", progress=False, callbacks=[health]
    )
    error = x @ trained.weight.data.T + trained.bias.data - 2 * x
    assert_close(history["grad_norm/weight"], [np.linalg.norm(2 / error.size * error.T @ x)], terms=40)


def test_gradient_health_says_how_a_probe_does_not_fit() -> None:
    x, y = data(8)
    with pytest.raises(ValueError, match="probe_y holds the label 5, and this model's 3 outputs"):
        run(model(), callbacks=[GradientHealth(x, y + 3)])


def test_saliency_is_the_gradient_of_the_loss_by_finite_differences() -> None:
    trained = model()
    x, y = data(2)
    measured = saliency(trained, x, y)
    trained.eval()

    def loss(images: Any) -> float:
        return 2 * float(evaluate(trained, images, y)["loss"] or 0)  # the sum over the two images

    expected, step = np.zeros_like(x), 1e-5
    for at in np.ndindex(*x.shape):
        above, below = x.copy(), x.copy()
        above[at] += step
        below[at] -= step
        expected[at] = abs(loss(above) - loss(below)) / (2 * step)
    assert_close(measured, expected, terms=200, differenced=True)


def test_saliency_of_one_image_does_not_depend_on_the_others() -> None:
    trained = model()
    x, y = data(4)
    together = saliency(trained, x, y)
    for n in range(4):
        assert_close(saliency(trained, x[n : n + 1], y[n]), together[n : n + 1], terms=200)


def test_saliency_takes_the_predicted_class_where_none_is_given() -> None:
    trained = model()
    x, _ = data(4)
    predicted = trained.eval()(x).numpy().argmax(axis=1)
    np.testing.assert_array_equal(saliency(trained, x), saliency(trained, x, predicted))


def test_saliency_leaves_gradients_and_modes_as_they_were() -> None:
    trained = model()
    trained[1].eval()
    saliency(trained, *data(4))
    assert all(parameter.grad is None for parameter in trained.parameters())
    assert [module.training for module in trained.modules()] == [True, True, False, True, True, True, True]


def test_saliency_keeps_shape_and_dtype() -> None:
    x, y = data(4, np.float32)
    result = saliency(model(np.float32), x, y)
    assert (result.shape, result.dtype) == (x.shape, x.dtype)
    assert (result >= 0).all()


def test_saliency_refuses_outputs_that_are_no_logits() -> None:
    with pytest.raises(ValueError, match=r"model returns the shape \(4, 4, 4, 4\), and saliency needs"):
        saliency(model()[0], data(4)[0])


def test_saliency_refuses_a_model_that_is_none() -> None:
    with pytest.raises(TypeError, match=r"^model is None, and has to be a backlit\.nn\.Module\.$"):
        saliency(None, data()[0])  # type: ignore[arg-type]


def test_norm_has_the_same_bits_for_any_number_of_blas_threads() -> None:
    array = np.random.default_rng(0).normal(size=1_000_003)
    norms = set()
    for threads in (1, 2, 3, 4):
        with threadpool_limits(threads, user_api="blas"):
            norms.add(gradient_health._norm(array))
    assert len(norms) == 1
