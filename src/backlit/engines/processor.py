"""The processor as the system describes it, for people to read: no engine is chosen by it but for instruction sets."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from backlit.engines import module

_SYSTEM = Path("/")


@dataclass(frozen=True)
class Processor:
    """What there is to compute on.

    Attributes:
        name: the processor's, as the system tells it.
        count: processors of the machine, each of which runs a thread.
        usable: how many threads can really run at once: the affinity mask, capped by a container's quota.
        caches: words and bytes of each kind of cache, the nearest first; empty where the system does not tell.
        isas: the instruction sets that the native engine can use, the plainest first; empty without it.
    """

    name: str
    count: int
    usable: int
    caches: tuple[tuple[str, int], ...]
    isas: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(f"{name:10}{fact}" for name, fact in self.facts().items())

    def facts(self) -> dict[str, str]:
        """The attributes in words."""
        caches = ", ".join(f"{kind} {size / 1024:,.0f} KB" for kind, size in self.caches)
        return {
            "processor": self.name,
            "threads": f"{self.usable} usable of {self.count}",
            "caches": caches or "the system does not tell",
            "ISAs": ", ".join(self.isas) or "none known without the native module",
        }


def processor() -> Processor:
    """The processor that this process runs on.

    Example:
        >>> processor().usable >= 1
        True
    """
    return Processor(_name(), os.cpu_count() or 1, module.usable_threads(), _caches(_SYSTEM), module.isas())


def _name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _caches(root: Path) -> tuple[tuple[str, int], ...]:
    """The caches that the first processor reaches, those for instructions apart."""
    found = []
    for folder in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index[0-9]*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
            kilobytes = int(size.removesuffix("K"))
            if kind != "Instruction":
                found.append((f"L{level}", kilobytes * 1024))
        except (OSError, ValueError):
            continue
    return tuple(found)
