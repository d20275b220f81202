"""The command line where environment, encoding, data or disk are against it: one clear line, and nothing lost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backlit.cli import main
from test_cli import ENVIRONMENT, fails, images, train

__all__ = ["images"]  # the fixture


def ended(
    arguments: list[str], before: str = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`backlit` as a process of its own, once it has ended; `before` is Python that it runs first."""
    code = f"import sys\n{before}\nfrom backlit.cli import main\nsys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**ENVIRONMENT, "OPENBLAS_NUM_THREADS": "1", **(environment or {})},
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("BACKLIT_ENGINE", "nope", "BACKLIT_ENGINE is 'nope', and the engines are "),
        ("BACKLIT_ALGORITHM", "nope", "BACKLIT_ALGORITHM is 'nope', and of the algorithms "),
        ("BACKLIT_NUM_THREADS", "nonsense", "BACKLIT_NUM_THREADS is 'nonsense'"),
    ],
)
def test_info_fails_where_the_environment_forces_what_there_is_not(
    name: str, value: str, message: str
) -> None:
    process = ended(["info"], environment={name: value})
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith(f"backlit info: error: {message}")
    assert process.stderr.count("\n") == 1


def test_info_says_what_the_environment_forces() -> None:
    process = ended(["info"], environment={"BACKLIT_ENGINE": "loops"})
    assert process.returncode == 0
    assert "\nforced    BACKLIT_ENGINE=loops\n" in process.stdout


@pytest.mark.parametrize("encoding", ["ascii", "ascii:surrogateescape", "utf-8"])
def test_train_prints_names_that_the_encoding_lacks(images: Path, encoding: str) -> None:
    odd = images.with_name("ö ü.npz")
    images.rename(odd)
    process = ended(train(odd, "--no-report", out="ö ü \udcff"), environment={"PYTHONIOENCODING": encoding})
    assert (process.returncode, process.stderr) == (0, "")
    shown = "ö ü \\udcff" if encoding == "utf-8" else "\\xf6 \\xfc \\udcff"
    assert f"{shown}{os.sep}model.safetensors" in process.stdout


def test_train_writes_a_report_about_a_file_whose_name_is_no_text(images: Path) -> None:
    odd = images.with_name("a\udcff.npz")
    images.rename(odd)
    assert main(train(odd, "--quiet")) == 0
    assert "a\\xff.npz" in (odd.parent / "run" / "report.html").read_text("utf-8")


def test_a_label_beyond_all_images_is_an_error_that_names_it(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(images) as file:
        x, y = file["x"], file["y"]
    y[7] = 2**31 - 1
    np.savez(images, x=x, y=y)
    message = fails(train(images), capsys)
    assert "has the label 2147483647, which makes 2147483648 classes of 65 training images" in message


def test_a_path_with_a_nul_character_is_an_error(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds no NUL character" in fails([*train(images), "--out", "a\0b"], capsys)
    assert r"data is 'a\x00.npz', and a path holds no NUL character" in fails(["train", "a\0.npz"], capsys)


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))  # bytes that a file can grow to
"""
POWERLESS = """
import ctypes, os
if os.geteuid() == 0:  # let what folders allow hold for root too: give up all capabilities
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, none) == 0
"""


def test_a_disk_that_is_full_ends_train_with_one_line_and_the_old_checkpoint(images: Path) -> None:
    assert main(train(images, "--no-report", "--quiet")) == 0
    checkpoint = images.parent / "run" / "checkpoint.safetensors"
    before = checkpoint.read_bytes()
    process = ended([*train(images, "--no-report", "--quiet", "--resume"), "--epochs", "3"], LIMITED)
    assert process.returncode == 2
    assert re.fullmatch(
        rf"backlit train: error: checkpoint {str(checkpoint)!r} cannot be written \(File too large\): .*\n",
        process.stderr,
    )
    assert checkpoint.read_bytes() == before
    assert not [path.name for path in checkpoint.parent.iterdir() if path.suffix == ".part"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is Linux's")
def test_a_folder_that_cannot_be_made_is_an_error_that_names_the_option(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = fails([*train(images), "--out", "/proc/x"], capsys)
    assert message == (
        "backlit train: error: out '/proc/x' cannot be made a folder (No such file or directory): give another with "
        "--out.\n"
    )


def test_a_folder_that_is_read_only_ends_train_with_one_line_and_the_old_checkpoint(images: Path) -> None:
    assert main(train(images, "--no-report", "--quiet")) == 0
    checkpoint = images.parent / "run" / "checkpoint.safetensors"
    before = checkpoint.read_bytes()
    checkpoint.parent.chmod(0o500)
    try:
        process = ended([*train(images, "--no-report", "--quiet", "--resume"), "--epochs", "3"], POWERLESS)
    finally:
        checkpoint.parent.chmod(0o700)
    assert process.returncode == 2
    assert process.stderr == (
        f"backlit train: error: out {str(checkpoint.parent)!r} is a folder that cannot be written to: give another "
        f"with --out.\n"
    )
    assert checkpoint.read_bytes() == before
