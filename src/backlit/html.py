"""The shell that every self-contained page shares: escaping, data, style, and a policy against requests."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from typing import Any

__all__ = ["escape", "json_script", "page"]

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf8; --panel: #ffffff; --ink: #1b1e22; --muted: #59616b; --line: #e1ded8; --edge: #878d95;
  --accent: #0a6660; --good: #1d7a46; --warn: #8f5a00; --bad: #b3321f;
  --negative: #2468c9; --positive: #bd4c0a;
  --series-1: #0a6e68; --series-2: #c4500c; --series-3: #6a4fc0; --series-4: #b02f70;
  --series-5: #2468c9; --series-6: #66750c; --series-7: #8a5628; --series-8: #4e5966;
  --sans: ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --serif: "Iowan Old Style", Charter, Cambria, Palatino, Georgia, "DejaVu Serif", serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --panel: #1b1f24; --ink: #e8e6e1; --muted: #a0a8b1; --line: #2f353c; --edge: #77808a;
    --accent: #62cfc4; --good: #63c98c; --warn: #e2b04a; --bad: #f0836f;
    --negative: #5b9df5; --positive: #f5884a;
    --series-1: #4fc9bd; --series-2: #f0914f; --series-3: #ab97f5; --series-4: #ee82b4;
    --series-5: #75adf7; --series-6: #b5c653; --series-7: #d2a273; --series-8: #a7b3c0;
  }
}
@media print { :root { color-scheme: light; --paper: #ffffff; } }
*, ::before, ::after { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0 auto; padding: 2.5rem clamp(1rem, 4vw, 2.5rem) 4rem; max-width: 70rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.6 var(--sans); overflow-wrap: break-word; font-kerning: normal;
}
h1, h2, h3 { margin: 0; font-weight: 650; line-height: 1.25; letter-spacing: -.015em; text-wrap: balance; }
h1 { font-size: clamp(1.7rem, 1.2rem + 2.2vw, 2.4rem); }
h2 { font-size: 1.5rem; }
h3 { font-size: 1.1rem; letter-spacing: -.005em; }
p, ul, ol, dl, dd, figure, table, pre { margin: 0; }
p, li { max-width: 68ch; text-wrap: pretty; }
small, .small { font-size: .875rem; line-height: 1.5; }
.muted { color: var(--muted); }
a { color: var(--accent); text-underline-offset: .18em; text-decoration-thickness: .06em; }
code, kbd, pre { font-family: var(--mono); font-size: .9em; font-variant-ligatures: none; }
img, svg { max-width: 100%; height: auto; vertical-align: middle; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td {
  padding: .35rem .7rem; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--line);
}
th { font-weight: 600; }
caption { text-align: left; color: var(--muted); padding-bottom: .5rem; }
.number { text-align: right; white-space: nowrap; }
summary { cursor: pointer; color: var(--accent); width: fit-content; }
button {
  font: inherit; color: inherit; background: var(--panel); min-height: 2.5rem; padding: .35rem .9rem;
  border: 1px solid var(--edge); border-radius: .4rem; cursor: pointer;
}
button:hover:not(:disabled) { border-color: var(--accent); color: var(--accent); }
button:disabled { color: var(--muted); border-color: var(--line); cursor: default; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 2px; }
.scroll { position: relative; overflow-x: auto; max-width: 100%;
  --under: var(--paper); --shade: color-mix(in srgb, var(--ink) 22%, transparent);
  background: linear-gradient(90deg, var(--under) 40%, transparent) left / 2.5rem 100% no-repeat local,
    linear-gradient(270deg, var(--under) 40%, transparent) right / 2.5rem 100% no-repeat local,
    linear-gradient(90deg, var(--shade), transparent) left / 1rem 100% no-repeat scroll,
    linear-gradient(270deg, var(--shade), transparent) right / 1rem 100% no-repeat scroll; }
.hidden-text {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
}
@media (prefers-reduced-motion: reduce) {
  html { scroll-behavior: auto; }
  *, ::before, ::after { animation: none !important; transition: none !important; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  figure, tr, img, svg { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; background: none; }
}
""".strip()

_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")


def escape(text: object) -> str:
    """Text from outside made safe to stand between tags and inside quoted attributes.

    Lone surrogates, which file names bring along and UTF-8 cannot hold, become the replacement character.

    Args:
        text: anything; what is no string is shown as `str` shows it.

    Example:
        >>> escape('<b title="x">')
        '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(_SURROGATE.sub(_REPLACEMENT, str(text)), quote=True)


def json_script(element_id: str, data: Any) -> str:
    r"""Data for a page's script, as a JSON element that no text in it can close or open.

    Numbers that JSON lacks are written as the strings "NaN", "Infinity" and "-Infinity", which JavaScript's
    `Number(...)` turns back. Arrays and NumPy scalars are written as the lists and numbers of their `tolist`.

    Args:
        element_id: letters, digits, `_` and `-`, beginning with a letter.
        data: None, bool, numbers, strings, lists, tuples, dicts with string keys, NumPy arrays.

    Raises:
        ValueError: the id is no such name.
        TypeError: something in the data has no form in JSON.

    Example:
        >>> json_script("data", ["</script>", float("nan")])
        '<script type="application/json" id="data">["\\u003c/script\\u003e","NaN"]</script>'
    """
    if not _NAME.match(element_id):
        raise ValueError(
            f"element_id is {element_id!r}, and it needs letters, digits, _ or -, a letter first: 'data'."
        )
    text = json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{element_id}">{_SURROGATE.sub(_REPLACEMENT, text)}</script>'


def page(title: str, body: str, *, style: str = "", script: str = "", data: Any = None) -> str:
    """A complete HTML document in one string that needs, and can reach, nothing outside itself.

    Its Content-Security-Policy forbids every request; images come as data: addresses, and only the one
    style and the one script written here take effect, by their SHA-256. So `style=` attributes and `on...=`
    handlers in the body do nothing: use classes, SVG's own attributes (`fill="var(--accent)"`) and
    `addEventListener`.

    The colours are custom properties with a light and a dark value: --paper, --panel, --ink, --muted, --line,
    --edge, --accent, --good, --warn, --bad, --negative, --positive, --series-1 to --series-8. Wrap what may
    be wider than a phone in `<div class="scroll" tabindex="0" role="region" aria-label="...">`.

    Args:
        title: plain text; escaped here.
        body: HTML of the body, in which everything from outside has gone through `escape`.
        style: CSS after the shell's own.
        script: JavaScript, run when the body is there.
        data: where given, put into the page by `json_script("data", data)` before the script.

    Raises:
        ValueError: the style or the script holds the tag that would end it.

    Example:
        >>> print(page("Hello & welcome", "<h1>Hello</h1>").splitlines()[4])
        <title>Hello &amp; welcome</title>
    """
    style = f"{STYLE}\n{style.strip()}\n"
    script = f"\n{script.strip()}\n" if script.strip() else ""
    for name, text in (("style", style), ("script", script)):
        if re.search(rf"</{name}|<!--", text, re.IGNORECASE):
            raise ValueError(
                f"{name} contains '</{name}' or '<!--', which would end it early: write '<\\/{name}'."
            )
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            f"<title>{escape(title)}</title>",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="generator" content="backlit">',
            '<link rel="icon" href="data:,">',
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            body,
            *([json_script("data", data)] if data is not None else []),
            *([f"<script>{script}</script>"] if script else []),
            "</body>",
            "</html>",
            "",
        ]
    )


def _hash(text: str) -> str:
    """The source expression of a Content-Security-Policy that allows exactly this inline text."""
    if not text:
        return "'none'"
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _plain(value: Any) -> Any:
    """`value` in the types that JSON has."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"data has the key {key!r}, and JSON's keys are strings: use {str(key)!r}.")
        return {key: _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"data holds a {type(value).__name__}, which JSON cannot say: pass numbers, strings, lists, dicts."
    )
