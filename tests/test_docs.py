"""The documents: every snippet shows what the page says, every command and file that a page names exists."""

from __future__ import annotations

from pathlib import Path

import pytest

import snippets
from snippets import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
WITH_SNIPPETS = [page for page in PAGES if snippets.python_blocks(page)]

by_name = pytest.mark.parametrize("page", WITH_SNIPPETS, ids=lambda page: page.stem)


@by_name
def test_docs_snippets_show_what_the_page_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert snippets.run(page) > 0
