"""The import order of the package: lower layers never import higher ones, and frameworks stay in the leaves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import backlit

# A module or subpackage imports those of earlier rows only; those of one row do not import one another.
ROWS = (
    ("_native", "html", "sizes"),
    ("descriptor", "files"),
    ("geometry",),
    ("incidence", "trial"),
    ("engines",),
    ("ops",),
    ("graph",),
    ("nn",),
    ("optim", "data", "models"),
    ("train", "explain"),
    ("check", "inspect"),
    ("report", "interop", "bench"),
    ("experiment",),
    ("cli",),
    ("__main__",),
)
ROW_OF = {part: row for row, parts in enumerate(ROWS) for part in parts}

FRAMEWORKS = {"torch", "onnx", "onnxruntime", "sklearn", "tensorflow", "jax", "keras"}  # in interop alone
LATE = {
    "matplotlib",
    "rich",
    "safetensors",
    "PIL",
    "scipy",
}  # inside functions alone, as their import takes long

ROOT = Path(backlit.__file__).parent
SOURCES = [path.relative_to(ROOT) for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]
each_source = pytest.mark.parametrize("source", SOURCES, ids=str)


def _part(source: Path) -> str:
    """The module or subpackage directly under backlit that a file belongs to."""
    return source.parts[0].removesuffix(".py")


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    """The dotted names that a statement imports from; `from backlit import x` counts as backlit.x."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if node.module == "backlit":
        return [f"backlit.{alias.name}" for alias in node.names]
    return [node.module or ""]


def _imports(tree: ast.AST, *, at_import: bool = False) -> Iterator[tuple[str, ast.Import | ast.ImportFrom]]:
    """Every (dotted name, statement); with at_import only what runs when the module itself is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for name in _modules(node):
                yield name, node
        elif not (at_import and _is_put_off(node)):
            yield from _imports(node, at_import=at_import)


def _is_put_off(node: ast.AST) -> bool:
    """Whether a statement's body does not run when the module is imported."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test).endswith("TYPE_CHECKING")
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))


def _tree(source: Path) -> ast.Module:
    return ast.parse((ROOT / source).read_text(encoding="utf-8"))


def _uses_of_package(tree: ast.Module) -> set[str]:
    """The attributes of the package that a module reads as backlit.x, and any other name it gives the package."""
    nodes = list(ast.walk(tree))
    read = {n.attr for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "backlit"}
    renamed = {
        a.asname
        for n in nodes
        if isinstance(n, ast.Import)
        for a in n.names
        if a.name == "backlit" and a.asname
    }
    return read | renamed


@each_source
def test_module_has_its_place_in_the_order(source: Path) -> None:
    assert _part(source) in ROW_OF


@each_source
def test_module_imports_only_what_is_below_it(source: Path) -> None:
    own, tree = _part(source), _tree(source)
    wrong = []
    for name, node in _imports(tree):
        top, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if isinstance(node, ast.ImportFrom) and node.level:
            wrong.append(f"line {node.lineno}: a relative import")
        elif name == "backlit" and _uses_of_package(tree) <= {"__version__"}:
            continue  # every import of a module imports the package first, so its version is always there
        elif top == "backlit" and other != own and ROW_OF.get(other, len(ROWS)) >= ROW_OF[own]:
            wrong.append(f"line {node.lineno}: {own} imports {name}")
    assert wrong == []


@each_source
def test_frameworks_are_imported_in_interop_alone(source: Path) -> None:
    names = {name.partition(".")[0] for name, _ in _imports(_tree(source))}
    assert _part(source) == "interop" or not names & FRAMEWORKS


@each_source
def test_slow_imports_wait_until_they_are_needed(source: Path) -> None:
    names = {name.partition(".")[0] for name, _ in _imports(_tree(source), at_import=True)}
    assert not names & (LATE | FRAMEWORKS)
