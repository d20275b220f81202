"""The README: two command lines first, that do all the set-up, and snippets that show what they say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import snippets
from backlit import cli
from snippets import ROOT

README = ROOT / "README.md"
SHELL = ("sh", "shell", "bash", "console")

TRAIN = "python3 -m venv .venv && .venv/bin/pip install '.[report]' && .venv/bin/backlit train"
TESTS = "python3 -m venv .venv && .venv/bin/pip install '.[all,test]' && .venv/bin/pytest"


def test_readme_begins_with_the_two_command_lines() -> None:
    found = snippets.blocks(README)
    assert [(block.language in SHELL, block.text) for block in found[:2]] == [
        (True, f"{TRAIN}\n"),
        (True, f"{TESTS}\n"),
    ]


def test_readme_installs_extras_that_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [name for group in re.findall(r"\.\[([\w,]+)\]", README.read_text()) for name in group.split(",")]
    assert named
    assert set(named) <= set(extras)


def test_readme_trains_with_a_command_that_exists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: backlit train")


def test_readme_snippets_show_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert snippets.run(README) > 0


def test_readme_has_a_small_picture_first() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README.read_text())
    assert pictures
    assert (ROOT / pictures[0]).stat().st_size < 200_000
