"""The fuzz of hostile calls: a fixed sample of it, and that it sees what it is there to see."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

import backlit as bl
import fuzz
import hostile_calls
from hostile import Finding, called, refused
from ways import FULL

NOTE = (
    "import sys, struct, time; n = int(sys.argv[1]); "
    "open(sys.argv[3], 'wb').write(struct.pack('qd', n, time.monotonic())); "
)


def test_fuzz_of_a_fixed_sample_finds_nothing() -> None:
    calls = 20_000 if FULL else 1200
    command = (sys.executable, fuzz.__file__, "--calls", str(calls), "--seed", "0", "--workers", "1")
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert f"{calls} calls" in done.stdout


def _worker(code: str, folder: Path, patience: float = 60.0) -> Any:
    """What is known of a worker of calls 7 to 9 that runs `code`, once it has ended."""
    worker = fuzz.Worker((sys.executable, "-c", NOTE + code), 7, 10, str(folder), patience)
    while not worker.ended():
        time.sleep(0.01)
    return worker.results()


def test_fuzz_reports_the_call_that_killed_its_process_and_goes_on_behind_it(tmp_path: Path) -> None:
    found, there = _worker("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", tmp_path)
    assert [number for number, *_ in found] == [7]
    assert found[0][1] == "finding"
    assert "status -11" in found[0][2]
    assert there == 8


def test_fuzz_reports_the_call_that_hangs(tmp_path: Path) -> None:
    found, there = _worker("time.sleep(1000)", tmp_path, patience=0.5)
    assert "no end after 0.5 s" in found[0][2]
    assert there == 8


def test_fuzz_takes_the_results_of_a_process_that_ends_well(tmp_path: Path) -> None:
    found, there = _worker('print(\'[7, "right", ""]\')', tmp_path)
    assert found == [(7, "right", "")]
    assert there == 10


def test_fuzz_makes_the_same_call_from_the_same_number() -> None:
    outcomes = [[fuzz.make(3, number) for number in range(40)] for _ in range(2)]
    assert outcomes[0] == outcomes[1]
    assert len(set(outcomes[0])) > 3


def test_fuzz_finds_an_input_that_was_modified() -> None:
    def double(x: Any) -> Any:
        x *= 2
        return x.copy()

    with pytest.raises(Finding, match="modified an input"):
        called(double, np.ones(3))


def test_fuzz_finds_a_wrong_result(monkeypatch: pytest.MonkeyPatch) -> None:
    real = bl.conv_forward

    def wrong(*arguments: Any, **keywords: Any) -> Any:
        y, cache = real(*arguments, **keywords)
        y += 1
        return y, cache

    wrong.__name__ = "conv_forward"
    monkeypatch.setattr(bl, "conv_forward", wrong)
    outcomes = []
    for seed in range(20):
        try:
            outcomes.append(hostile_calls.conv(Random(seed)))
        except Finding as finding:
            outcomes.append(str(finding)[:10])
    assert "y is wrong" in outcomes


@pytest.mark.parametrize(
    "error", [KeyError("x"), ValueError(""), ValueError("something is wrong"), RuntimeError("x")]
)
def test_fuzz_finds_an_error_that_is_not_documented_or_names_nothing(error: Exception) -> None:
    with pytest.raises(Finding):
        refused(error)
