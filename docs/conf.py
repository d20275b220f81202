"""Sphinx's configuration: `nox -s docs`, or `sphinx-build -W docs docs/_build` where backlit[docs] is installed."""

import re
import sys
from pathlib import Path

import backlit

sys.path.insert(0, str(Path(__file__).parent))  # for pairs_table

project = "backlit"
author = "the backlit authors"
copyright = "2026, the backlit authors"
version = release = backlit.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "pairs_table",
]
exclude_patterns = ["_build"]
nitpicky = False  # types such as Array are aliases without a page of their own
default_role = "code"  # `name` in a docstring is code

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # Args says it, with shapes
autodoc_member_order = "bysource"
napoleon_custom_sections = [("Source", "returns_style")]
napoleon_use_ivar = True  # the attributes of a class stand in its docstring, once
napoleon_use_rtype = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"backlit {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]  # so that most equations fit on a line
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0a6660", "color-brand-content": "#0a6660"},
    "dark_css_variables": {"color-brand-primary": "#62cfc4", "color-brand-content": "#62cfc4"},
}


def _as_restructured_text(app, what, name, obj, options, lines):
    """Turn a docstring of this project into what Sphinx reads: equations as literal blocks, plain text as plain."""
    result, example, previous, equation = [], False, "", False
    in_head = True  # before the first section, where an indented block is an equation
    for line in lines:
        if re.match(r"\w+:$", line):
            in_head, example = False, line == "Example:"
        indented = line.startswith("    ")
        if in_head and indented and not equation and not previous.strip():
            result += ["::", ""]
            equation = True
        elif line.strip() and not indented:
            equation = False
        result.append(line if equation or example else _plain(line))
        previous = line
    lines[:] = result


def _plain(line: str) -> str:
    """A line whose asterisks, bars and trailing underscores are themselves, outside of code."""
    parts = re.split(r"(`+[^`]*`+)", line)
    parts[::2] = [re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def setup(app):
    """Read docstrings before napoleon does."""
    app.connect("autodoc-process-docstring", _as_restructured_text, priority=100)
