"""The native module as the rest of the library sees it: there or not, and if not, why."""

from __future__ import annotations

import importlib
import os
from functools import cache
from types import ModuleType
from typing import NamedTuple


@cache
def _load() -> tuple[ModuleType | None, str]:
    """The module and "", or None and the reason. Any failure counts: a broken file must not stop `import backlit`."""
    try:
        return importlib.import_module("backlit._native"), ""
    except ModuleNotFoundError as error:
        if error.name == "backlit._native":
            return None, (
                "it was not built when backlit was installed, for want of a C++17 compiler or Python's headers, or "
                "because this system is neither Linux on x86-64 nor on aarch64. Where it is one of these, install "
                "both (Debian: apt-get install g++ python3-dev), then backlit again"
            )
        return None, f"it asks for another module, which is missing: {error}"
    except Exception as error:
        return None, f"it is there, but loading it failed: {error}"


def loaded() -> ModuleType:
    """The module, which has to be there.

    Raises:
        ImportError: it is not; the message says why.
    """
    module, reason = _load()
    if module is None:
        raise ImportError(f"backlit has no native module: {reason}.")
    return module


def available() -> bool:
    """Whether the native module was built and loads here."""
    return _load()[0] is not None


def why_unavailable() -> str:
    """Why `available()` is false, to be read after "no native module: "; empty when it is true."""
    return _load()[1]


def isas() -> tuple[str, ...]:
    """The instruction sets that native code can use on this processor, the plainest first; empty without the module.

    Returns:
        Of ("baseline", "avx2", "avx512") those that the processor has and the operating system lets programs use.
        avx2 means AVX2 and FMA; avx512 means the parts F, VL, BW and DQ.
    """
    module = _load()[0]
    return () if module is None else tuple(module.isas())


def usable_threads() -> int:
    """How many threads can really run at once: the processors in the affinity mask, capped by the container's quota.

    Returns:
        At least 1. A fractional quota counts as the next whole number. Without the module the mask alone decides.
    """
    module = _load()[0]
    if module is not None:
        return int(module.usable_threads())
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class MemoryFigures(NamedTuple):
    """Bytes of memory that the native module has from the system, for results and for what it works in.

    Args:
        live: in use. Blocks come in sizes of their own, so it is up to an eighth more than what was needed.
        idle: kept for the next call: at most a quarter of what is live or 256 MB, the larger, and small blocks.
        peak: the most that was ever live, in blocks of 64 KB and more.
    """

    live: int
    idle: int
    peak: int


def memory_figures() -> MemoryFigures:
    """How much memory native results and workspaces take now.

    Returns:
        Figures in bytes; all are 0 without the native module.

    Example:
        >>> memory_figures().idle >= 0
        True
    """
    module = _load()[0]
    return MemoryFigures(0, 0, 0) if module is None else MemoryFigures(*module.pool_figures())


def empty_cache() -> None:
    """Give the memory that is kept for the next call back to the system; nothing that is in use is touched.

    Example:
        >>> empty_cache()
    """
    module = _load()[0]
    if module is not None:
        module.empty_pool()


def peak(threads: int, dtype: str = "float32", seconds: float = 0.25) -> float | None:
    """GFLOP/s that the widest instruction set reaches on data in the first cache; None without the module.

    A multiplication and an addition count as two. All threads compute at once.
    """
    module = _load()[0]
    return (
        None
        if module is None
        else float(module.measure_peak(isas()[-1], dtype == "float64", threads, seconds))
    )


def bandwidth(threads: int, seconds: float = 0.25) -> float | None:
    """GB/s between the memory and all threads at once, reading two arrays and writing a third; None without the module.

    It needs 192 MB for as long as it measures: MemoryError where there is less.
    """
    module = _load()[0]
    return None if module is None else float(module.measure_bandwidth(threads, seconds))
