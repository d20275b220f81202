"""The browser fixture itself: it sees each of the things that a page must not do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser


def _page(folder: Path, body: str) -> Path:
    path = folder / "page.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><title>A page</title>{body}", encoding="utf-8")
    return path


def test_browser_page_shows_what_the_file_says(browser_page: Any, tmp_path: Path) -> None:
    page = browser_page.open(_page(tmp_path, "<h1>Loss</h1><script>document.title = 1 + 1</script>"))
    assert page.locator("h1").inner_text() == "Loss"
    assert page.title() == "2"
    browser_page.assert_clean()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("<script>console.error('broken')</script>", "console error: broken"),
        ("<script>console.warn('odd')</script>", "console warning: odd"),
        ("<script>throw new Error('thrown')</script>", "uncaught exception: thrown"),
        ("<img src='https://example.org/a.png'>", "request: https://example.org/a.png"),
        ("<link rel=stylesheet href='style.css'>", "style.css"),
    ],
    ids=["console error", "console warning", "exception", "request", "second file"],
)
def test_browser_page_notices(browser_page: Any, tmp_path: Path, body: str, problem: str) -> None:
    browser_page.open(_page(tmp_path, body))
    with pytest.raises(AssertionError):
        browser_page.assert_clean()
    assert any(problem in found for found in browser_page.problems)


def test_browser_page_takes_embedded_data_for_no_request(browser_page: Any, tmp_path: Path) -> None:
    dot = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/%3E"
    browser_page.open(_page(tmp_path, f'<img src="{dot}">'))
    browser_page.assert_clean()
