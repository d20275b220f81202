"""Peak memory of a convolution's three passes beyond inputs and outputs, on large layers.

    python benchmarks/conv_memory.py [DESCRIPTOR ...] [--layout channels_last] [--engine gemm]

Counted are the arrays that NumPy allocates, as tracemalloc sees them, without buffers inside BLAS. A thread
keeps its scratch memory, so each pass runs in a thread of its own and pays for its own. About 2 GB are needed.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

import backlit as bl

LIMIT = 64.0  # MB of workspace, at most
MB = 1 << 20
LAYERS = (
    "conv2d:n8,c64-64,i224x224,k3x3,s1,p1",
    "conv2d:n32,c3-64,i224x224,k7x7,s2,p3",
    "conv2d:n16,c64-256,i56x56,k1x1",
    "conv2d:n2,c2048-2048,i14x14,k3x3,p1",
    "conv2d:n16,c256-256,g256,i112x112,k3x3,p1",
    "conv2d:n1,c16-16,i1024x1024,k5x5,p4,d2",
    "conv1d:n4,c64-64,i262144,k9,p4",
    "conv3d:n2,c32-32,i32x64x64,k3x3x3,p1",
    "convT2d:n8,c64-32,i112x112,k4x4,s2,p1",
)


def workspace(run: Callable[[], Any], engine: str | None) -> float:
    """MB that a pass needed at its peak, beyond what there was before and what it returns."""
    found = []

    def measured() -> None:
        with bl.engines.use(engine) if engine else contextlib.nullcontext():  # forces this thread only
            measure()

    def measure() -> None:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        result = run()
        found.append(tracemalloc.get_traced_memory()[1] - before - result.nbytes)

    thread = threading.Thread(target=measured)
    thread.start()
    thread.join()
    return found[0] / MB


def passes(g: bl.ConvGeometry, layout: str, engine: str | None) -> tuple[float, list[float]]:
    """MB of x, w and y together, and of the workspace of forward, dx and dw."""
    names = ("stride", "padding", "dilation", "groups", *(["output_padding"] if g.transposed else []))
    options: dict[str, Any] = {"layout": layout, **{name: getattr(g, name) for name in names}}
    forward, backward = bl.conv_forward, bl.conv_backward
    if g.transposed:
        forward, backward = bl.conv_transpose_forward, bl.conv_transpose_backward
    x, w, dy = (np.ones(shape, np.float32) for shape in g.shapes(layout))
    cache = forward(x, w, **options)[1]
    runs = (
        lambda: forward(x, w, **options)[0],
        lambda: backward(dy, cache, needs=("dx",))[0],
        lambda: backward(dy, cache, needs=("dw",))[1],
    )
    return (x.nbytes + w.nbytes + dy.nbytes) / MB, [workspace(run, engine) for run in runs]


def main() -> int:
    """Measure and print one table; 1 where a pass needs more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("layers", nargs="*", metavar="DESCRIPTOR", default=LAYERS)
    parser.add_argument("--layout", choices=("channels_first", "channels_last"), default="channels_first")
    parser.add_argument("--engine", choices=bl.engines.names(), default=None)
    options = parser.parse_args()
    print(f"MB of float32, {options.layout}")
    print(f"{'layer':<44}{'x, w, y':>9}{'forward':>9}{'dx':>7}{'dw':>7}")
    largest = 0.0
    tracemalloc.start()
    for text in options.layers:
        arrays, found = passes(bl.ConvGeometry.parse(text), options.layout, options.engine)
        largest = max(largest, *found)
        print(f"{text:<44}{arrays:>9.0f}{found[0]:>9.1f}{found[1]:>7.1f}{found[2]:>7.1f}", flush=True)
    print(f"largest workspace {largest:.1f} MB; at most {LIMIT:g} is asked for")
    return int(largest > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
