"""Checkpoints that no run can have written, or that cannot be written: clear errors, and nothing changed or lost."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from backlit import optim
from backlit.train.checkpoint import Checkpoint
from backlit.train.history import COLUMNS
from test_train_checkpoint import assert_same_history, assert_same_weights, model, run, stop_at

# A right checksum over what no run can have written


def broken(part: str, value: Any) -> Any:
    """A change of one part of `Checkpoint.progress`; `part` goes down by slashes, and ... removes it."""

    def change(kept: Checkpoint) -> None:
        *path, last = part.split("/")
        place: Any = kept.progress
        for name in path:
            place = place[int(name) if isinstance(place, list) else name]
        if value is ...:
            del place[last]
        else:
            place[last] = value

    return change


def reordered(order: Any) -> Any:
    return lambda kept: object.__setattr__(kept, "order", np.asarray(order))


def row(**changes: Any) -> dict[str, Any]:
    return dict.fromkeys(COLUMNS, 0.5) | {"epoch": 1} | changes


BROKEN: dict[str, tuple[Any, str]] = {
    "step beyond the epoch": (broken("step", 1000), "step is 1000, and an epoch has 5 steps"),
    "step below zero": (broken("step", -1), "step is -1"),
    "step as text": (broken("step", "2"), "step is '2'"),
    "step as bool": (broken("step", True), "step is True"),
    "step missing": (broken("step", ...), r"it tells \['epochs'"),
    "step without its order": (lambda kept: reordered(np.empty(0, np.int64))(kept), "of the 37 once"),
    "epochs of none": (broken("epochs", None), "epochs is None"),
    "epochs beyond all": (broken("epochs", 10**400), "epochs is 1000"),
    "order out of range": (reordered(np.arange(37) + 1), "order of the samples does not name each of the 37"),
    "order with one twice": (reordered(np.r_[np.arange(36), 0]), "does not name each of the 37 once"),
    "order of floats": (reordered(np.arange(37.0)), "does not name each of the 37 once"),
    "order of two axes": (reordered(np.arange(37)[None]), "does not name each of the 37 once"),
    "sums of junk": (broken("sums", "junk"), "the sums of the epoch are 'junk'"),
    "sums with more": (broken("sums/more", 1), "the sums of the epoch are"),
    "sums of other images": (broken("sums/images", 3), "3 images were seen in the epoch, .* have 16"),
    "sums with a nan": (broken("sums/loss", float("nan")), "the sum 'loss' of the epoch is nan"),
    "sums with a text": (broken("sums/elapsed", "1"), "the sum 'elapsed' of the epoch is '1'"),
    "history a number": (broken("history", 3), "its history is 3"),
    "history of numbers": (broken("history", [3, 4]), "row 1 of its history is 3"),
    "history of other columns": (broken("history", [{"epoch": 1}]), "row 1 of its history is {'epoch': 1}"),
    "history out of order": (
        broken("history", [row(), row(epoch=3)]),
        "row 2 of its history is that of epoch 3",
    ),
    "history without loss": (broken("history", [row(loss=None)]), "row 1 of its history"),
    "history with a text": (broken("history", [row(mine="x")]), "row 1 of its history has 'x' as 'mine'"),
    "random missing": (broken("random", ...), "it tells"),
    "random of none": (broken("random", None), "the state of its random numbers is None"),
    "random of another kind": (broken("random/bit_generator", "MT19937"), "state of its random numbers"),
    "random without numbers": (broken("random/state", {}), "the state of its random numbers"),
    "random beyond its bits": (broken("random/state/state", 2**200), "the state of its random numbers"),
    "random of floats": (broken("random/state/inc", 1.5), "the state of its random numbers"),
    "optimizer of none": (broken("optimizer", None), "the optimiser's state is None"),
    "optimizer of nothing": (broken("optimizer", {}), "the optimiser's state: scalars is the state of None"),
    "optimizer with odd steps": (broken("optimizer/steps", [0.5] * 6), "the optimiser's state: steps is 0.5"),
    "optimizer with odd betas": (broken("optimizer/betas", None), "the optimiser's state"),
    "optimizer without moments": (lambda kept: kept.optimizer.clear(), "the optimiser's state: arrays has"),
    "a weight missing": (lambda kept: kept.model.popitem(), "its arrays are not the model's"),
    "a weight of float64": (
        lambda kept: kept.model.update({"0.weight": kept.model["0.weight"].astype(float)}),
        "its arrays are not the model's",
    ),
    "settings a list": (
        lambda kept: object.__setattr__(kept, "settings", [1]),
        "are not those of a checkpoint",
    ),
    "progress a list": (
        lambda kept: object.__setattr__(kept, "progress", [1]),
        "are not those of a checkpoint",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_checkpoint_of_no_possible_run_is_an_error_that_changes_nothing(tmp_path: Path, case: str) -> None:
    change, message = BROKEN[case]
    path = tmp_path / "c"
    run(model(), path, callbacks=[stop_at(2, 2)])
    kept = Checkpoint.read(path)
    change(kept)
    kept.write(path)
    fresh = model()
    stepper = optim.Adam(fresh.parameters(), lr=1.0)
    with pytest.raises(ValueError, match=rf"^checkpoint '.*' is damaged or no checkpoint \(.*{message}"):
        run(fresh, path, resume=True, optimizer=stepper)
    assert_same_weights(fresh, model())
    assert not stepper.state_dict()[0]


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "9" * 5000, "null", '{"version": 1}'])
def test_a_checkpoint_with_metadata_of_another_kind_is_an_error(tmp_path: Path, text: str) -> None:
    save_file({"order": np.zeros(0)}, tmp_path / "c", metadata={"backlit-training": text})
    with pytest.raises(ValueError, match="is damaged or no checkpoint"):
        Checkpoint.read(tmp_path / "c")


# A file that cannot be written


DYING = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_train_checkpoint import model, run
calls = 0
def dying(function):
    def wrapped(*arguments):
        global calls
        calls += 1
        if calls == {call}:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return wrapped
os.fsync, Path.replace = dying(os.fsync), dying(Path.replace)
run(model(), Path({path!r}), resume=True, epochs=6)
"""


def test_kill_9_at_each_stage_of_a_save_then_resume_reaches_the_same_bits(tmp_path: Path) -> None:
    path = tmp_path / "c"
    for call in (
        4,
        5,
        6,
    ):  # in the second save: before the file is synced, before the rename, before the folder is
        script = DYING.format(tests=str(Path(__file__).parent), call=call, path=str(path))
        process = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
        assert process.returncode == -signal.SIGKILL
    assert len(Checkpoint.read(path).progress["history"]) == 4  # 1 + 1 + 2, as the last rename was done
    straight, resumed = model(), model()
    expected = run(straight, epochs=6)
    assert_same_history(run(resumed, path, resume=True, epochs=6), expected)
    assert_same_weights(resumed, straight)
    assert [file.name for file in tmp_path.iterdir()] == ["c"]


def test_a_checkpoint_that_can_no_longer_be_written_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c"
    run(model(), path, epochs=1)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        OSError, match=r"checkpoint '.*' cannot be written \(No space left on device\)"
    ) as caught:
        run(model(), path, epochs=2, resume=True, schedule="cosine")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("checkpoint", "error", "message"),
    [
        ("a\0b", ValueError, "checkpoint is 'a.x00b', and a path holds no NUL"),
        (3, TypeError, "checkpoint is 3"),
    ],
)
def test_a_checkpoint_that_is_no_path_is_an_error_at_once(checkpoint: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        run(model(), checkpoint)
