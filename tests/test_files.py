"""Atomic files: the old content or the new, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import backlit
from backlit import nn
from backlit.data import load_npz
from backlit.experiment import run_experiment
from backlit.files import as_path, write_atomic
from backlit.train import History


def test_write_puts_the_whole_content_there(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"one")
    write_atomic(tmp_path / "a", lambda file: file.write(b"two") and None)
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_failure_while_writing_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"old")

    def fail(file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        write_atomic(tmp_path / "a", fail)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"lies in a folder that does not exist: create it first"):
        write_atomic(tmp_path / "no" / "a", b"")


def test_folder_in_the_way_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=r"is a folder, and a file is to be written"):
        write_atomic(tmp_path, b"")


class Bytes(os.PathLike[bytes]):
    """A path-like object whose path is bytes."""

    def __fspath__(self) -> bytes:
        return b"a"

    def __repr__(self) -> str:
        return "Bytes()"


NO_PATHS = [
    (3.5, TypeError, "is 3.5, and a path is needed: a str or a pathlib.Path."),
    (0, TypeError, "is 0, and a path is needed: a str or a pathlib.Path."),
    (None, TypeError, "is None, and a path is needed: a str or a pathlib.Path."),
    (b"a", TypeError, "is b'a', and a path is needed: a str or a pathlib.Path."),
    (Bytes(), TypeError, "is Bytes(), and a path is needed: a str or a pathlib.Path."),
    ("a\0b", ValueError, "is 'a\\x00b', and a path holds no NUL character: leave it out."),
    (Path("a\0b"), ValueError, "is 'a\\x00b', and a path holds no NUL character: leave it out."),
]
USES: dict[str, Callable[[Any], object]] = {
    "as_path": lambda path: as_path("path", path),
    "write_atomic": lambda path: write_atomic(path, b""),
    "save": lambda path: backlit.save(nn.Linear(1, 1), path),
    "load": lambda path: backlit.load(nn.Linear(1, 1), path),
    "load_npz": load_npz,
    "to_csv": lambda path: History.from_rows([{"epoch": 1}]).to_csv(path),
    "from_csv": History.from_csv,
}


@pytest.mark.parametrize(("path", "error", "message"), NO_PATHS, ids=[repr(path) for path, _, _ in NO_PATHS])
@pytest.mark.parametrize("use", USES)
def test_what_is_no_path_is_refused_by_name(
    use: str, path: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        USES[use](path)
    assert str(caught.value) == f"path {message}"


def test_what_is_no_path_is_refused_by_the_name_that_the_caller_knows() -> None:
    with pytest.raises(ValueError, match=r"^out is 'a\\x00b', and a path holds no NUL character"):
        run_experiment(out="a\0b", report=False, progress=False, say=lambda line: None)


def test_path_that_this_system_cannot_encode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"out is '.*', which this system cannot name a file"):
        as_path("out", "\ud800")


def test_path_is_kept_as_it_was_given() -> None:
    assert [as_path("out", "a/b"), as_path("out", Path("a/b"))] == [Path("a/b")] * 2


def test_pipe_is_refused_and_stays_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a device or a pipe"):
        write_atomic(tmp_path / "pipe", b"")
    assert (tmp_path / "pipe").is_fifo()


def test_permissions_of_a_file_that_is_replaced_stay(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"old")
    (tmp_path / "a").chmod(0o600)
    write_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["x" * 255, "漢" * 84])
def test_longest_name_is_written(tmp_path: Path, name: str) -> None:
    write_atomic(tmp_path / name, b"whole")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"whole")]


def test_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_kill_at_any_moment_leaves_one_whole_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomic(path, b"0" * 1_000_000)
    code = (
        "import itertools, sys; from backlit.files import write_atomic\n"
        "print('on', flush=True)\n"
        "for n in itertools.count(): write_atomic(sys.argv[1], bytes([48 + n % 10]) * 1_000_000)"
    )
    for wait in (0.0, 0.005, 0.013, 0.031):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        process.stdout.readline()  # type: ignore[union-attr]
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        content = path.read_bytes()
        assert len(content) == 1_000_000
        assert len(set(content)) == 1
    write_atomic(path, b"after")
    assert [left.name for left in tmp_path.iterdir()] == ["a"]
