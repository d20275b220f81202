"""The pages' shell: nothing from outside gets in as markup, and nothing gets out as a request."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser

import numpy as np
import pytest

from backlit.html import escape, json_script, page

HOSTILE = (
    "</script></title><script>document.documentElement.dataset.hacked = 1</script><!-- \u2028 & \" ' <b>"
)


class Elements(HTMLParser):
    """Every element of a document: its tag, its attributes and its own text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))
        self.open = True

    def handle_endtag(self, tag: str) -> None:
        self.open = False

    def handle_data(self, data: str) -> None:
        if self.open:
            self.found[-1][2].append(data)

    def texts(self, tag: str) -> list[str]:
        return ["".join(text) for name, _, text in self.found if name == tag]

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.found if name == tag]


def policy_of(text: str) -> dict[str, str]:
    """The page's Content-Security-Policy: directive -> sources."""
    metas = Elements(text).attributes("meta")
    content = next(m["content"] for m in metas if m.get("http-equiv") == "Content-Security-Policy")
    assert content is not None
    return dict(part.strip().partition(" ")[::2] for part in content.split(";"))


def sha256(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_escape_turns_markup_and_quotes_into_text() -> None:
    assert escape("<a href=\"x\" title='y'>&") == "&lt;a href=&quot;x&quot; title=&#x27;y&#x27;&gt;&amp;"


def test_escape_survives_file_names_that_are_no_unicode() -> None:
    name = b"\xff.png".decode("utf-8", "surrogateescape")
    assert escape(name).encode() == "\ufffd.png".encode()


def test_json_script_holds_nothing_that_html_would_read() -> None:
    inside = json_script("data", {HOSTILE: [HOSTILE]}).split(">", 1)[1].rsplit("<", 1)[0]
    assert not set("<>&\u2028\u2029") & set(inside)


def test_json_script_gives_the_data_back() -> None:
    data = {"text": HOSTILE, "list": [1, 2.5, None, True, "ü"], "nested": {"a": {}}}
    assert json.loads(Elements(json_script("data", data)).texts("script")[0]) == data


def test_json_script_writes_numpy_as_numbers_and_lists() -> None:
    data = {"array": np.arange(4, dtype=np.float32).reshape(2, 2), "scalar": np.int64(3), "tuple": (1, 2)}
    text = Elements(json_script("data", data)).texts("script")[0]
    assert json.loads(text) == {"array": [[0, 1], [2, 3]], "scalar": 3, "tuple": [1, 2]}


def test_json_script_writes_what_json_lacks_as_strings() -> None:
    text = Elements(json_script("data", [float("nan"), float("inf"), -np.inf])).texts("script")[0]
    assert json.loads(text) == ["NaN", "Infinity", "-Infinity"]


def test_json_script_names_what_has_no_form_in_json() -> None:
    with pytest.raises(TypeError, match=r"data holds a set, which JSON cannot say"):
        json_script("data", [{1, 2}])
    with pytest.raises(TypeError, match=r"data has the key 1, and JSON's keys are strings: use '1'"):
        json_script("data", {1: 2})


@pytest.mark.parametrize("name", ["", "1a", 'a"b', "a b", "data\n"])
def test_json_script_refuses_an_id_that_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="element_id is"):
        json_script(name, 0)


def test_page_shows_a_hostile_title_as_text() -> None:
    elements = Elements(page(HOSTILE, "<p>body</p>"))
    assert elements.texts("title")[0] == HOSTILE
    assert elements.texts("script") == []


def test_page_allows_exactly_its_own_style_and_script() -> None:
    text = page(
        "title", "<p>body</p>", style="p { color: red; }", script="document.title = 'ü';", data={"a": 1}
    )
    elements = Elements(text)
    policy = policy_of(text)
    assert policy["style-src"] == sha256(elements.texts("style")[0])
    assert policy["script-src"] == sha256(elements.texts("script")[-1])


def test_page_without_a_script_allows_none() -> None:
    assert policy_of(page("title", ""))["script-src"] == "'none'"


def test_page_allows_nothing_from_outside() -> None:
    policy = policy_of(page("title", "", script="1"))
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data:"
    assert set(policy) == {"default-src", "img-src", "style-src", "script-src", "base-uri", "form-action"}


def test_page_is_a_complete_document() -> None:
    text = page("title", "<p>body</p>", script="1", data=[1])
    assert text.startswith('<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">')
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in Elements(
        text
    ).attributes("meta")


@pytest.mark.parametrize(("style", "script"), [("a { } </STYLE>", ""), ("", "'</script>'"), ("", "'<!--'")])
def test_page_refuses_a_style_or_script_that_would_end_early(style: str, script: str) -> None:
    with pytest.raises(ValueError, match=r"which would end it early"):
        page("title", "", style=style, script=script)


@pytest.mark.browser
def test_page_hands_its_script_the_data_as_they_were(browser_page, tmp_path) -> None:
    data = {HOSTILE: [1, None, "ü", HOSTILE]}
    script = (
        "document.body.dataset.got = JSON.stringify(JSON.parse(document.getElementById('data').textContent));"
    )
    (tmp_path / "page.html").write_text(page(HOSTILE, "<p>body</p>", script=script, data=data), "utf-8")
    opened = browser_page.open(tmp_path / "page.html")
    assert json.loads(opened.evaluate("document.body.dataset.got")) == data
    assert opened.title() == HOSTILE
    assert opened.evaluate("document.documentElement.dataset.hacked") is None
    browser_page.assert_clean()


@pytest.mark.browser
@pytest.mark.parametrize(
    "body",
    [
        "<script>document.documentElement.dataset.hacked = 1</script>",
        '<img src="data:," onerror="document.documentElement.dataset.hacked = 1" alt="">',
        '<img src="https://example.org/pixel.png" alt="">',
        '<p style="color: rgb(1, 2, 3)">styled</p>',
    ],
    ids=["script", "handler", "image", "style"],
)
def test_page_stops_what_slipped_into_its_body(browser_page, tmp_path, body: str) -> None:
    (tmp_path / "page.html").write_text(page("title", body, script="1"), "utf-8")
    opened = browser_page.open(tmp_path / "page.html")
    opened.wait_for_timeout(50)
    assert opened.evaluate("document.documentElement.dataset.hacked") is None
    assert opened.evaluate(
        "[...document.querySelectorAll('p')].every(p => getComputedStyle(p).color != 'rgb(1, 2, 3)')"
    )
    # A request that the policy stops is announced too, and fails before it leaves.
    assert any("Content Security Policy" in problem for problem in browser_page.problems)
