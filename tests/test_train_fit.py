"""fit against training loops written out by hand in NumPy, and what it says of arguments that are wrong."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backlit import nn, optim
from backlit.ops import random
from backlit.train import Run, evaluate, fit, predict
from backlit.train.checkpoint import Checkpoint
from tolerance import assert_close

SAMPLES, FEATURES, CLASSES = 23, 4, 3


def linear() -> nn.Linear:
    """A linear classifier with weights that are the same every time."""
    with random.using(np.random.default_rng(7)):
        return nn.Linear(FEATURES, CLASSES).astype(np.float64)


def data(samples: int = SAMPLES, seed: int = 1) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, FEATURES))
    return x, (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0.5)


def quiet(model: nn.Module, samples: Any, **options: Any) -> Any:
    settings = {"epochs": 2, "batch_size": 5, "lr": 0.1, "optimizer": "sgd", "progress": False}
    return fit(model, samples, **(settings | options))


def softmax(logits: Any) -> Any:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def by_hand(
    x: Any, y: Any, *, epochs: int, batch_size: int, lr: Any, seed: int = 0, limit: float = math.inf
) -> Any:
    """Softmax regression by gradient descent: weights (out, in), bias, and for each epoch its loss and accuracy."""
    model = linear()
    w, b = model.weight.data.copy(), model.bias.data.copy()
    rng = np.random.Generator(np.random.PCG64(seed))
    rows, step = [], 0
    for _ in range(epochs):
        order = rng.permutation(len(x))
        losses, right = [], 0
        for start in range(0, len(x), batch_size):
            chosen = order[start : start + batch_size]
            p = softmax(x[chosen] @ w.T + b)
            onehot = np.eye(CLASSES)[y[chosen]]
            losses += list(-np.log(p[np.arange(len(chosen)), y[chosen]]))
            right += int((p.argmax(axis=1) == y[chosen]).sum())
            dlogits = (p - onehot) / len(chosen)
            dw, db = dlogits.T @ x[chosen], dlogits.sum(axis=0)
            factor = min(1.0, limit / math.sqrt((dw**2).sum() + (db**2).sum()))
            rate = lr(step) if callable(lr) else lr
            w, b = w - rate * factor * dw, b - rate * factor * db
            step += 1
        rows.append((np.mean(losses), right / len(x)))
    return w, b, rows


def test_fit_does_the_steps_that_numpy_does_by_hand() -> None:
    x, y = data()
    model = linear()
    history = quiet(model, (x, y), epochs=3)
    w, b, rows = by_hand(x, y, epochs=3, batch_size=5, lr=0.1)
    assert_close(model.weight.data, w, terms=15 * SAMPLES)
    assert_close(model.bias.data, b, terms=15 * SAMPLES)
    assert_close(history["loss"], [row[0] for row in rows], terms=15 * SAMPLES)
    assert history["accuracy"] == [row[1] for row in rows]


def test_fit_clips_the_norm_of_all_gradients_together() -> None:
    x, y = data()
    model = linear()
    quiet(model, (x, y), clip_norm=0.05)
    w, _, _ = by_hand(x, y, epochs=2, batch_size=5, lr=0.1, limit=0.05)
    assert_close(model.weight.data, w, terms=10 * SAMPLES)


def test_fit_follows_a_schedule_after_a_warm_up() -> None:
    x, y = data()
    model = linear()
    history = quiet(model, (x, y), epochs=4, schedule="cosine", warmup_epochs=1)
    steps = 5  # in an epoch

    def rate(step: int) -> float:
        if step < steps:
            return 0.1 * (step + 1) / steps
        return 0.1 * (1 + math.cos(math.pi * (step - steps) / (3 * steps))) / 2

    w, _, _ = by_hand(x, y, epochs=4, batch_size=5, lr=rate)
    assert_close(model.weight.data, w, terms=20 * SAMPLES)
    assert_close(history["lr"], [rate(steps * epoch + 4) for epoch in range(4)], terms=4)


def test_fit_takes_a_schedule_that_is_a_function() -> None:
    x, y = data()
    model = linear()
    history = quiet(model, (x, y), schedule=lambda step, total: step / total)
    assert_close(history["lr"], [0.1 * 4 / 10, 0.1 * 9 / 10], terms=2)


def test_fit_minimises_the_squared_error_by_hand() -> None:
    x, _ = data()
    targets = x[:, :CLASSES] * 2
    model = linear()
    history = quiet(model, (x, targets), loss="mse", epochs=1, batch_size=SAMPLES)
    start = linear()
    difference = x @ start.weight.data.T + start.bias.data - targets
    assert_close(history["loss"], [np.mean(difference**2)], terms=SAMPLES * CLASSES)
    dw = 2 / difference.size * difference.T @ x
    assert_close(model.weight.data, start.weight.data - 0.1 * dw, terms=SAMPLES)
    assert history["accuracy"] == [None]


def test_fit_with_a_loss_module_gives_the_bits_of_its_name() -> None:
    named, given = linear(), linear()
    quiet(named, data())
    quiet(given, data(), loss=nn.CrossEntropyLoss())
    np.testing.assert_array_equal(named.weight.data, given.weight.data)


def test_fit_gives_a_loss_function_the_targets_as_a_tensor() -> None:
    x, _ = data()
    named, given = linear(), linear()
    quiet(named, (x, x[:, :CLASSES]), loss="mse")
    quiet(given, (x, x[:, :CLASSES]), loss=lambda output, target: ((target - output) ** 2).mean())
    assert_close(given.weight.data, named.weight.data, terms=10 * SAMPLES)


def test_fit_with_an_optimizer_that_was_made_gives_the_bits_of_its_name() -> None:
    named, given = linear(), linear()
    quiet(named, data(), optimizer="adam")
    quiet(given, data(), optimizer=optim.Adam(given.parameters(), lr=123.0))
    np.testing.assert_array_equal(named.weight.data, given.weight.data)


def test_fit_leaves_weight_decay_to_the_optimizer_where_none_is_given() -> None:
    named, given = linear(), linear()
    quiet(named, data(), optimizer="adamw")
    quiet(given, data(), optimizer="adamw", weight_decay=0.01)
    np.testing.assert_array_equal(named.weight.data, given.weight.data)


def test_fit_gives_the_same_bits_for_the_same_seed_and_others_for_another() -> None:
    models = [linear() for _ in range(3)]
    for model, seed in zip(models, (5, 5, 6), strict=True):
        quiet(model, data(), seed=seed)
    np.testing.assert_array_equal(models[0].weight.data, models[1].weight.data)
    assert (models[0].weight.data != models[2].weight.data).any()


def test_fit_leaves_the_generator_of_the_process_alone() -> None:
    random.manual_seed(3)
    expected = random.generator().random(2)
    random.manual_seed(3)
    first = random.generator().random()
    quiet(nn.Sequential(linear(), nn.Dropout(0.5)), data())
    assert [first, random.generator().random()] == list(expected)


@pytest.mark.parametrize(
    ("samples", "batch_size", "sizes"),
    [
        (10, 5, [5, 5]),
        (12, 5, [5, 5, 2]),
        (11, 5, [5, 6]),
        (1, 5, [1]),
        (3, 1, [1, 1, 1]),
        (6, 5, [6]),
        (4, 9, [4]),
    ],
)
def test_fit_lets_no_batch_of_one_sample_stand_alone(samples: int, batch_size: int, sizes: list[int]) -> None:
    seen = []

    def note(event: str, run: Run) -> None:
        if event == "update":
            assert run.batch is not None
            seen.append(len(run.batch[0]))

    quiet(linear(), data(samples), epochs=1, batch_size=batch_size, callbacks=[note])
    assert seen == sizes


def test_fit_visits_every_sample_once_in_an_epoch() -> None:
    x = np.arange(11.0)[:, None] * np.ones(FEATURES)
    seen: list[float] = []

    def note(event: str, run: Run) -> None:
        if event == "gradients":
            assert run.batch is not None
            seen.extend(run.batch[0][:, 0])

    quiet(linear(), (x, np.zeros(11, np.int64)), epochs=2, lr=0.0, callbacks=[note])
    assert sorted(seen[:11]) == sorted(seen[11:]) == list(range(11))
    assert seen[:11] != seen[11:]


def test_fit_trains_batch_norm_though_one_sample_is_left_over() -> None:
    model = nn.Sequential(nn.Linear(FEATURES, 6), nn.BatchNorm1d(6), nn.Linear(6, CLASSES)).astype(np.float64)
    history = quiet(model, data(11))
    assert len(history) == 2


def test_fit_tells_callbacks_the_events_in_order() -> None:
    events: list[Any] = []
    quiet(linear(), data(10), callbacks=[lambda event, run: events.append((event, run.epoch, run.step))])
    epochs = [
        [(event, epoch, step) for step in (1, 2) for event in ("gradients", "update")] + [("epoch", epoch, 2)]
        for epoch in (1, 2)
    ]
    assert events == [("start", 0, 0), *epochs[0], *epochs[1], ("end", 2, 0)]


def test_fit_puts_the_metrics_of_callbacks_into_the_row() -> None:
    def measure(event: str, run: Run) -> None:
        if event == "epoch":
            run.metrics["twice the loss"] = 2 * run.row["loss"]

    history = quiet(linear(), data(), callbacks=[measure])
    assert history["twice the loss"] == [2 * loss for loss in history["loss"]]


def test_fit_refuses_metrics_under_the_names_of_its_own_columns() -> None:
    def measure(event: str, run: Run) -> None:
        if event == "epoch":
            run.metrics["loss"] = 0.0

    with pytest.raises(ValueError, match=r"run\.metrics\['loss'\], which is a column of fit's own"):
        quiet(linear(), data(), callbacks=[measure])


def test_fit_ends_at_the_next_batch_boundary_when_a_callback_asks() -> None:
    steps: list[int] = []

    def stop(event: str, run: Run) -> None:
        if event == "update":
            steps.append(run.step)
            run.stop = run.epoch == 2 and run.step == 2

    history = quiet(linear(), data(), epochs=9, callbacks=[stop])
    assert steps == [1, 2, 3, 4, 5, 1, 2]
    assert (len(history), history.stopped_early, history.interrupted) == (1, True, False)


def test_fit_measures_validation_as_evaluate_does_after_the_epoch() -> None:
    model = nn.Sequential(linear(), nn.Dropout(0.4))
    held_out = data(7, seed=2)
    history = quiet(model, data(), validation=held_out)
    measured = evaluate(model, *held_out, batch_size=5)
    assert (history["val_loss"][-1], history["val_accuracy"][-1]) == (measured["loss"], measured["accuracy"])


def test_fit_trains_to_the_same_bits_with_and_without_validation() -> None:
    models = [nn.Sequential(linear(), nn.Dropout(0.4)) for _ in range(2)]
    quiet(models[0], data())
    quiet(models[1], data(), validation=data(7, seed=2))
    np.testing.assert_array_equal(models[0][0].weight.data, models[1][0].weight.data)


def test_fit_stops_early_after_epochs_without_a_new_lowest_validation_loss() -> None:
    x, y = data()
    history = quiet(linear(), (x, y), epochs=50, lr=0.5, validation=(x, (y + 1) % CLASSES), early_stopping=3)
    losses = history["val_loss"]
    assert history.stopped_early
    assert len(losses) < 50
    assert len(losses) - 1 - losses.index(min(losses)) == 3


def test_fit_stops_early_by_the_training_loss_without_validation() -> None:
    history = quiet(linear(), data(), epochs=9, lr=0.0, early_stopping=2, batch_size=SAMPLES)
    assert history.stopped_early
    assert len(history) <= 4  # a learning rate of zero: the sums differ in their order only


def test_fit_leaves_the_model_in_evaluation_mode() -> None:
    model = nn.Sequential(linear(), nn.Dropout(0.5))
    quiet(model, data())
    assert not any(module.training for module in model.modules())


def test_fit_learns_from_spatial_labels() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 1, 4, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    history = quiet(nn.Conv2d(1, 2, 1), (x, y), epochs=30, lr=0.1, optimizer="adam")
    assert history["accuracy"][-1] > 0.9


def test_fit_that_diverges_names_epoch_and_step() -> None:
    x, _ = data()
    with pytest.raises(
        FloatingPointError, match=r"the loss became (inf|nan) in epoch \d+, step \d of 5: use a lower"
    ):
        quiet(linear(), (x, x[:, :CLASSES]), loss="mse", epochs=500, lr=1e3)


def test_fit_names_the_step_where_the_data_hold_nan() -> None:
    x, y = data()
    x[3] = np.nan
    with pytest.raises(FloatingPointError, match=r"the loss became nan in epoch 1, step \d of 5"):
        quiet(linear(), (x, y))


def test_fit_refuses_weights_that_became_infinite_in_the_last_step() -> None:
    def break_it(event: str, run: Run) -> None:
        if event == "update" and run.step == run.steps_per_epoch:
            run.model.weight.data[0, 0] = np.inf

    with pytest.raises(FloatingPointError, match="weight became NaN or infinite in epoch 1"):
        quiet(linear(), data(), callbacks=[break_it])


X, Y = data()
WRONG: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("epochs-zero", {"epochs": 0}, ValueError, "epochs is 0, and it has to be at least 1"),
    ("epochs-float", {"epochs": 1.5}, TypeError, "epochs is 1.5, and an integer is needed"),
    ("batch-size-zero", {"batch_size": 0}, ValueError, "batch_size is 0, and it has to be at least 1"),
    ("batch-size-bool", {"batch_size": True}, TypeError, "batch_size is True, and an integer is needed"),
    ("lr-negative", {"lr": -0.1}, ValueError, "lr is -0.1"),
    ("lr-nan", {"lr": math.nan}, ValueError, "lr is nan"),
    ("lr-text", {"lr": "0.1"}, TypeError, "lr is '0.1', and a number"),
    ("seed-negative", {"seed": -1}, ValueError, "seed is -1"),
    ("optimizer-name", {"optimizer": "rmsprop"}, ValueError, "one of 'sgd', 'adam', 'adamw'"),
    ("optimizer-kind", {"optimizer": 3}, TypeError, "optimizer is 3, and one of"),
    (
        "loss-name",
        {"loss": "hinge"},
        ValueError,
        "loss is 'hinge', and has to be one of 'cross_entropy', 'mse'",
    ),
    ("loss-kind", {"loss": 3}, TypeError, "loss is a int"),
    (
        "schedule-name",
        {"schedule": "linear"},
        ValueError,
        "schedule is 'linear'.* 'constant', 'step', 'cosine'",
    ),
    ("schedule-kind", {"schedule": 3}, TypeError, "schedule is 3"),
    ("warm-up", {"schedule": max, "warmup_epochs": 2}, ValueError, "CosineLR\\(warmup_steps=10\\)"),
    ("clip", {"clip_norm": 0}, ValueError, "clip_norm is 0, and has to be above 0; None switches it off"),
    ("patience", {"early_stopping": 0}, ValueError, "early_stopping is 0"),
    ("callbacks", {"callbacks": print}, TypeError, "callbacks is .*, and a list is needed"),
    ("callback", {"callbacks": [3]}, TypeError, "callbacks holds 3, and functions of \\(event, run\\)"),
    ("classes", {"classes": 10}, ValueError, "classes is 10, and the model has 3 outputs"),
    ("resume", {"resume": True}, ValueError, "resume is True without a checkpoint"),
    (
        "validation-pair",
        {"validation": X},
        TypeError,
        "come as a pair of arrays \\(x, y\\), and this is a ndarray",
    ),
    ("validation-shape", {"validation": (X[:, :2], Y)}, ValueError, "Linear|in_features"),
    ("validation-labels", {"validation": (X, Y + 3)}, ValueError, "validation\\[1\\] holds the label"),
    ("validation-length", {"validation": (X, Y[1:])}, ValueError, "23 samples and validation\\[1\\] has 22"),
]


@pytest.mark.parametrize(
    ("options", "kind", "message"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_fit_says_what_is_wrong_with_an_argument(options: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        quiet(linear(), (X, Y), **options)


UNFIT: list[tuple[str, Any, type[Exception], str]] = [
    ("no-pair", X, TypeError, "x and y come as a pair"),
    ("three", (X, Y, Y), TypeError, "this is a tuple of 3"),
    ("lengths", (X, Y[:-1]), ValueError, "x has 23 samples and y has 22: both need as many"),
    ("empty", (X[:0], Y[:0]), ValueError, "x has no samples: its shape is (0, 4)"),
    ("float32", (X.astype(np.float32), Y), TypeError, "pass x.astype(np.float64)"),
    ("integers", (X.astype(int), Y), TypeError, "x has dtype int64"),
    (
        "label-high",
        (X, Y + 1),
        ValueError,
        "y holds the label 3, and this model's 3 outputs stand for the labels 0 to 2",
    ),
    ("label-negative", (X, Y - 1), ValueError, "y holds the label -1"),
    ("label-float", (X, Y.astype(float)), TypeError, "y has dtype float64, and an integer array is needed"),
    ("one-hot", (X, np.eye(3)[Y]), TypeError, "where it is one-hot, pass y.argmax(axis=1)"),
    (
        "column",
        (X, Y[:, None]),
        ValueError,
        "y has shape (23, 1), and labels for logits of shape (23, 3) need (23,)",
    ),
    ("scalar", (X, 1), ValueError, "x has 23 samples and y is a single number"),
]


@pytest.mark.parametrize(
    ("given", "kind", "message"), [row[1:] for row in UNFIT], ids=[row[0] for row in UNFIT]
)
def test_fit_says_how_data_do_not_fit(given: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        quiet(linear(), given)


def test_fit_refuses_targets_of_another_shape_than_the_outputs() -> None:
    with pytest.raises(
        ValueError, match=re.escape("y has shape (23, 4), and for this model's outputs it needs (23, 3)")
    ):
        quiet(linear(), (X, X), loss="mse")


def test_fit_refuses_an_optimizer_of_another_model() -> None:
    with pytest.raises(ValueError, match="parameters that are not this model's"):
        quiet(linear(), (X, Y), optimizer=optim.SGD(linear().parameters(), lr=0.1))


def test_fit_refuses_a_model_with_nothing_to_train() -> None:
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        quiet(linear().requires_grad_(False), (X, Y))


def test_fit_refuses_what_is_no_module() -> None:
    with pytest.raises(TypeError, match="model is a function, and has to be"):
        quiet(linear, (X, Y))  # type: ignore[arg-type]


def test_fit_refuses_a_loss_that_is_no_scalar() -> None:
    with pytest.raises(
        TypeError, match=re.escape("loss returned a Tensor of shape (5,), and has to return a scalar")
    ):
        quiet(linear(), (X, Y), loss=nn.CrossEntropyLoss(reduction="none"))


def test_predict_gives_the_models_outputs_in_any_batch_size() -> None:
    model = linear()
    expected = X @ model.weight.data.T + model.bias.data
    for batch_size in (1, 5, 23, 100):
        assert_close(predict(model, X, batch_size), expected, terms=FEATURES + 1)


def test_predict_of_nothing_is_empty() -> None:
    assert predict(linear(), X[:0]).shape == (0, CLASSES)


def test_predict_evaluates_and_leaves_every_mode_as_it_was() -> None:
    model = nn.Sequential(linear(), nn.Dropout(0.5), nn.ReLU())
    model[2].eval()
    np.testing.assert_array_equal(predict(model, X), predict(model, X))
    assert [module.training for module in model.modules()] == [True, True, True, False]


def test_evaluate_averages_over_samples_whatever_the_batches() -> None:
    model = linear()
    p = softmax(X @ model.weight.data.T + model.bias.data)
    measured = evaluate(model, X, Y, batch_size=7)
    assert_close(measured["loss"], -np.log(p[np.arange(SAMPLES), Y]).mean(), terms=SAMPLES)
    assert measured["accuracy"] == (p.argmax(axis=1) == Y).mean()


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", nn.CrossEntropyLoss()], ids=str)
def test_fit_and_evaluate_refuse_targets_of_uneven_rows(loss: Any) -> None:
    x = data()[0][:2]
    for call in (lambda y: quiet(linear(), (x, y), loss=loss), lambda y: evaluate(linear(), x, y, loss=loss)):
        with pytest.raises(ValueError, match=r"^y is a list that cannot be read as an array"):
            call([[1], [1, 2]])


def test_predict_evaluate_and_fit_refuse_a_model_that_is_none() -> None:
    x, y = data()
    for call in (
        lambda model: predict(model, x),
        lambda model: evaluate(model, x, y),
        lambda model: quiet(model, (x, y)),
    ):
        with pytest.raises(TypeError, match=r"^model is None, and has to be a backlit\.nn\.Module\.$"):
            call(None)
        with pytest.raises(TypeError, match=r"^model is a str, and has to be a backlit\.nn\.Module\.$"):
            call("m")


@pytest.mark.parametrize("model", [nn.Sequential(), nn.Flatten(0)], ids=["identity", "view"])
def test_predict_shares_no_memory_with_its_input(model: nn.Module) -> None:
    x = np.ones((3, 4), np.float32)
    assert not np.shares_memory(predict(model, x), x)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a", None, r"a callback set run\.metrics\['a'\] to None, and a number is needed"),
        ("a", "much", r"run\.metrics\['a'\] to 'much', and a number is needed"),
        ("a", np.zeros(2), r"run\.metrics\['a'\] to array"),
        (3, 1.0, r"run\.metrics\[3\], and the name of a column is a text"),
    ],
)
def test_fit_names_a_metric_that_is_no_number_and_keeps_the_row(
    tmp_path: Path, name: Any, value: Any, message: str
) -> None:
    seen: list[Run] = []

    def spoil(event: str, run: Run) -> None:
        seen.append(run)
        if event == "epoch" and run.epoch == 2:
            run.metrics[name] = value

    with pytest.raises(TypeError, match=message):
        quiet(linear(), data(), epochs=3, callbacks=[spoil], checkpoint=tmp_path / "c")
    assert seen[0].history["epoch"] == [1, 2]
    assert [row["epoch"] for row in Checkpoint.read(tmp_path / "c").progress["history"]] == [1, 2]
