"""Memory of the native engine: aligned, used again, bounded, given back, and its refusal at any point."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from itertools import count
from typing import Any

import numpy as np
import pytest

import backlit as bl
from backlit.engines import module, use
from backlit.engines.native import native_plan
from backlit.geometry import ConvGeometry
from processes import ALL, LAYOUTS, PROBLEMS, assert_same_bits, geometry, operands, results, run_python

if module.available():
    from backlit import _native

pytestmark = pytest.mark.native

LARGE = "conv2d:n16,c16-64,i64x64,k1x1"  # a result of 16 MB


_given = cache(operands)


def _forward(text: str, threads: int = 1) -> Any:
    how = native_plan("conv_forward", ConvGeometry.parse(text), "float32", "channels_first")
    return how.run(*_given(text, "channels_first")["conv_forward"], threads)


def _with_refusal(n: int, call: Callable[[], Any]) -> Any:
    """What a call gives, or the sentence of its MemoryError, if the n-th allocation from now is refused."""
    _native._fail_allocation(n)
    try:
        return call()
    except MemoryError as error:
        return str(error)
    finally:
        _native._fail_allocation(-1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", ALL)
def test_results_lie_at_multiples_of_64_bytes_and_are_ordinary_arrays(text: str, dtype: str) -> None:
    for layout in LAYOUTS:
        for result in results(text, layout, operands(text, layout, dtype)):
            assert result.ctypes.data % 64 == 0
            assert result.flags.c_contiguous
            assert result.flags.writeable


def test_memory_of_a_result_is_used_again_by_the_next_call() -> None:
    address = _forward(LARGE).ctypes.data
    assert _forward(LARGE).ctypes.data == address


def test_memory_that_is_in_use_is_never_handed_out_again() -> None:
    expected = _forward(PROBLEMS[1]).copy()
    kept = [_forward(PROBLEMS[1], threads=4) for _ in range(50)]
    for result in kept:
        assert_same_bits([result], [expected])
        result.fill(np.nan)
    assert len({result.ctypes.data for result in kept}) == 50


def test_live_bytes_are_those_of_the_results_that_are_held() -> None:
    before = bl.engines.memory_figures().live
    result = _forward(LARGE, threads=2)
    held = bl.engines.memory_figures().live - before
    assert result.nbytes <= held <= result.nbytes * 9 / 8
    del result
    assert bl.engines.memory_figures().live == before


def test_emptied_cache_keeps_nothing_and_harms_nothing() -> None:
    kept = _forward(LARGE)
    expected = kept.copy()
    _forward(LARGE)  # released at once
    assert bl.engines.memory_figures().idle > 0
    bl.engines.empty_cache()
    assert bl.engines.memory_figures().idle == 0
    assert_same_bits([kept, _forward(LARGE)], [expected, expected])


def test_idle_memory_is_at_most_256_mb_where_little_is_live() -> None:
    kept = [_forward(LARGE) for _ in range(24)]  # 384 MB
    del kept
    assert 200 << 20 < bl.engines.memory_figures().idle < 300 << 20  # and small blocks
    bl.engines.empty_cache()


def test_many_small_results_leave_little_idle() -> None:
    bl.engines.empty_cache()
    kept = [_forward("conv1d:n1,c1-1,i1000,k1") for _ in range(5000)]  # 20 MB
    del kept
    assert bl.engines.memory_figures().idle < 4 << 20


def test_results_may_die_in_another_thread() -> None:
    before = bl.engines.memory_figures().live
    held = [_forward(text) for text in PROBLEMS for _ in range(20)]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert bl.engines.memory_figures().live == before


def _listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("algorithm", [None, "direct"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("text", [*ALL, "conv2d:n3,c40-48,i30x31,k3x3,p1", "conv2d:n1,c256-300,i7x7,k3x3,p1"])
def test_refusal_of_any_allocation_is_a_memory_error_and_leaks_nothing(
    text: str, layout: str, algorithm: str | None, threads: int
) -> None:
    for name, inputs in operands(text, layout).items():
        with use("native", algorithm=algorithm):
            how = native_plan(name, geometry(text), "float32", layout)
        expected = _listed(how.run(*inputs))
        before = bl.engines.memory_figures().live
        for n in count():
            found = _with_refusal(n, lambda how=how, inputs=inputs: how.run(*inputs, threads=threads))
            if not isinstance(found, str):
                break
            assert f"{name} needs" in found
            assert bl.engines.memory_figures().live == before
            if n < 3 or n % 16 == 0:
                assert_same_bits(_listed(how.run(*inputs, threads=threads)), expected)
        assert n > 0
        assert_same_bits(_listed(found), expected)
        del found


@pytest.mark.unsanitized
def test_memory_that_the_system_refuses_is_a_memory_error_and_the_next_call_is_right() -> None:
    run_python(
        """
import resource
expected = compute(1)
for threads in (1, 4):
    refused = 0
    for megabytes in range(0, 24, 3):
        bl.engines.empty_cache()
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (megabytes << 20), resource.RLIM_INFINITY))
        held = []
        try:
            while True:
                held.append(compute(threads))
        except MemoryError as error:
            refused += 1
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert all(np.array_equal(result, expected) for result in held)
        assert np.array_equal(compute(threads), expected)
    assert refused > 0
""",
        OPENBLAS_NUM_THREADS="1",
    )


def test_idle_memory_is_given_back_before_a_request_is_refused() -> None:
    run_python(
        """
import resource
def filled(samples):  # one result of a MB for each sample
    plan = native.native_plan("conv_forward", ConvGeometry.parse(f"conv1d:n{samples},c1-1,i262144,k1"),
                              "float32", "channels_first")
    return plan.run(np.ones((samples, 1, 262144), np.float32), np.ones((1, 1, 1), np.float32), None, 1)
filled(100)
assert bl.engines.memory_figures().idle > 100 << 20
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (250 << 20), resource.RLIM_INFINITY))
assert filled(120).sum() == 120 * 262144
""",
        OPENBLAS_NUM_THREADS="1",
    )


def test_size_beyond_all_memory_is_a_memory_error() -> None:
    g = ConvGeometry.parse("conv1d:n1,c1-1,i1,k1,p1099511627776")  # 2**40 on either side
    how = native_plan("conv_forward", g, "float32", "channels_first")
    with pytest.raises(MemoryError, match="needs 8796093"):
        how.run(np.ones((1, 1, 1), np.float32), np.ones((1, 1, 1), np.float32), None, 1)
