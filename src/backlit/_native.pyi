"""The native module's types, for the type checker; native/bindings.cpp says what each function does."""

from collections.abc import Sequence
from typing import Any

from numpy import float32, float64, uint8
from numpy.typing import NDArray

_Array = NDArray[float32] | NDArray[float64]

def isas() -> list[str]: ...
def usable_threads() -> int: ...
def cpu_quota(root: str = "") -> float: ...
def compiler() -> str: ...
def measure_peak(isa: str, wide: bool, threads: int, seconds: float) -> float: ...
def measure_bandwidth(threads: int, seconds: float) -> float: ...
def memory(count: int) -> NDArray[uint8]: ...
def empty_pool() -> None: ...
def pool_figures() -> tuple[int, int, int]: ...
def _fail_allocation(n: int) -> None: ...
def _count_pieces(counts: Sequence[int], threads: int, failing: int = -1) -> int: ...

class Problem:
    def __init__(
        self,
        batch: int,
        in_channels: int,
        out_channels: int,
        groups: int,
        input_size: Sequence[int],
        output_size: Sequence[int],
        kernel_size: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
        pad: Sequence[int],
        channels_last: bool,
    ) -> None: ...

class PoolPlan:
    seconds: float
    pieces: int
    def __init__(
        self, operation: str, problem: Problem, wide: bool, isa: str, shape: Sequence[int]
    ) -> None: ...
    def run(self, first: _Array, second: NDArray[Any] | None = None, threads: int = 1) -> Any: ...

class BiasPlan:
    seconds: float
    pieces: int
    def __init__(self, outer: int, channels: int, inner: int, wide: bool, shape: Sequence[int]) -> None: ...
    def run(self, dy: _Array, threads: int = 1) -> _Array: ...

class ConvPlan:
    algorithm: str
    kernel: str
    reason: str
    tile: str
    isa: str
    seconds: float
    pieces: int
    def __init__(
        self, operation: str, problem: Problem, wide: bool, isa: str, algorithm: str, shape: Sequence[int]
    ) -> None: ...
    def run(self, first: _Array, second: _Array, bias: _Array | None = None, threads: int = 1) -> _Array: ...
