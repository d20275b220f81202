"""The documents: snippets show what their page says, links and commands lead somewhere, no public name is left out."""

from __future__ import annotations

import operator
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

import backlit
import snippets
from backlit import cli
from snippets import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
WITH_SNIPPETS = [page for page in PAGES if snippets.python_blocks(page)]
TEXTS = [*PAGES, *sorted(ROOT.glob("*.md"))]
SHELL = ("sh", "shell", "bash", "console")


def _commands(page: Path) -> list[list[str]]:
    """The command lines of a page that call backlit, as words without the program's name."""
    lines = [
        line for block in snippets.blocks(page) if block.language in SHELL for line in block.text.splitlines()
    ]
    calls = [call for line in lines for call in re.split(r"&&|\|", line)]
    words = [shlex.split(call, comments=True) for call in calls]
    return [call[1:] for call in words if call and Path(call[0]).name == "backlit"]


@pytest.mark.parametrize("page", WITH_SNIPPETS, ids=lambda page: page.stem)
def test_docs_snippets_show_what_the_page_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert snippets.run(page) > 0


@pytest.mark.parametrize(
    "name", ["index", "article", "pairs", "configurations", "chain-rule", "training", "engines"]
)
def test_docs_page_has_snippets(name: str) -> None:
    assert ROOT / "docs" / f"{name}.md" in WITH_SNIPPETS


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_docs_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    files = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in files if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_docs_commands_exist(page: Path) -> None:
    for words in _commands(page):
        cli._parser()[0].parse_args(words)


def test_docs_show_commands() -> None:
    assert ["info"] in _commands(ROOT / "docs" / "install.md")
    assert ["train"] in _commands(ROOT / "docs" / "training.md")


@pytest.mark.parametrize("name", sorted(name for name in backlit.__all__ if name not in backlit.ops.__all__))
def test_docs_reference_has_every_public_name(name: str) -> None:
    reference = (ROOT / "docs" / "api.md").read_text()
    kind = "automodule" if isinstance(getattr(backlit, name), ModuleType) else r"auto(?:class|function)"
    assert re.search(rf"^\.\. {kind}:: backlit\.{name}$", reference, re.MULTILINE)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_docs_names_exist(page: Path) -> None:
    for name in sorted(set(re.findall(r"\bbl\.(\w+(?:\.\w+)*)", page.read_text("utf-8")))):
        assert operator.attrgetter(name)(backlit) is not None, name


def test_docs_index_lists_every_page() -> None:
    toctree = next(b for b in snippets.blocks(ROOT / "docs" / "index.md") if "toctree" in b.language)
    listed = [line for line in toctree.text.splitlines() if line and not line.startswith(":")]
    assert sorted([*listed, "index"]) == [page.stem for page in PAGES]


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_docs_python_blocks_are_run(page: Path) -> None:
    assert page in WITH_SNIPPETS or page.name == "README.md" or not snippets.python_blocks(page)


def test_docs_architecture_stays_short() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 150


def test_snippet_that_shows_something_else_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\n>>> 1 + 1\n3\n```\n")
    with pytest.raises(AssertionError, match="Expected:\n    3\nGot:\n    2"):
        snippets.run(page)


def test_snippet_that_nothing_would_run_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n\n```python\nprint(1 + 1)\n```\n")
    with pytest.raises(
        AssertionError, match=r"page\.md, line 4: a Python block without >>> is run by nothing"
    ):
        snippets.run(page)


def test_snippets_of_a_page_share_their_names(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\n>>> x = 2\n```\n\nand\n\n```python\n>>> x + 1\n3\n```\n")
    assert snippets.run(page) == 2
