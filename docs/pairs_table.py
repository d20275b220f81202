"""The pairs and the graph's rules as Sphinx directives, `pairs` and `rules`, read from the code's own docstrings.

docs/pairs.md uses them, so that the page cannot say anything else than the code does.
"""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from backlit import ops
from backlit.graph import RULES

SECTIONS = re.compile(r"^(?:Args|Returns|Raises|Source|Example):", re.MULTILINE)


class Half(NamedTuple):
    """One function of a pair: its name, the first sentence of its docstring, and the equation that follows."""

    name: str
    sentence: str
    equation: str


class Pair(NamedTuple):
    """The two functions of a pair, and the place where they are written."""

    module: str
    line: int
    forward: Half
    backward: Half


def pairs() -> list[Pair]:
    """Every pair that `backlit.ops` exports, in the order of the modules there and of the lines in them."""
    found = []
    for name in ops.__all__:
        if name.endswith("_forward"):
            forward, backward = getattr(ops, name), getattr(ops, name.replace("_forward", "_backward"))
            line = inspect.getsourcelines(forward)[1]
            found.append(Pair(forward.__module__, line, _half(forward), _half(backward)))
    modules = list(
        dict.fromkeys(rule.forward.__module__ for rule in RULES.values())
    )  # convolutions first, losses last
    modules += sorted({pair.module for pair in found} - set(modules))
    return sorted(found, key=lambda pair: (modules.index(pair.module), pair.line))


def _half(function: Any) -> Half:
    """A function's name, sentence and equation: the indented lines before the first section of its docstring."""
    sentence, _, rest = SECTIONS.split(inspect.getdoc(function) or "")[0].partition("\n\n")
    equation = "\n".join(line[4:] for line in rest.splitlines() if line.startswith("    "))
    if not sentence.strip() or not equation:
        raise ValueError(
            f"the docstring of {function.__name__} is no sentence followed by an indented equation"
        )
    return Half(function.__name__, " ".join(sentence.split()), equation)


def pairs_page() -> str:
    """Markdown: for every pair its functions, what it computes, and both equations."""
    text = []
    for _, _, forward, backward in pairs():
        links = " and ".join(f"{{py:func}}`~backlit.ops.{half.name}`" for half in (forward, backward))
        equations = f"{forward.equation}\n\n{backward.equation}"
        text.append(f"{links}: {forward.sentence}\n\n```text\n{equations}\n```\n")
    return "\n".join(text)


def rules_page() -> str:
    """Markdown: the graph's table of rules."""
    rows = ["| rule | computes | gradient of each input |", "|---|---|---|"]
    for rule in RULES.values():
        gradients = "<br>".join(f"`{text}`" for text in rule.local)
        rows.append(f"| `{rule.name}` | `{rule.formula}` | {gradients} |")
    return "\n".join(rows)


class PairsDirective(SphinxDirective):
    """The directive `pairs`."""

    def run(self) -> list[nodes.Node]:
        """The pairs as nodes of the page."""
        return self.parse_text_to_nodes(pairs_page())


class RulesDirective(SphinxDirective):
    """The directive `rules`."""

    def run(self) -> list[nodes.Node]:
        """The table as nodes of the page."""
        return self.parse_text_to_nodes(rules_page())


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directives known to Sphinx."""
    app.add_directive("pairs", PairsDirective)
    app.add_directive("rules", RulesDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
