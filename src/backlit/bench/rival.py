"""PyTorch's side of a benchmark, as the process that measures sees it: processes of its own, asked over pipes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from math import prod
from typing import Any

import numpy as np

from backlit.geometry import ConvGeometry
from backlit.ops.arrays import Array

SIDES = ("called", "kept")
_INSTALL = "pip install torch==2.13.0"
# Memory of a result goes back to the system on every call, and comes anew at the price of its page faults, unless
# glibc is told to keep large blocks: then what is compared is kernel against kernel.
_KEEP = "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184"


class RivalError(Exception):
    """PyTorch cannot compute a problem, or ended."""


def need_torch() -> None:
    """Raise ImportError, with what to do, where PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise ImportError(
            f"to measure against torch, PyTorch has to be installed, and it is not: {_INSTALL}."
        )


class Rival:
    """A process that times PyTorch; it is started anew where it has ended.

    Args:
        side: "called", PyTorch as a user runs it, or "kept", with the memory of its results kept for the next.
        threads: how many it may use.
    """

    def __init__(self, side: str, threads: int) -> None:
        self.side = side
        self._threads = threads
        self._process: subprocess.Popen[bytes] | None = None
        self.version = ""

    def open(self, geometry: ConvGeometry) -> list[str]:
        """Begin with a problem, and return the memory formats that it can be computed in.

        Raises:
            RivalError: PyTorch has no such convolution.
        """
        pads = [low for low, _ in geometry.padding]
        if any(low != high or low < 0 for low, high in geometry.padding):
            raise RivalError("PyTorch pads both ends of an axis alike, and never crops")
        names = ("stride", "dilation", "groups", "transposed", "output_padding")
        options = {name: getattr(geometry, name) for name in names} | {"padding": pads}
        formats: list[str] = self._ask(do="open", shapes=geometry.shapes("channels_first"), options=options)[
            "formats"
        ]
        return formats

    def result(self, name: str, memory_format: str) -> Array:
        """What a pass gives."""
        shape = self._ask(do="run", **{"pass": name, "format": memory_format})["shape"]
        content = self._read(4 * prod(shape))
        return np.frombuffer(content, np.float32).reshape(shape)

    def one_call(self, name: str, memory_format: str) -> tuple[float, int]:
        """As `trial.one_call`, there."""
        reply = self._ask(do="one_call", **{"pass": name, "format": memory_format})
        return reply["seconds"], reply["calls"]

    def samples(self, name: str, memory_format: str, calls: int, count: int, limit: float) -> list[float]:
        """As `trial.samples`, there."""
        request = {"pass": name, "format": memory_format, "calls": calls, "count": count, "limit": limit}
        taken: list[float] = self._ask(do="samples", **request)["seconds"]
        return taken

    def start(self) -> None:
        """Start the process, and wait until PyTorch is imported.

        Raises:
            RivalError: it cannot be imported.
        """
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        if self.side == "kept":
            given = os.environ.get("GLIBC_TUNABLES")
            environment["GLIBC_TUNABLES"] = f"{given}:{_KEEP}" if given else _KEEP
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "backlit.interop.torch_timing", str(self._threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the process that measures, which ends this one
        )
        self.version = self._reply()["version"]

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, **request: Any) -> dict[str, Any]:
        if self._process is None:
            self.start()
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._ended()
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            self._ended()
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise RivalError(" ".join(reply["error"].split()))
        return reply

    def _read(self, size: int) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        content = self._process.stdout.read(size)
        if len(content) < size:
            self._ended()
        return content

    def _ended(self) -> None:
        assert self._process is not None
        code = self._process.wait()
        self._process.communicate()
        self._process = None
        raise RivalError(f"PyTorch's process ended with {f'signal {-code}' if code < 0 else f'code {code}'}")
