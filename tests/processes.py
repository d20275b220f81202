"""What the tests of the native engine share: problems that take every path, their passes, and Python in a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from backlit.engines import loops, module, use
from backlit.engines.native import native_plan
from backlit.geometry import ConvGeometry, PoolGeometry
from configurations import integers

ISAS = module.isas()
LAYOUTS = ("channels_first", "channels_last")

# One problem for every way in which a convolution is computed, small enough for any of the tests here.
PROBLEMS = (
    "conv2d:n1,c1-1,i3x3,k2x2",  # plain loops
    "conv2d:n2,c17-19,i13x14,k3x3,p1",  # Winograd in float32, and tiles that overlap every edge
    "conv2d:n2,c17-19,i13x14,k3x3,s2,p1",
    "conv2d:n3,c33-18,i7x9,k1x1",
    "conv2d:n2,c3-20,i17x15,k5x5,p2",  # few input channels
    "conv2d:n2,c12-12,g12,i11x13,k3x3,p1",  # depthwise
    "conv2d:n1,c8-12,g4,i9x9,k3x3,d2,p2",
    "conv1d:n2,c9-10,i50,k7,s3,p3",
    "conv3d:n1,c5-9,i5x6x7,k3x3x3,p1",
)


# Pools beside them: windows side by side, apart, over one another, over every edge, and on one and three axes.
POOLS = {
    "pool2d k2": PoolGeometry(2, 17, (13, 14), 2),
    "pool2d k3 s2 p1": PoolGeometry(3, 5, (12, 33), 3, 2, 1, ceil_mode=True),
    "pool2d k2 s3 d2": PoolGeometry(1, 32, (16, 17), 2, 3, 1, 2),
    "pool2d k17": PoolGeometry(1, 3, (17, 18), 17, 1),
    "pool1d k3": PoolGeometry(2, 9, (50,), 3, 1, 1),
    "pool3d k2": PoolGeometry(1, 16, (5, 6, 7), 2, 1),
}
ALL = (*PROBLEMS, *POOLS)

Given = dict[str, tuple[Any, ...]]  # arrays by the operation that they are given to


def geometry(text: str) -> Any:
    """The problem that has a name in POOLS, or that a descriptor describes."""
    return POOLS[text] if text in POOLS else ConvGeometry.parse(text)


def operands(text: str, layout: str, dtype: str = "float32") -> Given:
    """What every operation of a problem computes from, of small integers."""
    g = geometry(text)
    if isinstance(g, PoolGeometry):
        xs, _, ys = g.windows.shapes(layout)
        x, dy = integers(0, xs, dtype), integers(1, ys, dtype)
        winners = loops.ENGINE.functions["max_pool_forward"](g, layout, x)[1]
        divisors = np.full(g.output_size, 2.0)
        return {
            "max_pool_forward": (x,),
            "max_pool_backward": (dy, winners),
            "avg_pool_forward": (x, divisors),
            "avg_pool_backward": (dy, divisors),
        }
    shapes = (*g.shapes(layout), (g.out_channels,))
    x, w, dy, b = (integers(seed, shape, dtype) for seed, shape in enumerate(shapes))
    return {
        "conv_forward": (x, w, b),
        "conv_grad_input": (w, dy),
        "conv_grad_weight": (x, dy),
        "conv_grad_bias": (dy,),
    }


def changed(given: Given, change: Callable[[Any], Any]) -> Given:
    """`change` of every array but a pool's winners and divisors, which say how to compute."""
    return {
        name: (change(inputs[0]), *(inputs[1:] if "pool" in name else map(change, inputs[1:])))
        for name, inputs in given.items()
    }


def results(
    text: str,
    layout: str,
    given: Given,
    threads: int = 1,
    isa: str | None = None,
    algorithm: str | None = None,
) -> list[Any]:
    """What the native engine computes by every operation, on so many threads."""
    found = []
    with use("native", algorithm=algorithm, isa=isa):
        for name, inputs in given.items():
            how = native_plan(name, geometry(text), inputs[0].dtype.name, layout)
            result = how.run(*inputs, threads=threads)
            found += result if isinstance(result, tuple) else [result]
    return found


def assert_same_bits(found: list[Any], expected: list[Any]) -> None:
    """Fail unless the arrays are the same, pair by pair, zeros' signs and NaNs included."""
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()


def run_python(code: str, seconds: float = 120, **environment: str) -> str:
    """Run a program in a process of its own, which has to end well and in time; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout


# Before every program: a convolution that is worth several threads, and what it has to give.
PRELUDE = """
import os, signal, sys, threading, time
import numpy as np
import backlit as bl
from backlit import _native
from backlit.engines import native
from backlit.geometry import ConvGeometry

g = ConvGeometry.parse("conv2d:n8,c32-32,i28x28,k3x3,p1")
xs, ws, ys = g.shapes("channels_first")
x, w = np.random.default_rng(0).standard_normal(xs, np.float32), np.ones(ws, np.float32)
plan = native.native_plan("conv_forward", g, "float32", "channels_first")

def compute(threads=4):
    return plan.run(x, w, None, threads)

def workers():
    tasks = [open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")]
    return tasks.count("backlit")

def succeeds(child):  # within a minute
    for _ in range(6000):
        process, status = os.waitpid(child, os.WNOHANG)
        if process:
            return status == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    return False
"""
