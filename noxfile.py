"""The checks of this project, the same for a person and for a machine: `nox` runs lint, types and tests."""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "venv"

PROJECT = nox.project.load_toml("pyproject.toml")["project"]
CPP = sorted(str(path) for path in Path("native").rglob("*") if path.suffix in {".cpp", ".h"})
COMPARED = ["torch==2.13.0", "playwright"]  # a newer or unpinned torch brings gigabytes of CUDA


@nox.session
def lint(session: nox.Session) -> None:
    """Style of Python and C++; `nox -s lint -- --fix` repairs what can be repaired."""
    session.install("ruff>=0.17", "clang-format>=20")
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []))
    session.run("ruff", "format", *([] if fix else ["--check"]))
    session.run("clang-format", *(["-i"] if fix else ["--dry-run", "--Werror"]), *CPP)


@nox.session
def types(session: nox.Session) -> None:
    """Types of src, strictly."""
    extras = PROJECT["optional-dependencies"]
    session.install("mypy>=1.15", *PROJECT["dependencies"], *extras["report"], *extras["data"])
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The README's test command; what needs PyTorch or a browser is skipped."""
    session.install(".[all,test]")
    session.run("pytest", *session.posargs)


@nox.session
def full(session: nox.Session) -> None:
    """Every comparison, with twenty times the examples; takes long. For another Python add `--force-python 3.13`."""
    session.install(*COMPARED)
    session.install(".[all,test]")
    environment = {"HYPOTHESIS_PROFILE": "full"}
    session.run("pytest", "--require=torch,browser,native", *session.posargs, env=environment)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as HTML in docs/_build; any warning fails."""
    session.install(".[all,docs]")
    session.run("sphinx-build", "-W", "--keep-going", "docs", "docs/_build", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Every benchmark against PyTorch, or those whose paths are given."""
    session.install(COMPARED[0])
    session.install(".[all]")
    for path in session.posargs or sorted(map(str, Path("benchmarks").glob("*.py"))):
        session.run("python", path)
