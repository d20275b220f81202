"""The native engine behind the pairs: plans and what is forced, arrays of every kind, results, and small problems."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import backlit as bl
from backlit import engines
from backlit.engines import gemm, module, native, threads
from backlit.engines.memory import empty
from backlit.geometry import ConvGeometry
from configurations import integers

pytestmark = pytest.mark.native

LAYOUTS = ("channels_first", "channels_last")


def _strided(x: Any, path: Path) -> Any:
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def _misaligned(x: Any, path: Path) -> Any:
    raw = np.zeros(x.nbytes + 1, np.uint8)
    view = raw[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def _read_only(x: Any, path: Path) -> Any:
    x = x.copy()
    x.flags.writeable = False
    return x


def _mapped(x: Any, path: Path) -> Any:
    file = path / f"{len(list(path.iterdir()))}.npy"
    np.save(file, x)
    return np.load(file, mmap_mode="r")


# What an array may be instead of contiguous, by how one is made that equals x.
KINDS: dict[str, Callable[[Any, Path], Any]] = {
    "every other element": _strided,
    "negative strides": lambda x, path: x[::-1, ::-1].copy()[::-1, ::-1],
    "Fortran order": lambda x, path: np.asfortranarray(x),
    "transposed": lambda x, path: np.ascontiguousarray(x.T).T,
    "misaligned": _misaligned,
    "read-only": _read_only,
    "memory-mapped": _mapped,
    "byte-swapped": lambda x, path: x.astype(x.dtype.newbyteorder("S")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_of_any_kind_give_the_bits_of_contiguous_ones(kind: str, dtype: str, tmp_path: Path) -> None:
    def computed(change: Callable[[Any], Any]) -> list[Any]:
        x, w, b = (change(integers(n, s, dtype)) for n, s in enumerate(((2, 3, 7, 6), (4, 3, 3, 2), (4,))))
        y, cache = bl.conv_forward(x, w, b, padding=1)
        found = [y, *bl.conv_backward(change(y), cache)]
        y, cache = bl.conv_transpose_forward(found[0], w, stride=2)
        found += [y, *bl.conv_transpose_backward(change(y), cache)]
        for forward, backward in (
            (bl.max_pool_forward, bl.max_pool_backward),
            (bl.avg_pool_forward, bl.avg_pool_backward),
        ):
            y, cache = forward(x, 2)
            found += [y, backward(change(y), cache)]
        return found

    make = KINDS[kind]
    with engines.use("native"):
        pairs = zip(
            computed(lambda x: make(x, tmp_path) if x.ndim > 1 else x), computed(lambda x: x), strict=True
        )
        for result, expected in pairs:
            assert result.tobytes() == expected.tobytes()


def test_repeated_and_overlapping_memory_is_read_as_numpy_reads_it() -> None:
    repeated = np.broadcast_to(np.float32(3), (2, 3, 5, 5))
    overlapping = np.lib.stride_tricks.as_strided(
        np.arange(99, dtype=np.float32), (2, 3, 5, 5), (16, 32, 8, 4)
    )
    w = integers(1, (2, 3, 3, 3), "float32")
    for x in (repeated, overlapping):
        with engines.use("native"):
            np.testing.assert_array_equal(bl.conv_forward(x, w)[0], bl.conv_forward(x.copy(), w)[0])


def test_one_array_may_be_input_weights_and_upstream_gradient() -> None:
    x = integers(0, (3, 3, 3, 3), "float64")
    y, cache = bl.conv_forward(x, x, padding=1)
    dx, dw = bl.conv_backward(x, cache)
    with engines.use("loops"):
        y2, cache2 = bl.conv_forward(x.copy(), x.copy(), padding=1)
        expected = [y2, *bl.conv_backward(x.copy(), cache2)]
    for result, right in zip((y, dx, dw), expected, strict=True):
        np.testing.assert_array_equal(result, right)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_are_new_contiguous_and_aligned(layout: str, dtype: str) -> None:
    last = layout == "channels_last"
    x = np.ones((2, 9, 7, 3) if last else (2, 3, 9, 7), dtype)
    w = np.ones((3, 3, 3, 5) if last else (5, 3, 3, 3), dtype)
    results = []
    with engines.use("native"):
        y, cache = bl.conv_forward(x, w, np.ones(5, dtype), layout=layout)
        results += [y, *bl.conv_backward(y, cache)]
        y, cache = bl.max_pool_forward(x, 2, layout=layout)
        results += [y, cache.winners, bl.max_pool_backward(y, cache)]
        y, cache = bl.avg_pool_forward(x, 2, layout=layout)
        results += [y, bl.avg_pool_backward(y, cache)]
        results += [bl.conv_forward(np.ones((5, 4), dtype), np.ones((2, 2), dtype))[0]]
    for result in results:
        assert result.flags.c_contiguous
        assert result.flags.writeable
        assert result.ctypes.data % 64 == 0
        assert result.dtype.name in (dtype, "uint8")


def test_memory_of_a_result_outlives_the_array_that_it_was_made_as() -> None:
    rows = [bl.conv_forward(np.full((4, 4), n), np.ones((1, 1)))[0][1:, 1:] for n in (1.0, 2.0, 3.0)]
    assert [row.tolist() for row in rows] == [[[n] * 3] * 3 for n in (1.0, 2.0, 3.0)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_samples_give_an_empty_result_and_no_gradient_of_the_weights(layout: str) -> None:
    last = layout == "channels_last"
    x, w = np.ones((0, 5, 5, 2) if last else (0, 2, 5, 5)), np.ones((3, 3, 2, 4) if last else (4, 2, 3, 3))
    with engines.use("native"):
        y, cache = bl.conv_forward(x, w, np.ones(4), layout=layout)
        dx, dw, db = bl.conv_backward(y, cache)
        pooled, cache = bl.max_pool_forward(x, 2, layout=layout)
        assert bl.max_pool_backward(pooled, cache).shape == x.shape
        pooled, cache = bl.avg_pool_forward(x, 2, layout=layout)
        assert bl.avg_pool_backward(pooled, cache).shape == x.shape
    assert (y.shape, dx.shape) == ((0, 3, 3, 4) if last else (0, 4, 3, 3), x.shape)
    assert not dw.any()
    assert not db.any()


@pytest.mark.parametrize("allocation", range(2))
def test_memory_that_is_refused_is_an_error_that_tells_the_result(allocation: int) -> None:
    from backlit import _native

    x, w = np.ones((2, 8, 20, 20), np.float32), np.ones((8, 8, 3, 3), np.float32)
    with engines.use("native", algorithm="direct"):
        expected = bl.conv_forward(x, w)[0]
        _native._fail_allocation(allocation)
        message = (
            "conv_forward needs 20736 bytes for its result of shape (2, 8, 18, 18), and memory to work in"
        )
        with pytest.raises(MemoryError, match=re.escape(message)):
            bl.conv_forward(x, w)
        _native._fail_allocation(-1)
        np.testing.assert_array_equal(bl.conv_forward(x, w)[0], expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "text", ["conv1d:n3,c2-5,i7,k2", "conv2d:n9,c3-40,i30x31,k3x3", "convT2d:n2,c4-6,i5x5,k3x3,s2"]
)
def test_bias_gradient_is_the_definitions_for_any_number_of_threads(
    text: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "WORTH", 1e-9)
    g = ConvGeometry.parse(text)
    dy = integers(0, g.shapes(layout)[2], "float32")
    expected = np.moveaxis(dy, 1 if layout == LAYOUTS[0] else -1, 0).reshape(g.out_channels, -1).sum(axis=1)
    for count in (1, 3):
        monkeypatch.setattr(threads, "_chosen", count)
        np.testing.assert_array_equal(native.ENGINE.functions["conv_grad_bias"](g, layout, dy), expected)


# Plans, and what is forced


def test_plan_is_made_once_for_a_problem() -> None:
    g = ConvGeometry.parse("conv2d:n2,c3-4,i9x9,k3x3")
    plans = [
        native.native_plan("conv_forward", ConvGeometry.parse(str(g)), "float32", "channels_first")
        for _ in "12"
    ]
    assert plans[0] is plans[1]


@pytest.mark.parametrize("isa", module.isas())
def test_explanation_tells_algorithm_isa_tile_and_threads(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_chosen", 3)
    with engines.use("native", algorithm="direct", isa=isa):
        choice = engines.explain_choice("conv2d:n16,c64-64,i28x28,k3x3,p1")
    plan = choice["conv_forward"]
    assert (plan.engine, plan.algorithm, plan.isa, plan.threads) == ("native", "direct", isa, 3)
    assert plan.tile
    assert f"{isa}, tile {plan.tile}, threads 3: {plan.reason}" in str(choice)


@pytest.mark.parametrize("isa", module.isas())
def test_forced_instruction_set_computes_what_the_definition_computes(isa: str) -> None:
    x, w, b = (integers(n, s, "float32") for n, s in enumerate(((2, 5, 9, 11), (7, 5, 3, 3), (7,))))
    results = []
    for engine, chosen in (("native", isa), ("loops", None)):
        with engines.use(engine, isa=chosen):
            y, cache = bl.conv_forward(x, w, b, stride=2, padding=1)
            results.append([y, *bl.conv_backward(y, cache)])
    for result, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(result, expected)


def test_instruction_set_that_the_processor_lacks_is_refused() -> None:
    with pytest.raises(
        ValueError, match="isa is 'avx1024', and of the isas of the engines native has baseline"
    ):
        engines.use("native", isa="avx1024")


def test_winograd_refuses_what_it_cannot_serve_and_says_why() -> None:
    x, w = np.ones((1, 8, 9, 9), np.float32), np.ones((8, 8, 5, 5), np.float32)
    with engines.use("native", algorithm="winograd"):
        with pytest.raises(ValueError, match=r"cannot be served as forced: engine native: .*3x3"):
            bl.conv_forward(x, w)
        with pytest.raises(ValueError, match="engine native: winograd computes convolutions alone; direct"):
            bl.max_pool_forward(x, 2)


def test_direct_serves_convolutions_and_pools() -> None:
    x, w = integers(0, (1, 8, 9, 9), "float32"), integers(1, (8, 8, 3, 3), "float32")
    with engines.use("loops"):
        expected = bl.conv_forward(x, w)[0], bl.max_pool_forward(x, 2)[0]
    with engines.use("native", algorithm="direct"):
        np.testing.assert_array_equal(bl.conv_forward(x, w)[0], expected[0])
        np.testing.assert_array_equal(bl.max_pool_forward(x, 2)[0], expected[1])


def test_what_is_forced_binds_a_problem_that_was_computed_before() -> None:
    x, w = np.ones((1, 8, 12, 12), np.float32), np.ones((8, 8, 3, 3), np.float32)
    bl.conv_forward(x, w)
    called = []
    real = gemm.ENGINE.functions["conv_forward"]
    with pytest.MonkeyPatch.context() as patch, engines.use("gemm"):
        patch.setitem(gemm.ENGINE.functions, "conv_forward", lambda *a: called.append(1) or real(*a))
        bl.conv_forward(x, w)
    assert called == [1]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"BACKLIT_ALGORITHM": "direct"}, "native direct"),
        ({"BACKLIT_ISA": "baseline"}, "native baseline"),
        ({"BACKLIT_ENGINE": "native", "BACKLIT_ALGORITHM": "im2col"}, "BACKLIT_ALGORITHM is 'im2col'"),
    ],
)
def test_environment_forces_algorithm_and_instruction_set(variables: dict[str, str], expected: str) -> None:
    code = (
        "import numpy as np, backlit as bl; bl.max_pool_forward(np.ones((1, 1, 4)), 2)\n"
        "plan = bl.engines.explain_choice('conv2d:n1,c1-1,i3x3,k2x2')['conv_forward']\n"
        f"print(plan.engine, plan.{'isa' if 'BACKLIT_ISA' in variables else 'algorithm'})"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert expected in (done.stdout or done.stderr)


def test_winners_of_another_engine_are_understood() -> None:
    x = integers(0, (2, 3, 8, 8), "float32")
    with engines.use("loops"):
        y, cache = bl.max_pool_forward(x, 3, stride=1)
        expected = bl.max_pool_backward(y, cache)
    with engines.use("native"):
        np.testing.assert_array_equal(bl.max_pool_backward(y, cache), expected)


def test_number_of_usable_threads_is_asked_again_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BACKLIT_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    clock, answers = [100.0], iter((2, 5))
    monkeypatch.setattr(threads.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(module, "usable_threads", lambda: next(answers))
    monkeypatch.setattr(threads, "_usable", (-1.0, 0))
    found = [bl.get_num_threads(), bl.get_num_threads()]
    clock[0] += threads._ASK_AGAIN
    assert [*found, bl.get_num_threads()] == [2, 2, 5]


def test_memory_of_arrays_is_seen_by_tracemalloc() -> None:
    x, w = np.ones((1, 1, 300, 300)), np.ones((1, 1, 1, 1))
    with engines.use("native"):
        bl.conv_forward(x, w)
        tracemalloc.start()
        try:
            y, _ = bl.conv_forward(x, w)
            held = tracemalloc.get_traced_memory()[0]
            size = y.nbytes
            del y, _
            freed = held - tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert size <= held < 2 * size
    assert size <= freed


def test_array_that_is_too_large_is_an_error_in_a_sentence() -> None:
    with pytest.raises(
        MemoryError, match="an array needs 9007199254 MB, and the system does not grant them: compute"
    ):
        empty((2**50,), "float64")


@pytest.mark.native
@pytest.mark.parametrize("algorithm", [None, "direct", "winograd"])
def test_an_empty_batch_has_an_empty_result_and_no_gradient_under_every_algorithm(
    algorithm: str | None,
) -> None:
    x, w = np.ones((0, 16, 6, 2), np.float32), np.ones((18, 16, 3, 3), np.float32)
    with bl.engines.use("native", algorithm=algorithm):
        assert "empty batch" in str(bl.engines.explain_choice("conv2d:n0,c16-18,i6x2,k3x3,p1"))
        y, cache = bl.conv_forward(x, w, padding=1)
        dx, dw = bl.conv_backward(y, cache)
    assert y.shape == (0, 18, 6, 2)
    assert dx is not None
    assert dx.shape == x.shape
    assert dw is not None
    assert not dw.any()
