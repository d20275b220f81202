"""What CONTRIBUTING asks of every file: tolerances from one place, and docstrings that say all of what a pair is."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from backlit import ops

TESTS = sorted(Path(__file__).parent.glob("*.py"))
DECIDES = "tolerance.py"  # the one file that may
TOLERANCES = {
    "abs_tol", "allclose", "approx", "assert_allclose", "assert_almost_equal", "assert_approx_equal",
    "assert_array_almost_equal", "assert_array_almost_equal_nulp", "assert_array_max_ulp", "assertAlmostEqual",
    "atol", "isclose", "rel_tol", "rtol",
}  # fmt: skip
SECTIONS = ("Args", "Returns", "Raises", "Source", "Example")


def tolerances(source: str) -> list[str]:
    """Every use of a name by which a tolerance is decided, as "line: name"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case (
                ast.Attribute(attr=name)
                | ast.Name(id=name)
                | ast.keyword(arg=str(name))
                | ast.alias(name=name)
            ):
                if name in TOLERANCES:
                    found.append(f"{node.lineno}: {name}")
    return found


@pytest.mark.parametrize("path", [path for path in TESTS if path.name != DECIDES], ids=lambda path: path.stem)
def test_conventions_tolerances_are_decided_in_one_file(path: Path) -> None:
    assert tolerances(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "source",
    ["np.allclose(a, b)", "a == approx(b)", "from math import isclose", "check(a, b, rtol=1e-5)"],
)
def test_conventions_see_a_tolerance(source: str) -> None:
    assert len(tolerances(source)) == 1


@pytest.mark.parametrize("name", ops.__all__)
def test_conventions_pair_has_a_whole_docstring(name: str) -> None:
    doc = inspect.getdoc(getattr(ops, name)) or ""
    text, *sections = re.split(rf"^({'|'.join(SECTIONS)}):\n", doc, flags=re.MULTILINE)
    assert re.match(r"[A-Z][^\n]+[.:]\n\n", text), "a first sentence, on one line"
    assert re.search(r"\n\n {4}\S.*(=|<-)", text), "an equation, in a block of its own"
    assert tuple(sections[::2]) == SECTIONS
    assert all(body.strip() for body in sections[1::2])
    assert ">>> " in sections[-1], "an example that runs"
