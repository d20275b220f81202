"""The package as it is installed: its names, what importing it loads, and the files that come with it."""

from __future__ import annotations

import importlib.metadata
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import backlit

FOLDER = Path(backlit.__file__).parent
of_the_installed = pytest.mark.skipif(
    not any(importlib.metadata.Distribution.discover(name="backlit")),
    reason="backlit is imported from its sources, not installed",
)


def _python(code: str) -> str:
    """What a fresh interpreter prints when it runs `code`."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _loaded_by(statement: str) -> set[str]:
    return set(_python(f"import sys; {statement}; print(*sys.modules)").split())


def test_exported_names_are_unique() -> None:
    assert len(set(backlit.__all__)) == len(backlit.__all__)


@pytest.mark.parametrize("name", backlit.__all__)
def test_exported_name_exists_and_is_documented(name: str) -> None:
    assert inspect.getdoc(getattr(backlit, name))


def test_public_attributes_are_the_exported_names() -> None:
    public = {name for name, value in vars(backlit).items() if name[0] != "_" and not inspect.ismodule(value)}
    assert public <= set(backlit.__all__)


@of_the_installed
def test_version_is_the_metadata_version() -> None:
    assert backlit.__version__ == importlib.metadata.version("backlit")


def test_import_loads_nothing_heavy_but_numpy() -> None:
    extra = {name.partition(".")[0] for name in _loaded_by("import backlit") - _loaded_by("import numpy")}
    assert extra - set(sys.stdlib_module_names) <= {"backlit", "numpy"}


def test_import_loads_few_modules_that_are_not_its_own() -> None:
    """A count stands in for the time, which no test should depend on."""
    others = {
        name for name in _loaded_by("import backlit") - _loaded_by("import numpy") if name[:7] != "backlit"
    }
    assert len(others) < 75


@pytest.mark.parametrize("name", ["explain", "report", "train"])
def test_import_leaves_for_later_what_pairs_do_not_need(name: str) -> None:
    assert f"backlit.{name}" not in _loaded_by("import backlit")


def test_main_module_says_how_it_is_used() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "backlit", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ")


@pytest.mark.parametrize("name", ["py.typed", "_native.pyi", "data/digits.npz"])
def test_file_is_installed(name: str) -> None:
    assert (FOLDER / name).is_file()


@of_the_installed
@pytest.mark.parametrize("name", ["LICENSE", "NOTICE"])
def test_licence_file_is_installed(name: str) -> None:
    files = importlib.metadata.files("backlit") or []
    assert any(file.match(f"*.dist-info/licenses/{name}") for file in files)


@of_the_installed
def test_notice_credits_the_digits() -> None:
    metadata = importlib.metadata.distribution("backlit")
    notice = metadata.read_text("licenses/NOTICE") or ""
    assert "10.24432/C50P49" in notice
    assert "CC BY 4.0" in notice


def test_installed_files_take_less_than_four_megabytes() -> None:
    assert (
        sum(file.stat().st_size for file in FOLDER.rglob("*") if "__pycache__" not in file.parts) < 4_000_000
    )
