"""The rounding error of the native engine in float32, direct and Winograd, on 3x3 kernels of stride 1.

    python benchmarks/rounding_error.py

prints, for each pass and number of channels, the root mean square of the difference from the result in float64 relative
to the root mean square of that result, and the largest difference relative to the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import backlit as bl

CHANNELS = (16, 64, 256, 512)
ALGORITHMS = ("direct", "winograd")


def passes(x: Any, w: Any, dy: Any) -> tuple[Any, Any, Any]:
    y, cache = bl.conv_forward(x, w, padding=1)
    return (y, *bl.conv_backward(dy, cache))


def main() -> None:
    random = np.random.default_rng(0)
    print("channels  pass      " + "".join(f"{name:>22}" for name in ALGORITHMS))
    for channels in CHANNELS:
        x, dy = (random.standard_normal((8, channels, 28, 28), np.float32) for _ in range(2))
        w = random.standard_normal((channels, channels, 3, 3), np.float32)
        with bl.engines.use("native", algorithm="direct"):
            exact = passes(*(array.astype(np.float64) for array in (x, w, dy)))
        results = []
        for algorithm in ALGORITHMS:
            with bl.engines.use("native", algorithm=algorithm):
                results.append(passes(x, w, dy))
        for number, name in enumerate(("forward", "dx", "dw")):
            line = f"{channels:8}  {name:8}  "
            for result in results:
                error, scale = result[number] - exact[number], np.sqrt(np.mean(exact[number] ** 2))
                rms, largest = np.sqrt(np.mean(error**2)) / scale, np.max(np.abs(error)) / scale
                line += f"   {rms:8.1e}, {largest:8.1e}"
            print(line)


if __name__ == "__main__":
    main()
