"""The examples: each runs as its docstring says, and the article's shows numbers that were worked out by hand."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from snippets import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
ARTICLE = ROOT / "examples" / "article.py"


@cache
def output_of(script: Path) -> str:
    """What a script prints to a fresh interpreter, once it has ended well and complained of nothing."""
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example_runs_without_a_complaint(script: Path) -> None:
    assert output_of(script)


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example_says_the_command_that_runs_it(script: Path) -> None:
    assert f"python examples/{script.name}" in script.read_text().split('"""')[1]


def test_article_shows_the_numbers_worked_out_by_hand() -> None:
    shown = {
        m[1]: float(m[2]) for m in re.finditer(r"^  (\w+) = .* = (-?\d+)$", output_of(ARTICLE), re.MULTILINE)
    }
    by_hand = {
        **dict(zip(("H11", "H12", "H21", "H22"), (37, 47, 67, 77), strict=True)),
        **dict(zip(("dW11", "dW12", "dW21", "dW22"), (22, 27, 37, 42), strict=True)),
        **dict(zip(("dX11", "dX12", "dX13"), (1, 1, -2), strict=True)),
        **dict(zip(("dX21", "dX22", "dX23"), (5, 8, 2), strict=True)),
        **dict(zip(("dX31", "dX32", "dX33"), (6, 17, 12), strict=True)),
    }
    assert shown == by_hand


def test_article_equations_come_to_their_sums() -> None:
    lines = re.findall(r"^  \w+ = .* = (.*) = (-?\d+)$", output_of(ARTICLE), re.MULTILINE)
    for numbers, total in lines:
        products = [product.replace("(", "").replace(")", "").split("*") for product in numbers.split(" + ")]
        assert sum(float(a) * float(b) for a, b in products) == float(total)
    assert len(lines) == 4 + 4 + 9


def test_article_finds_its_loops_equal_to_the_pair() -> None:
    assert re.findall(r"^  (\w+): (\w+)$", output_of(ARTICLE), re.MULTILINE) == [
        ("H", "equal"),
        ("dX", "equal"),
        ("dW", "equal"),
    ]


def test_article_loops_agree_with_finite_differences(rng: np.random.Generator) -> None:
    article = runpy.run_path(str(ARTICLE))
    x, w = rng.integers(-9, 10, (5, 7)).astype(float), rng.integers(-9, 10, (2, 3)).astype(float)
    h, cache = article["conv_forward"](x, w)
    dh = rng.integers(-9, 10, h.shape).astype(float)
    for array, gradient in zip((x, w), article["conv_backward"](dh, cache), strict=True):
        for index in np.ndindex(array.shape):
            array[index] += 1  # a step of 1 is exact: h is linear in each element
            assert gradient[index] == np.sum((article["conv_forward"](x, w)[0] - h) * dh)
            array[index] -= 1
