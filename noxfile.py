"""The checks of this project, the same for a person and for a machine: `nox` runs lint, types and tests."""

from __future__ import annotations

import shutil
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
    session.run("pytest", "--require=torch,onnx,browser,native", *session.posargs, env=environment)


# Kind of sanitizer -> -fsanitize=, the library of its run time, and how it is set up. CPython frees nothing at its end,
# and what it and other modules do without a lock is their affair: only our module has been compiled for a sanitizer.
SANITIZERS = {
    "address": (
        "address,undefined",
        "libasan.so",
        {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1", "PYTHONMALLOC": "malloc"},
    ),
    "thread": ("thread", "libtsan.so", {"TSAN_OPTIONS": "die_after_fork=0:halt_on_error=1:exitcode=66"}),
}
# What they run beside the tests that are marked native.
SANITIZED = ["tests/test_conv.py", "tests/test_pool.py", "tests/test_engines.py"]


def check_program(session: nox.Session, *definitions: str) -> str:
    """Build the program that compares all kernels with the plain loops, and return its path."""
    session.install("cmake", "ninja")
    build = str(Path(session.create_tmp()) / "check")
    settings = [f"-D{definition}" for definition in ("BACKLIT_CHECK=ON", *definitions)]
    session.run("cmake", "-S", ".", "-B", build, "-G", "Ninja", *settings)
    session.run("cmake", "--build", build)
    return f"{build}/check_execute"


@nox.session
@nox.parametrize("kind", list(SANITIZERS), ids=list(SANITIZERS))
def sanitize(session: nox.Session, kind: str) -> None:
    """Native code under GCC's sanitizers: `nox -s "sanitize(address)"`, which also sees undefined behaviour."""
    flag, library, options = SANITIZERS[kind]
    session.run(check_program(session, f"BACKLIT_SANITIZE={flag}", "CMAKE_CXX_COMPILER=g++"), external=True)
    # A build whose functions have names in the reports.
    build = ["cmake.build-type=RelWithDebInfo", f"cmake.define.BACKLIT_SANITIZE={flag}"]
    session.install(".[all,test]", *(f"--config-settings={setting}" for setting in build), env={"CXX": "g++"})
    # Both before Python itself: the first has to be first, and needs what the second defines.
    found = [
        session.run("g++", f"-print-file-name={name}", external=True, silent=True).strip()
        for name in (library, "libstdc++.so.6")
    ]
    environment = options | {"LD_PRELOAD": " ".join(found), "OPENBLAS_NUM_THREADS": "1"}
    # Sanitizers write to file descriptor 2, which pytest would capture.
    pytest = ["python", "-m", "pytest", "--require=native", "--capture=sys"]
    session.run(*pytest, "-m", "native and not unsanitized", *(session.posargs or ["tests"]), env=environment)
    if not session.posargs:
        session.run(*pytest, *SANITIZED, env=environment)


@nox.session
def aarch64(session: nox.Session) -> None:
    """Kernels and drivers for aarch64, cross-compiled and compared with the plain loops under an emulator."""
    tools = {"aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu", "qemu-aarch64": "qemu-user"}
    missing = {tool: package for tool, package in tools.items() if not shutil.which(tool)}
    if missing:
        session.error(f"{', '.join(missing)} not found; Debian: apt-get install {' '.join(missing.values())}")
    target = ["CMAKE_SYSTEM_NAME=Linux", "CMAKE_SYSTEM_PROCESSOR=aarch64", "CMAKE_EXE_LINKER_FLAGS=-static"]
    program = check_program(session, *target, "CMAKE_CXX_COMPILER=aarch64-linux-gnu-g++")
    session.run("qemu-aarch64", program, *session.posargs, external=True)


@nox.session
def fuzz(session: nox.Session) -> None:
    """A hundred thousand hostile calls from a fixed seed, in worker processes: no crash, no hang, no wrong result."""
    session.install(".[test]")
    session.run("python", "tests/fuzz.py", *(session.posargs or ["--calls", "100000", "--seed", "0"]))


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
