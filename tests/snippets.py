"""Runs the Python snippets of a Markdown page as one doctest session, and tells which snippets nothing would run."""

from __future__ import annotations

import doctest
import io
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of the repository
PYTHON = ("python", "pycon", "py")

_FENCE = re.compile(r"^(?P<indent> *)(?P<marks>```+|~~~+) *(?P<language>[^\n`]*)$")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page: its language ("" where none is given), its text, and the line its text begins on."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a Markdown page, in order.

    Raises:
        ValueError: a fence is opened and never closed.
    """
    found: list[Block] = []
    opened: re.Match[str] | None = None
    start, body = 0, []
    for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if opened is None:
            if fence is not None:
                opened, start, body = fence, number, []
        elif (
            fence is not None and fence["marks"].startswith(opened["marks"]) and not fence["language"].strip()
        ):
            found.append(Block(opened["language"].strip(), "\n".join(body) + "\n", start + 1))
            opened = None
        else:
            body.append(line.removeprefix(opened["indent"]))
    if opened is not None:
        raise ValueError(f"{page}: the fence on line {start} is never closed")
    return found


def python_blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page that are Python."""
    return [block for block in blocks(page) if block.language.split(" ")[0] in PYTHON]


def run(page: Path) -> int:
    """Run the snippets of a page, one after the other, in one session that begins with no names defined.

    Returns:
        How many examples ran.

    Raises:
        AssertionError: an example shows something else than the page says, or a Python block has no example (no
            `>>>`), so that nothing would run it.
    """
    names: dict[str, object] = {"__name__": "__main__"}
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    report = io.StringIO()
    count = 0
    for block in python_blocks(page):
        test = doctest.DocTestParser().get_doctest(block.text, names, page.name, str(page), block.line - 1)
        assert test.examples, f"{page.name}, line {block.line}: a Python block without >>> is run by nothing"
        count += len(test.examples)
        test.globs = names
        runner.run(test, out=report.write, clear_globs=False)
    assert not runner.failures, report.getvalue()
    return count
