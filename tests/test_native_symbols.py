"""What is compiled for a wider instruction set stays by itself: no function of it can be linked into the other code."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KERNELS = ROOT / "native" / "kernels"
TABLES = sorted(path.stem for path in KERNELS.glob("*.cpp"))


def _flags(name: str) -> list[str]:
    """The compiler's options for a table, as CMakeLists.txt gives them."""
    text = (ROOT / "CMakeLists.txt").read_text()
    found = re.search(rf'kernels/{name}\.cpp PROPERTIES COMPILE_OPTIONS\s+"([^"]*)"', text)
    return found.group(1).split(";") if found else []


@pytest.mark.parametrize("path", sorted(KERNELS.iterdir()), ids=lambda path: path.name)
def test_kernels_include_nothing_but_one_another_and_integers(path: Path) -> None:
    included = set(re.findall(r'#\s*include\s+([<"][^>"]+[>"])', path.read_text()))
    ours = {f'"{other.name}"' for other in KERNELS.iterdir()}
    assert included <= ours | {"<stdint.h>"}


@pytest.mark.native
@pytest.mark.parametrize("name", TABLES)
def test_kernels_define_one_symbol_alone_which_is_their_table(name: str, tmp_path: Path) -> None:
    flags = _flags(name)
    assert bool(flags) == (name != "baseline")
    if flags and platform.machine() != "x86_64":
        flags = []  # that table is not built here; its sources are the same
        name, table = "baseline", "isa_baseline"
    else:
        table = f"isa_{name}"
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    assert compiler, "the native module is here, and the compiler that built it is not"
    target = tmp_path / f"{name}.o"
    command = [
        compiler,
        "-std=c++17",
        "-O1",
        "-fPIC",
        *flags,
        "-c",
        str(KERNELS / f"{name}.cpp"),
        "-o",
        str(target),
    ]
    subprocess.run(command, check=True)
    listed = subprocess.run(
        ["nm", "--extern-only", "--defined-only", "-C", str(target)], capture_output=True, text=True
    )
    assert [line.split(maxsplit=2)[2] for line in listed.stdout.splitlines()] == [f"backlit::{table}"]
