"""Denormals: zero to every thread that computes natively, and to nobody else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backlit.engines import module
from backlit.engines.native import native_plan
from backlit.geometry import ConvGeometry
from processes import ALL, ISAS, LAYOUTS, POOLS, PROBLEMS, changed, operands, results

if module.available():
    from backlit import _native

pytestmark = pytest.mark.native

TINY = {"float32": 1e-40, "float64": 1e-310}
LARGER = "conv2d:n6,c40-48,i30x31,k3x3,p1"  # worth several threads


def _numpy_has_denormals(dtype: str) -> bool:
    tiny = np.full(100, TINY[dtype], dtype)
    return bool((tiny + tiny > tiny).all())


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("dtype", list(TINY))
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("text", [*ALL, LARGER])
def test_denormal_inputs_count_as_zero_on_every_thread(
    text: str, layout: str, isa: str, dtype: str, threads: int
) -> None:
    given = changed(operands(text, layout, dtype), lambda array: np.full_like(array, TINY[dtype]))
    if text in POOLS:
        del given["max_pool_forward"]  # it picks elements, and computes with none
    for result in results(text, layout, given, threads=threads, isa=isa, algorithm="direct"):
        assert not result.any()
    assert _numpy_has_denormals(dtype)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("text", [*PROBLEMS, LARGER])
def test_products_and_sums_below_the_normal_numbers_come_out_as_zero(
    text: str, isa: str, threads: int
) -> None:
    given = changed(operands(text, "channels_first"), lambda array: np.full_like(array, 1e-21))
    x, w, b = given["conv_forward"]
    given = {"conv_forward": (x, w, 0 * b)} | {
        name: given[name] for name in ("conv_grad_input", "conv_grad_weight")
    }
    for result in results(text, "channels_first", given, threads=threads, isa=isa):
        assert not result.any()
    assert _numpy_has_denormals("float32")


def test_mode_of_the_caller_is_restored_after_a_failed_call() -> None:
    how = native_plan("conv_forward", ConvGeometry.parse(LARGER), "float32", "channels_first")
    for threads in (1, 4):
        _native._fail_allocation(1)
        try:
            with pytest.raises(MemoryError):
                how.run(*operands(LARGER, "channels_first")["conv_forward"], threads)
        finally:
            _native._fail_allocation(-1)
        assert _numpy_has_denormals("float32")


def test_infinity_and_nan_inside_a_call_leave_no_floating_point_error_behind() -> None:
    given = changed(operands(LARGER, "channels_first"), lambda array: np.full_like(array, 3e38))
    with np.errstate(all="raise"):
        found: list[Any] = results(LARGER, "channels_first", given, threads=4)
        assert np.float32(1) + np.float32(2) == 3
    assert not np.isfinite(found[0]).any()
