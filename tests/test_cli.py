"""The command line: what it prints and writes, how it ends, and that no end loses a training run."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import backlit
from backlit import History, evaluate, load_model
from backlit.cli import main
from backlit.data import load_digits
from backlit.experiment import run_experiment

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("BACKLIT_")}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """An npz file of 80 tiny images in two classes: bright above, or bright below."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (80, 6, 5)).astype(np.uint8)
    y = np.arange(80) % 2
    x[y == 0, :3] += 150
    x[y == 1, 3:] += 150
    np.savez(tmp_path / "images.npz", x=x, y=y)
    return tmp_path / "images.npz"


def train(images: Path, *options: str, out: str = "run") -> list[str]:
    return [
        "train",
        str(images),
        "--epochs",
        "2",
        "--batch-size",
        "16",
        "--out",
        str(images.parent / out),
        *options,
    ]


def start(arguments: list[str], **options: Any) -> subprocess.Popen[str]:
    """`backlit` as a process of its own, in a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "backlit", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, "OPENBLAS_NUM_THREADS": "1"},
        **options,
    )


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that ends as a usage error."""
    assert main(arguments) == 2
    output, errors = capsys.readouterr()
    assert errors.count("\n") == 1
    assert "Traceback" not in output + errors
    return errors


def assert_same(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same arrays, bit for bit."""
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, name)


# What train prints and writes


def test_train_prints_the_accuracy_and_then_the_files(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(images)) == 0
    output, errors = capsys.readouterr()
    folder = images.parent / "run"
    lines = output.splitlines()
    assert re.fullmatch(r"test accuracy [01]\.\d{4}", lines[-4])
    assert lines[-3:] == [
        f"model    {folder / 'model.safetensors'}",
        f"history  {folder / 'history.csv'}",
        f"report   {folder / 'report.html'}",
    ]
    assert all(Path(line.split()[1]).is_file() for line in lines[-3:])
    assert errors == ""


def test_train_first_says_in_a_line_what_it_trains_on_what(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(train(images, "--seed", "3", "--no-report"))
    first = capsys.readouterr().out.splitlines()[0]
    parameters = sum(p.size for p in load_model(images.parent / "run" / "model.safetensors").parameters())
    assert first == (
        f"images.npz: 58 images of 1x6x5 in 2 classes to train on, 6 to validate, 16 to test; network digits, "
        f"{parameters:,} parameters; engine {backlit.engines.names()[0]}, threads {backlit.get_num_threads()}; seed 3"
    )


def test_train_prints_the_accuracy_that_the_written_model_has(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(train(images, "--no-report"))
    printed = re.search(r"test accuracy (\S+)", capsys.readouterr().out)
    model = load_model(images.parent / "run" / "model.safetensors")
    _, (x, y) = backlit.data.load_npz(images)
    assert printed
    assert printed[1] == f"{evaluate(model, x, y)['accuracy']:.4f}"


def test_train_writes_a_history_with_a_row_for_each_epoch(images: Path) -> None:
    main(train(images, "--no-report", "--quiet"))
    history = History.from_csv(images.parent / "run" / "history.csv")
    assert history["epoch"] == [1, 2]
    assert {"val_accuracy", "grad_norm/conv1.weight", "update_ratio/conv1.weight", "dead/relu1"} <= {
        *history.columns
    }


def test_train_quiet_prints_the_result_alone(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(train(images, "--quiet", "--no-report"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["test", "model", "history", "report"]
    assert lines[-1] == "report   none, as it was not asked for"


def test_train_gives_the_same_weights_for_the_same_seed_and_others_for_another(images: Path) -> None:
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        main(train(images, "--seed", seed, "--quiet", "--no-report", out=out))
    a, b, c = (load_file(images.parent / out / "model.safetensors") for out in "abc")
    assert_same(a, b)
    assert (a["conv1.weight"] != c["conv1.weight"]).all()


def test_train_without_matplotlib_says_so_first_and_trains_anyway(
    images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(train(images)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "there will be no report" in lines[1]
    assert "pip install 'backlit[report]'" in lines[1]
    assert lines[-1].startswith("report   none, as ")
    assert (images.parent / "run" / "model.safetensors").is_file()
    assert not (images.parent / "run" / "report.html").exists()


def test_train_reaches_98_percent_on_the_digits_by_default(tmp_path: Path) -> None:
    outcome = run_experiment(out=tmp_path, report=False, progress=False, say=lambda line: None)
    assert outcome.accuracy is not None
    assert outcome.accuracy >= 0.98
    _, (x, y) = load_digits()
    assert (load_model(outcome.model)(x).numpy().argmax(axis=1) == y).mean() == outcome.accuracy


# Resuming, Ctrl-C, kill -9


def test_train_resume_with_more_epochs_goes_on(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(train(images, "--no-report"))
    capsys.readouterr()
    assert main([*train(images, "--no-report", "--resume"), "--epochs", "3"]) == 0
    output = capsys.readouterr().out
    assert "checkpoint.safetensors, after 2 of 2 epochs" in output
    assert "epoch 3/3" in output
    assert "epoch 2/3" not in output


def test_train_resume_without_a_checkpoint_says_that_it_begins(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(images, "--no-report", "--resume")) == 0
    assert "does not exist: there is nothing to resume, so the run begins" in capsys.readouterr().out


def first_line_after_ctrl_c(images: Path, *options: str) -> subprocess.Popen[str]:
    """A run that got SIGINT after its first epoch."""
    process = start([*train(images, "--no-report", *options), "--epochs", "300"])
    assert process.stdout is not None
    while "epoch   1/300" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    return process


def test_ctrl_c_says_in_one_line_how_to_resume_and_ends_with_130(images: Path) -> None:
    process = first_line_after_ctrl_c(images)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "test accuracy" not in output
    checkpoint = images.parent / "run" / "checkpoint.safetensors"
    arguments = shlex.join([*train(images, "--no-report"), "--epochs", "300", "--resume"])
    assert re.fullmatch(
        rf"interrupted after \d+ of 300 epochs; the run is kept in {re.escape(str(checkpoint))}: "
        rf"go on with `python -m backlit {re.escape(arguments)}`\n",
        errors,
    )
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["checkpoint.safetensors"]


@pytest.mark.parametrize(
    ("called", "command"),
    [(".venv/bin/backlit", ".venv/bin/backlit"), ("/p/backlit/__main__.py", "python -m backlit")],
)
def test_the_command_that_resumes_is_the_one_that_was_called(
    images: Path,
    called: str,
    command: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main(train(images, "--quiet", "--no-report"))
    monkeypatch.setattr(sys, "argv", [called])

    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("backlit.experiment.run_experiment", interrupted)
    assert main(train(images)) == 130
    assert f"go on with `{command} train {images}" in capsys.readouterr().err


def test_a_new_run_over_an_unfinished_one_names_resume_first(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first_line_after_ctrl_c(images).communicate(timeout=60)
    assert main(train(images, "--no-report")) == 0
    note = capsys.readouterr().out.splitlines()[1]
    assert re.search(
        r"holds a run that is not finished, \d+ of 300 epochs: it will be written over.* add --resume", note
    )


def test_kill_9_then_resume_reaches_the_bits_of_a_run_that_never_stopped(images: Path) -> None:
    options = ["--no-report", "--quiet", "--epochs", "40"]
    assert main([*train(images, out="straight"), *options]) == 0
    checkpoint = images.parent / "run" / "checkpoint.safetensors"
    for attempt in range(4):
        process = start([*train(images), *options, "--resume"])
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        deadline = time.monotonic() + 60
        while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before:
            assert time.monotonic() < deadline
            assert process.poll() is None, "the kill has to come before the end"
            time.sleep(0.001)
        time.sleep(attempt * 0.007)  # seconds: some way into an epoch, or into a save
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert main([*train(images), *options, "--resume"]) == 0
    straight, resumed = (images.parent / out / "model.safetensors" for out in ("straight", "run"))
    assert_same(load_file(resumed), load_file(straight))
    histories = [History.from_csv(path.with_name("history.csv")) for path in (straight, resumed)]
    for name in histories[0].columns:
        if name not in ("seconds", "images_per_second"):
            np.testing.assert_array_equal(histories[1][name], histories[0][name], name)  # NaN equals NaN


def test_a_reader_that_goes_away_ends_the_command_quietly(images: Path) -> None:
    with start([*train(images, "--no-report"), "--epochs", "50"]) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


# Errors


def test_a_path_that_does_not_exist_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = fails(["train", str(tmp_path / "none.npz"), "--out", str(tmp_path / "run")], capsys)
    assert re.fullmatch(r"backlit train: error: .*none\.npz.* does not exist.*\n", message)
    assert not (tmp_path / "run").exists()


def test_data_that_are_no_npz_file_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    message = fails(["train", "mnist"], capsys)
    assert "data is 'mnist', and 'digits' or the path of an .npz file is needed" in message


def test_truncated_data_are_an_error_that_names_the_file(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = images.read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 1):
        images.write_bytes(content[:size])
        assert "images.npz" in fails(train(images), capsys)


def test_data_without_a_test_part_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "few.npz", x=np.zeros((4, 8, 8), np.uint8), y=np.arange(4))
    message = fails(["train", str(tmp_path / "few.npz"), "--out", str(tmp_path / "run")], capsys)
    assert "leaves no image to test with" in message


def test_images_too_small_for_the_network_are_enlarged(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(images, "--model", "lenet5")) == 0
    enlarged = "images enlarged 3x to 18x15, as lenet5 needs at least 12x12"
    assert capsys.readouterr().out.splitlines()[0].endswith(enlarged)
    report = (images.parent / "run" / "report.html").read_text("utf-8")
    assert "enlarged 3x to 18x15" in report


def test_lenet_learns_the_digits_by_default(tmp_path: Path) -> None:
    outcome = run_experiment(
        model="lenet5", out=tmp_path, report=False, progress=False, say=lambda line: None
    )
    assert outcome.accuracy is not None
    assert outcome.accuracy >= 0.95  # 0.97 here; the weights differ between releases of NumPy


def test_a_folder_that_is_a_file_is_an_error(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is a file, and a folder is needed" in fails([*train(images), "--out", str(images)], capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "epochs is 0, and it has to be at least 1"),
        (["--batch-size", "-1"], "batch_size is -1"),
        (["--lr", "nan"], "lr is nan"),
        (["--seed", "-1"], "seed is -1"),
    ],
)
def test_a_number_out_of_range_is_an_error(
    images: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in fails([*train(images), *options], capsys)


def test_training_that_diverges_is_an_error_that_names_the_epoch(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = fails([*train(images, "--quiet"), "--optimizer", "sgd", "--lr", "1e30"], capsys)
    assert re.search(r"became (nan|inf|NaN or infinite) in epoch \d", message)


def test_resuming_with_other_arguments_is_an_error_that_says_which(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(train(images, "--no-report", "--quiet"))
    capsys.readouterr()
    message = fails([*train(images, "--no-report", "--quiet", "--resume"), "--lr", "0.1"], capsys)
    assert "lr was 0.003 and is now 0.1" in message


def test_resuming_from_a_truncated_checkpoint_is_an_error_that_names_it(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(train(images, "--no-report", "--quiet"))
    capsys.readouterr()
    checkpoint = images.parent / "run" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    message = fails(train(images, "--no-report", "--quiet", "--resume"), capsys)
    assert f"checkpoint {str(checkpoint)!r} is damaged" in message


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "mnist", "--debug"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("Traceback")
    assert "ValueError: data is 'mnist'" in errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--epoch", "1"], "unknown option --epoch: did you mean --epochs?"),
        (["train", "--batchsize=8"], "unknown option --batchsize: did you mean --batch-size?"),
        (["info", "--xyz"], "unknown option --xyz: `backlit info --help` lists those there are"),
        (["info", "more"], "too many words: more"),
    ],
)
def test_an_unknown_word_is_named_with_the_nearest_option(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(words)
    assert capsys.readouterr().err.splitlines()[-1] == f"backlit {words[0]}: error: {message}"


def test_a_loss_far_above_guessing_is_a_warning(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(train(images, "--quiet", "--no-report", "--lr", "1000")) == 0
    errors = capsys.readouterr().err
    assert re.fullmatch(r"backlit train: warning: the loss grew .* use a lower --lr\n", errors)


def test_a_class_without_images_is_a_warning(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(images) as file:
        np.savez(images, x=file["x"], y=file["y"] + 1)
    assert main(train(images, "--quiet", "--no-report")) == 0
    errors = capsys.readouterr().err
    assert errors.startswith("backlit train: warning: no image of class 0 to train on")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("moment", ["backlit.models", "backlit.experiment"])
def test_ctrl_c_while_modules_are_imported_ends_with_130_and_a_line(moment: str) -> None:
    code = f"""
import builtins, signal, sys
from backlit.cli import main
kept = builtins.__import__
def interrupted(name, globals=None, locals=None, fromlist=(), level=0):
    if name == {moment!r} or (name == "backlit" and {moment!r} in [f"backlit.{{n}}" for n in fromlist or ()]):
        signal.raise_signal(signal.SIGINT)
    return kept(name, globals, locals, fromlist, level)
builtins.__import__ = interrupted
sys.exit(main(["train"]))
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert (process.returncode, process.stdout, process.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["tarin"],
        ["train", "--model", "vgg"],
        ["train", "--epochs", "ten"],
        ["info", "more"],
        ["train", "--no"],
    ],
    ids=" ".join,
)
def test_words_that_mean_nothing_are_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: backlit" in capsys.readouterr().err


# Help and info


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["train", "--help"], ["bench", "--help"], ["engines", "--help"], ["info", "--help"]],
    ids=" ".join,
)
def test_help_ends_with_an_example(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    output = capsys.readouterr().out
    assert ended.value.code == 0
    assert output.startswith("usage: backlit")
    assert f"example:\n  backlit {arguments[0] if len(arguments) == 2 else 'train'}" in output


def test_version_is_the_package_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"backlit {backlit.__version__}\n")


def test_info_tells_versions_engines_and_threads(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    facts = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert facts["backlit"] == backlit.__version__
    assert facts["NumPy"] == np.__version__
    assert facts["engines"] == ", ".join(backlit.engines.names())
    assert facts["threads"].startswith(f"{backlit.get_num_threads()} in use")
    assert {"Python", "native", "ISAs", "[report]", "[data]", "[onnx]", "[sklearn]", "[torch]"} < facts.keys()


def test_info_shows_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    facts = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    here = backlit.engines.processor()
    assert facts["processor"] == here.name
    assert facts["threads"].endswith(f"{here.usable} usable of {here.count}")
    assert facts["caches"] == here.facts()["caches"]


def test_engines_lists_all_that_can_be_forced(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engines"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split() == ["engine", "algorithms", "ISAs"]
    assert [row.split()[0] for row in rows[1:]] == list(backlit.engines.names())


def test_engines_of_a_descriptor_prints_the_choice(capsys: pytest.CaptureFixture[str]) -> None:
    text = "convT2d:n2,c3-4,i5x5,k3x3,p1"
    assert main(["engines", text, "--dtype", "float64", "--layout", "channels_last"]) == 0
    choice = backlit.engines.explain_choice(text, "float64", "channels_last")
    assert capsys.readouterr().out == f"{choice}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["conv2d:n1"], "descriptor 'conv2d:n1' lacks its part c"),
        (["conv1d:n1,c1-1,i5,k3", "--dtype", "float16"], "dtype is 'float16'"),
        (["conv1d:n1,c1-1,i5,k3", "--layout", "NCHW"], "layout is 'NCHW'"),
    ],
)
def test_engines_of_what_is_none_is_an_error(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in fails(["engines", *words], capsys)


def test_info_with_a_thread_count_that_is_none_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKLIT_NUM_THREADS", "many")
    assert "BACKLIT_NUM_THREADS is 'many'" in fails(["info"], capsys)


def test_python_m_backlit_is_the_same_command() -> None:
    process = start(["info"])
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert output.startswith("backlit ")
