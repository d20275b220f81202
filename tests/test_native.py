"""The native module: what it says of the processor and the process, and how the package does without it."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from backlit.engines import module

WORDS = ("baseline", "avx2", "avx512")
WITHOUT = "import sys; sys.modules['backlit._native'] = None; "


def _python(code: str) -> str:
    """What a fresh interpreter prints when it runs `code`."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _processor_flags() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()


@pytest.mark.native
def test_isas_are_what_the_kernel_lists() -> None:
    flags = _processor_flags()
    needed = {
        "baseline": set(),
        "avx2": {"avx2", "fma"},
        "avx512": {"avx512f", "avx512vl", "avx512bw", "avx512dq"},
    }
    expected = ["baseline"] if platform.machine() != "x86_64" else [w for w in WORDS if needed[w] <= flags]
    assert list(module.isas()) == expected


@pytest.mark.native
def test_compiler_has_a_name_and_a_version() -> None:
    from backlit import _native

    name, version = _native.compiler().split()[:2]
    assert name
    assert version[0].isdigit() or name == "Debian"


@pytest.mark.parametrize(
    "prelude", [pytest.param("", marks=pytest.mark.native), WITHOUT], ids=["module", "python"]
)
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity masks")
def test_threads_stay_within_the_affinity_mask(prelude: str) -> None:
    one = min(os.sched_getaffinity(0))
    ask = "from backlit.engines.module import usable_threads; print(usable_threads())"
    assert _python(f"{prelude}import os; os.sched_setaffinity(0, {{{one}}}); {ask}") == "1"


@pytest.mark.native
def test_threads_are_the_mask_capped_by_the_quota() -> None:
    from backlit import _native

    processors = len(os.sched_getaffinity(0))
    assert module.usable_threads() == min(processors, max(1, math.ceil(min(_native.cpu_quota(), processors))))


def _system(folder: Path, groups: str, mounts: str, files: dict[str, str]) -> str:
    """A folder that looks like / to `cpu_quota`: /proc/self/{cgroup,mountinfo} and the files of control groups."""
    for name, text in {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(folder)


V2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
V1 = "35 28 0:30 {} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"

QUOTAS = {
    "no control groups": ("", "", {}, math.inf),
    "version 2, no limit": ("0::/a", V2, {"sys/fs/cgroup/a/cpu.max": "max 100000\n"}, math.inf),
    "version 2, own limit": ("0::/a", V2, {"sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 1.5),
    "version 2, a container's root": ("0::/", V2, {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
    "version 2, the parent's is tighter": (
        "0::/a/b",
        V2,
        {"sys/fs/cgroup/a/cpu.max": "200000 100000\n", "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n"},
        2.0,
    ),
    "version 2, no file in the group itself": (
        "0::/a/b/c",
        V2,
        {"sys/fs/cgroup/a/cpu.max": "300000 100000\n"},
        3.0,
    ),
    "version 2, another namespace's group": (
        "0::/../x",
        V2,
        {"sys/fs/cgroup/cpu.max": "100000 50000\n"},
        2.0,
    ),
    "version 1, own limit": (
        "4:memory:/m\n3:cpu,cpuacct:/a\n",
        V1.format("/"),
        {
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
        },
        2.5,
    ),
    "version 1, no limit": (
        "3:cpu,cpuacct:/a\n",
        V1.format("/"),
        {
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
        },
        math.inf,
    ),
    "version 1, a container that shows its own group as the root": (
        "3:cpu,cpuacct:/docker/1f\n",
        V1.format("/docker/1f"),
        {
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
        4.0,
    ),
    "both versions, the tighter": (
        "3:cpu,cpuacct:/a\n0::/b\n",
        V1.format("/") + "31 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        {
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "400000\n",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/unified/b/cpu.max": "300000 100000\n",
        },
        3.0,
    ),
    "a path with a space": (
        "0::/a b",
        V2.replace("/sys/fs/cgroup", "/sys/fs/c\\040g"),
        {"sys/fs/c g/a b/cpu.max": "700000 100000\n"},
        7.0,
    ),
    "lines that make no sense": ("0\n::\nx:y", "1 2\n-\n- - -\n", {}, math.inf),
}


@pytest.mark.native
@pytest.mark.parametrize("case", QUOTAS)
def test_quota_is_the_tightest_of_all_control_groups(case: str, tmp_path: Path) -> None:
    from backlit import _native

    groups, mounts, files, expected = QUOTAS[case]
    assert _native.cpu_quota(_system(tmp_path, groups, mounts, files)) == expected


def test_package_works_without_the_module() -> None:
    ask = "import backlit; from backlit.engines import module as n; print(n.available(), n.isas())"
    assert _python(WITHOUT + ask) == "False ()"


def test_missing_module_is_explained() -> None:
    ask = "from backlit.engines import module; print(module.why_unavailable())"
    assert "install both" in _python(WITHOUT + ask)


def test_broken_module_is_reported_and_does_not_stop_the_import(tmp_path: Path) -> None:
    (tmp_path / "_native.abi3.so").write_bytes(b"no shared object")
    code = (
        f"import backlit; backlit.__path__.insert(0, {str(tmp_path)!r})\n"
        "import sys, importlib; sys.modules.pop('backlit._native', None); importlib.invalidate_caches()\n"
        "from backlit.engines import module; module._load.cache_clear()\n"
        "print(module.available(), module.why_unavailable())"
    )
    assert _python(code).startswith("False it is there, but loading it failed: ")


@pytest.mark.native
def test_module_that_works_has_nothing_to_explain() -> None:
    assert module.available()
    assert module.why_unavailable() == ""
