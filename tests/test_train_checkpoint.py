"""Checkpoints: a run that was stopped anywhere, by anything, goes on to the bits of one that never stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from backlit import nn, optim
from backlit.ops import random
from backlit.train import History, Run, fit
from backlit.train.checkpoint import Checkpoint, data_fingerprint
from backlit.train.history import TIME_COLUMNS

EPOCHS, BATCH = 3, 8


def model(dropout: float = 0.3) -> nn.Sequential:
    """A convnet with all that has a state: batch norm's buffers, dropout's random numbers."""
    with random.using(np.random.default_rng(7)):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(64, 3),
        )


def data(seed: int = 1) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(37, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, 37)


def run(trained: nn.Module, path: Path | None = None, **options: Any) -> History:
    settings: dict[str, Any] = {
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "lr": 0.01,
        "schedule": "cosine",
        "validation": data(2),
        "seed": 3,
        "checkpoint": path,
        "progress": False,
    }
    return fit(trained, data(), **(settings | options))


def stop_at(epoch: int, step: int) -> Any:
    """A callback that ends the run after a certain step."""

    def stop(event: str, run: Run) -> None:
        run.stop = run.stop or (event == "update" and (run.epoch, run.step) == (epoch, step))

    return stop


def assert_same_weights(actual: nn.Module, expected: nn.Module) -> None:
    for name, array in expected.state_dict().items():
        np.testing.assert_array_equal(actual.state_dict()[name], array, name)


def assert_same_history(actual: History, expected: History) -> None:
    assert actual.columns == expected.columns
    for name in expected.columns:
        if name not in TIME_COLUMNS:
            assert actual[name] == expected[name], name


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda parameters: optim.SGD(parameters, lr=1.0),
    "momentum": lambda parameters: optim.SGD(
        parameters, lr=1.0, momentum=0.9, nesterov=True, weight_decay=0.01
    ),
    "adam": lambda parameters: optim.Adam(parameters, lr=1.0),
    "adamw": lambda parameters: optim.AdamW(parameters, lr=1.0),
}


@pytest.mark.parametrize("stop", [(1, 1), (1, 5), (2, 2), (2, 5), (3, 4)], ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resuming_gives_the_bits_of_a_run_that_never_stopped(
    tmp_path: Path, optimizer: str, stop: tuple[int, int]
) -> None:
    path = tmp_path / "run.safetensors"
    straight, first, second = model(), model(), model()
    make = OPTIMIZERS[optimizer]
    expected = run(straight, optimizer=make(straight.parameters()))
    run(first, path, optimizer=make(first.parameters()), callbacks=[stop_at(*stop)])
    second[0].weight.data[...] = 0  # what the model was before does not matter
    history = run(second, path, optimizer=make(second.parameters()), resume=True)
    assert_same_weights(second, straight)
    assert_same_history(history, expected)


def test_resuming_again_and_again_gives_the_same_bits(tmp_path: Path) -> None:
    straight, stopped = model(), model()
    expected = run(straight)
    for stop in ((1, 1), (1, 2), (2, 1), (2, 5), (3, 2)):
        run(stopped, tmp_path / "c", callbacks=[stop_at(*stop)], resume=True)
        stopped = model()
    assert_same_history(run(stopped, tmp_path / "c", resume=True), expected)
    assert_same_weights(stopped, straight)


def test_a_checkpoint_holds_the_optimisers_state_after_the_last_epoch(tmp_path: Path) -> None:
    straight, longer = model(), model()
    expected = run(straight, schedule="constant", epochs=4)
    run(model(), tmp_path / "c", schedule="constant", epochs=2)
    history = run(longer, tmp_path / "c", schedule="constant", epochs=4, resume=True)
    assert_same_weights(longer, straight)
    assert_same_history(history, expected)


def test_resuming_a_finished_run_trains_no_more(tmp_path: Path) -> None:
    trained, loaded = model(), model()
    expected = run(trained, tmp_path / "c")
    content = (tmp_path / "c").read_bytes()
    assert_same_history(run(loaded, tmp_path / "c", resume=True), expected)
    assert_same_weights(loaded, trained)
    assert (tmp_path / "c").read_bytes() == content


def test_resuming_a_run_that_early_stopping_ended_trains_no_more(tmp_path: Path) -> None:
    options = {"epochs": 30, "lr": 0.5, "early_stopping": 1, "schedule": "constant"}
    trained, loaded = model(), model()
    expected = run(trained, tmp_path / "c", **options)
    history = run(loaded, tmp_path / "c", resume=True, **options)
    assert expected.stopped_early
    assert history.stopped_early
    assert_same_history(history, expected)


def test_resume_without_a_file_begins_the_run(tmp_path: Path) -> None:
    straight, begun = model(), model()
    expected = run(straight)
    assert_same_history(run(begun, tmp_path / "c", resume=True), expected)
    assert (tmp_path / "c").exists()


def test_without_resume_a_run_begins_anew_and_writes_over_the_checkpoint(tmp_path: Path) -> None:
    straight, again = model(), model()
    run(model(), tmp_path / "c", seed=9)
    expected = run(straight)
    assert_same_history(run(again, tmp_path / "c"), expected)
    assert Checkpoint.read(tmp_path / "c").settings["seed"] == 3


def test_a_checkpoint_changes_nothing_about_the_training(tmp_path: Path) -> None:
    with_one, without = model(), model()
    assert_same_history(run(with_one, tmp_path / "c"), run(without))
    assert_same_weights(with_one, without)


DIFFERENT: list[tuple[str, dict[str, Any], str]] = [
    ("lr", {"lr": 0.02}, "lr was 0.01 and is now 0.02"),
    ("batch", {"batch_size": 9}, "batch_size was 8 and is now 9"),
    ("seed", {"seed": 4}, "seed was 3 and is now 4"),
    ("optimizer", {"optimizer": "sgd"}, "optimizer was Adam(.*) and is now SGD(.*)"),
    ("decay", {"weight_decay": 0.1}, "weight_decay=0.0.* and is now .*weight_decay=0.1"),
    ("schedule", {"schedule": "constant"}, "schedule was CosineLR(.*) and is now ConstantLR(.*)"),
    ("clip", {"clip_norm": 1.0}, "clip_norm was None and is now 1.0"),
    ("early", {"early_stopping": 2}, "early_stopping was None and is now 2"),
    ("validation", {"validation": None}, "validation was x float32 .* and is now none"),
    ("loss", {"loss": nn.CrossEntropyLoss()}, "loss was cross_entropy and is now CrossEntropyLoss()"),
    ("two", {"lr": 0.02, "seed": 4}, "lr was 0.01 and is now 0.02; seed was 3 and is now 4"),
    (
        "epochs",
        {"epochs": 2},
        "epochs is 2, and the run in .* is in its epoch 3 already: resume with epochs=3",
    ),
]


@pytest.mark.parametrize(
    ("options", "message"), [row[1:] for row in DIFFERENT], ids=[row[0] for row in DIFFERENT]
)
def test_resuming_with_other_settings_says_what_differs(tmp_path: Path, options: Any, message: str) -> None:
    run(model(), tmp_path / "c")
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        run(model(), tmp_path / "c", resume=True, **options)


def test_resuming_another_model_says_what_differs_and_leaves_it_alone(tmp_path: Path) -> None:
    run(model(), tmp_path / "c")
    other = model(dropout=0.5)
    before = other.state_dict()
    message = (
        "model had `(3): Dropout(p=0.3, inplace=False)` where it now has `(3): Dropout(p=0.5, inplace=False)`"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        run(other, tmp_path / "c", resume=True)
    for name, array in before.items():
        np.testing.assert_array_equal(other.state_dict()[name], array)


def test_resuming_with_one_pixel_changed_is_an_error(tmp_path: Path) -> None:
    x, y = data()
    options = {"epochs": 1, "batch_size": 9, "lr": 0.1, "progress": False, "checkpoint": tmp_path / "c"}
    fit(model(), (x, y), **options)
    x[5, 0, 1, 2] += 1
    with pytest.raises(
        ValueError, match=r"data was x float32 .37, 1, 4, 4., y int64 .37,., crc32 .* and is now"
    ):
        fit(model(), (x, y), resume=True, **options)


def test_the_fingerprint_of_data_does_not_depend_on_strides() -> None:
    x, y = data()
    strided = np.asfortranarray(np.repeat(x, 2, axis=0))[::2]
    assert data_fingerprint(strided, y[::-1][::-1]) == data_fingerprint(x, y)


def test_a_truncated_checkpoint_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    run(model(), path, epochs=1)
    content = path.read_bytes()
    for size in (0, 1, 7, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"checkpoint '.*run\.safetensors' is damaged"):
            run(model(), path, resume=True)


def test_a_checkpoint_with_any_bit_flipped_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    run(model(), path, epochs=1)
    content = path.read_bytes()
    positions = np.random.default_rng(0).integers(0, len(content), 200)
    for position in (*range(16), *positions):
        flipped = bytearray(content)
        flipped[position] ^= 1 << int(position) % 8
        path.write_bytes(bytes(flipped))
        with pytest.raises(ValueError, match=r"run\.safetensors'"):
            Checkpoint.read(path)


def test_a_model_file_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(model().state_dict(), path)
    with pytest.raises(ValueError, match="is a safetensors file, but no checkpoint of a training run"):
        run(model(), path, resume=True)


def test_a_checkpoint_of_another_version_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "c"
    save_file({"order": np.zeros(0)}, path, metadata={"backlit-training": '{"version": 2}'})
    with pytest.raises(ValueError, match="has version 2, and this backlit reads 1"):
        run(model(), path, resume=True)


def test_a_checkpoint_holds_the_models_weights_under_their_names(tmp_path: Path) -> None:
    trained = model()
    run(trained, tmp_path / "c")
    stored = load_file(tmp_path / "c")
    for name, array in trained.state_dict().items():
        np.testing.assert_array_equal(stored[f"model/{name}"], array)


@pytest.mark.parametrize("where", ["folder", "missing"])
def test_a_checkpoint_that_could_not_be_written_is_an_error_at_once(tmp_path: Path, where: str) -> None:
    path = tmp_path if where == "folder" else tmp_path / "missing" / "c"
    untouched = model()
    with pytest.raises(OSError, match=r"is a folder|lies in a folder that does not exist"):
        run(untouched, path)
    assert_same_weights(untouched, model())


def test_a_run_that_diverges_leaves_the_last_epochs_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c"

    def poison(event: str, run: Run) -> None:
        if event == "update" and run.epoch == 2:
            run.model[0].weight.data[...] = np.nan  # type: ignore[index]

    with pytest.raises(FloatingPointError, match=r"The checkpoint '.*' is that of an earlier batch boundary"):
        run(model(), path, callbacks=[poison])
    assert len(Checkpoint.read(path).progress["history"]) == 1


# The process: Ctrl-C and kill -9


def test_ctrl_c_ends_at_a_batch_boundary_with_the_checkpoint_intact(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)

    def press(event: str, run: Run) -> None:
        if event == "gradients" and (run.epoch, run.step) == (2, 2):
            signal.raise_signal(signal.SIGINT)

    straight, stopped, resumed = model(), model(), model()
    expected = run(straight)
    history = run(stopped, tmp_path / "c", callbacks=[press])
    assert history.interrupted
    assert len(history) == 1
    assert Checkpoint.read(tmp_path / "c").progress["step"] == 2
    assert signal.getsignal(signal.SIGINT) is before
    assert_same_history(run(resumed, tmp_path / "c", resume=True), expected)
    assert_same_weights(resumed, straight)


def test_ctrl_c_between_epochs_ends_after_the_epoch(tmp_path: Path) -> None:
    def press(event: str, run: Run) -> None:
        if event == "epoch":
            signal.raise_signal(signal.SIGINT)

    history = run(model(), tmp_path / "c", callbacks=[press])
    assert history.interrupted
    assert len(history) == 1


def test_a_second_ctrl_c_interrupts_at_once_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)

    def press(event: str, run: Run) -> None:
        if event == "gradients" and run.epoch == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(model(), tmp_path / "c", callbacks=[press])
    assert signal.getsignal(signal.SIGINT) is before
    assert len(Checkpoint.read(tmp_path / "c").progress["history"]) == 1


def test_a_handler_that_ignores_ctrl_c_stays_in_force() -> None:
    def press(event: str, run: Run) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        history = run(model(), callbacks=[press])
    finally:
        signal.signal(signal.SIGINT, before)
    assert not history.interrupted
    assert len(history) == EPOCHS


def test_fit_runs_in_another_thread_and_in_several(tmp_path: Path) -> None:
    straight = model()
    expected = run(straight)
    models = [model() for _ in range(4)]
    histories: dict[int, History] = {}

    def train(i: int) -> None:
        histories[i] = run(models[i], tmp_path / str(i))

    threads = [threading.Thread(target=train, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, trained in enumerate(models):
        assert_same_weights(trained, straight)
        assert_same_history(histories[i], expected)


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_train_checkpoint import model, run
trained = model()
run(trained, Path({path!r}), resume=True, epochs=12,
    callbacks=[lambda event, run: event in ("update", "epoch") and print(event, flush=True)])
"""


def test_kill_9_at_any_moment_then_resume_reaches_the_same_bits(tmp_path: Path) -> None:
    path = tmp_path / "c"
    script = SCRIPT.format(tests=str(Path(__file__).parent), path=str(path))
    epochs_seen = []
    for events in (1, 7, 13, 20, 26):  # killed after so many steps and epochs of its own
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(events):
            process.stdout.readline()
        time.sleep(events % 3 / 1000)  # seconds: in a step, in a save, or between
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        epochs_seen.append(len(Checkpoint.read(path).progress["history"]) if path.exists() else 0)
    straight, resumed = model(), model()
    expected = run(straight, epochs=12)
    assert_same_history(run(resumed, path, resume=True, epochs=12), expected)
    assert_same_weights(resumed, straight)
    assert epochs_seen == sorted(epochs_seen)
    assert 0 < epochs_seen[-1] < 12, "the kills have to hit the middle of the run"


SAVER = """
import sys
sys.path.insert(0, {tests!r})
import numpy as np
from backlit.train.checkpoint import Checkpoint
for number in range(100000):
    Checkpoint({{"w": np.full(200_000, number)}}, {{}}, np.empty(0, np.int64), {{}}, {{"n": number}}).write({path!r})
    print(number, flush=True)
"""


def test_kill_9_during_a_save_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c"
    script = SAVER.format(tests=str(Path(__file__).parent), path=str(path))
    for attempt in range(6):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(attempt / 500)  # seconds: some saves long, and no two attempts alike
        process.kill()
        process.communicate()
        kept = Checkpoint.read(path)
        assert (kept.model["w"] == kept.progress["n"]).all()


def test_ctrl_c_in_a_script_lets_it_go_on_after_fit(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_train_checkpoint import model, run
history = run(model(), Path({str(tmp_path / "c")!r}), epochs=100000,
    callbacks=[lambda event, run: event == "update" and print(event, flush=True)])
print("interrupted", history.interrupted)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert output.endswith("interrupted True\n")
    assert Checkpoint.read(tmp_path / "c").progress["history"]


def test_nothing_in_a_checkpoint_is_pickled(tmp_path: Path) -> None:
    run(model(), tmp_path / "c", epochs=1)
    content = (tmp_path / "c").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    run_text = json.loads(header["__metadata__"]["backlit-training"])["run"]
    assert json.loads(run_text)["progress"]["random"]["bit_generator"] == "PCG64"


def test_the_same_checkpoint_gives_the_same_bytes(tmp_path: Path) -> None:
    run(model(), tmp_path / "c", epochs=1)
    kept = Checkpoint.read(tmp_path / "c")
    for _ in range(8):
        kept.write(tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == (tmp_path / "c").read_bytes()
