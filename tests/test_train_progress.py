"""What fit shows: a bar in a terminal, plain lines elsewhere, nothing when told so."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from backlit import nn
from backlit.train import fit

SCRIPT = """
import numpy as np
from backlit import nn
from backlit.train import fit
x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
y = (x[:, 0] > 0).astype(int)
fit(nn.Linear(2, 2), (x, y), epochs=3, batch_size=5, lr=0.1, validation=(x, y))
"""


def train(*, progress: bool) -> None:
    x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    fit(nn.Linear(2, 2), (x, y), epochs=12, batch_size=5, lr=0.1, validation=(x, y), progress=progress)


def in_terminal(columns: int, **variables: str) -> str:
    """What the script prints to a terminal of that many columns."""
    import fcntl
    import pty
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    keep = {
        name: value
        for name, value in os.environ.items()
        if name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")
    }
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=follower,
        stderr=follower,
        env={**keep, "TERM": "xterm", **variables},
    )
    os.close(follower)
    output = b""
    try:
        while block := os.read(leader, 65536):
            output += block
    except OSError:  # Linux's way to say that the other end is closed
        pass
    os.close(leader)
    assert process.wait() == 0
    return output.decode()


def test_without_a_terminal_each_epoch_is_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    train(progress=True)
    lines = capsys.readouterr().out.splitlines()
    number = r"\d\.\d{4}"
    pattern = (
        rf"epoch +\d+/12  loss {number}  accuracy {number}  val_loss {number}  val_accuracy {number}  "
        r"[\d,]+ images/s  \d+:\d\d left"
    )
    assert len(lines) == 12
    assert all(re.fullmatch(pattern, line) for line in lines), lines


def test_without_progress_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    train(progress=False)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")
def test_in_a_terminal_one_bar_is_redrawn() -> None:
    output = in_terminal(100)
    assert "\x1b[" in output
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
    last = text.replace("\r", "\n").strip().splitlines()[-1]
    number = r"\d\.\d{4}"
    pattern = rf"epoch 3/3 ━+ loss {number}  acc {number}  val {number}  [\d,]+ images/s  0:00 left"
    assert re.search(pattern, last)


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")
def test_no_color_is_respected() -> None:
    colour = r"\x1b\[[0-9;]*3[0-9][;m]|\x1b\[38;"
    assert re.search(colour, in_terminal(100))
    assert not re.search(colour, in_terminal(100, NO_COLOR="1"))


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")
@pytest.mark.parametrize("columns", [30, 60, 80])
def test_the_bar_fits_the_terminal_with_epoch_and_validation(columns: int) -> None:
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", in_terminal(columns)).strip())
    assert max(len(line) for line in lines) <= columns
    assert re.search(r"epoch 3/3 .*val \d\.\d{4}", lines[-1])


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")
def test_a_dumb_terminal_gets_plain_lines() -> None:
    output = in_terminal(80, TERM="dumb")
    assert "\x1b" not in output
    assert len(output.splitlines()) == 3
