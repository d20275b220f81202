"""PyTorch's side of a benchmark, a process of its own that times a convolution's passes whenever it is asked to.

    python -m backlit.interop.torch_timing THREADS

It reads requests as lines of JSON, and answers each with a line of JSON, which may announce that the bytes of arrays
follow:

    {"do": "open", "shapes": [x, w, y], "options": {...}}       -> {"formats": [...]}
    {"do": "run", "pass": "dx", "format": f}                    -> {"shape": [...]}, then float32 bytes
    {"do": "one_call", "pass": "dx", "format": f}               -> {"seconds": s, "calls": n}
    {"do": "samples", "pass": "dx", "format": f, "calls": n, "count": m, "limit": s}
                                                                -> {"seconds": [...]}

What goes wrong is answered with {"error": sentence}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from backlit.trial import one_call, operands, samples

FORMATS = {
    "contiguous": "contiguous_format",
    "channels_last": "channels_last",
    "channels_last_3d": "channels_last_3d",
}
LAST = {4: ["channels_last"], 5: ["channels_last_3d"]}  # by the axes of an array; one spatial axis has none
MASKS = {"dx": [True, False, False], "dw": [False, True, False]}


class Convolution:
    """A problem in PyTorch: its passes as functions without arguments, by name and memory format."""

    def __init__(self, torch: Any, shapes: Any, options: dict[str, Any]) -> None:
        self._torch = torch
        self._options = options
        self.formats = ["contiguous", *LAST.get(len(shapes[0]), [])]
        arrays = [torch.from_numpy(array) for array in operands(tuple(map(tuple, shapes)))]
        self._tensors = {  # copies, as PyTorch aligns what it allocates itself
            name: [array.clone(memory_format=getattr(torch, FORMATS[name])) for array in arrays]
            for name in self.formats
        }

    def run(self, name: str, memory_format: str) -> Callable[[], Any]:
        """The pass as a user runs it: the functional call forward, the operator behind autograd backward."""
        torch, o = self._torch, self._options
        x, w, dy = self._tensors[memory_format]
        stride, padding, dilation, groups = o["stride"], o["padding"], o["dilation"], o["groups"]
        extra = o["output_padding"]
        if name == "forward":
            axes = x.dim() - 2
            if o["transposed"]:
                convolve = getattr(torch, f"conv_transpose{axes}d")
                return lambda: convolve(x, w, None, stride, padding, extra, groups, dilation)
            convolve = getattr(torch, f"conv{axes}d")
            return lambda: convolve(x, w, None, stride, padding, dilation, groups)
        backward, position, mask = torch.ops.aten.convolution_backward, 0 if name == "dx" else 1, MASKS[name]
        rest = (stride, padding, dilation, o["transposed"], extra, groups, mask)
        return lambda: backward(dy, x, w, None, *rest)[position]


def answer(
    torch: Any, request: dict[str, Any], problem: Convolution | None
) -> tuple[Any, dict[str, Any], bytes]:
    """The problem that is open now, what to answer, and the bytes that follow."""
    if request["do"] == "open":
        problem = Convolution(torch, request["shapes"], request["options"])
        return problem, {"formats": problem.formats}, b""
    assert problem is not None, "nothing is open"
    run = problem.run(request["pass"], request["format"])
    if request["do"] == "run":
        result = np.ascontiguousarray(run().numpy())
        return problem, {"shape": result.shape}, result.tobytes()
    if request["do"] == "one_call":
        seconds, calls = one_call(run)
        return problem, {"seconds": seconds, "calls": calls}, b""
    return problem, {"seconds": samples(run, request["calls"], request["count"], request["limit"])}, b""


def serve(torch: Any, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    problem = None
    for line in requests:
        try:
            with torch.no_grad():
                problem, reply, content = answer(torch, json.loads(line), problem)
        except Exception as error:  # whatever it is, it is PyTorch's answer
            reply, content = {"error": f"{type(error).__name__}: {error}"}, b""
        answers.write(json.dumps(reply).encode() + b"\n" + content)
        answers.flush()


def main() -> None:
    """Serve the standard streams; what PyTorch itself prints goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        import torch
    except ImportError as error:
        answers.write(json.dumps({"error": f"PyTorch cannot be imported: {error}"}).encode() + b"\n")
        return
    torch.set_num_threads(int(sys.argv[1]))
    answers.write(json.dumps({"version": torch.__version__}).encode() + b"\n")
    answers.flush()
    serve(torch, sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
