"""Engines: gemm equals the definition bit for bit on integers; the choice can be listed, explained and forced."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backlit as bl
from backlit import engines
from backlit.engines import gemm, loops, module, workers
from backlit.engines.memory import Scratch
from backlit.geometry import ConvGeometry, PoolGeometry
from configurations import conv_geometries, dtypes, integers, layouts, pool_geometries
from tolerance import assert_close

BUILT = ("native",) if module.available() else ()
FIRST = (*BUILT, "gemm")[0]  # the engine that computes where nothing is forced


@pytest.fixture(params=[1, 200, gemm.WORKSPACE], ids=["one-position", "200-bytes", "usual"])
def workspace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Blocks of one output position, of a few, and the usual ones."""
    monkeypatch.setattr(gemm, "WORKSPACE", request.param)
    gemm.plan.cache_clear()
    yield request.param
    monkeypatch.undo()
    gemm.plan.cache_clear()


def _sums(g: ConvGeometry, layout: str, x: Any, w: Any, b: Any, dy: Any) -> list[Any]:
    """The three maps, position by position and tap by tap: nothing shared with the engines but the equation."""
    first = layout == "channels_first"
    x, dy = (x, dy) if first else (np.moveaxis(x, -1, 1), np.moveaxis(dy, -1, 1))
    w = w if first else np.moveaxis(w, (-1, -2), (0, 1))
    y, dx, dw = (np.zeros(shape) for shape in (dy.shape, x.shape, w.shape))
    c, k = g.in_channels // g.groups, g.out_channels // g.groups
    for o, u in product(product(*map(range, g.output_size)), product(*map(range, g.kernel_size))):
        i = tuple(
            s * a + d * t - p[0] for s, a, d, t, p in zip(g.stride, o, g.dilation, u, g.padding, strict=True)
        )
        if all(0 <= at < size for at, size in zip(i, g.input_size, strict=True)):
            for group in range(g.groups):
                cs, ks = slice(group * c, group * c + c), slice(group * k, group * k + k)
                here, there, tap = (slice(None), cs, *i), (slice(None), ks, *o), (ks, slice(None), *u)
                y[there] += x[here] @ w[tap].T
                dx[here] += dy[there] @ w[tap]
                dw[tap] += dy[there].T @ x[here]
    y += np.reshape(b, (-1, *(1,) * g.axes))
    if not first:
        y, dx, dw = np.moveaxis(y, 1, -1), np.moveaxis(dx, 1, -1), np.moveaxis(dw, (0, 1), (-1, -2))
    return [y, dx, dw]


@pytest.mark.parametrize("engine", [gemm.ENGINE, loops.ENGINE], ids=lambda e: e.name)
@given(g=conv_geometries(transposed=False), layout=layouts, dtype=dtypes, seed=st.integers(0, 2**32 - 1))
def test_conv_passes_equal_the_equation_exactly(
    engine: Any, g: ConvGeometry, layout: str, dtype: str, seed: int
) -> None:
    xs, ws, ys = g.shapes(layout)
    x, w, b, dy = (integers(seed + n, s, dtype) for n, s in enumerate((xs, ws, (g.out_channels,), ys)))
    found = [
        engine.functions["conv_forward"](g, layout, x, w, b),
        engine.functions["conv_grad_input"](g, layout, w, dy),
        engine.functions["conv_grad_weight"](g, layout, x, dy),
    ]
    for result, expected in zip(found, _sums(g, layout, x, w, b, dy), strict=True):
        np.testing.assert_array_equal(result, expected)
        assert result.dtype == dtype
        assert result.flags.c_contiguous
        assert result.size == 0 or result.ctypes.data % 64 == 0


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize(
    "text",
    [
        "conv2d:n5,c4-6,g2,i7x6,k3x2,s2x1,p1:2x0:1,d1x2",
        "conv1d:n1,c2-3,i40,k3,p1",
        "conv3d:n3,c2-2,i4x3x5,k2x2x2,s1x2x1",
        "conv2d:n3,c5-5,g5,i6x6,k3x3,p1",
    ],
)
def test_gemm_is_the_same_in_blocks_of_any_size(text: str, layout: str, workspace: int) -> None:
    g = ConvGeometry.parse(text)
    xs, ws, ys = g.shapes(layout)
    x, w, b, dy = (integers(n, s, "float32") for n, s in enumerate((xs, ws, (g.out_channels,), ys)))
    blocks = list(gemm._blocks(g, gemm.plan("conv_forward", g, "float32", layout)))
    assert len(blocks) == (g.batch * np.prod(g.output_size) if workspace == 1 else len(blocks))
    for name, arrays in (("forward", (x, w, b)), ("grad_input", (w, dy)), ("grad_weight", (x, dy))):
        results = [e.ENGINE.functions[f"conv_{name}"](g, layout, *arrays) for e in (gemm, loops)]
        np.testing.assert_array_equal(*results)


@given(g=pool_geometries(), layout=layouts, dtype=dtypes, seed=st.integers(0, 2**32 - 1))
def test_gemm_pools_equal_the_definition_exactly(g: PoolGeometry, layout: str, dtype: str, seed: int) -> None:
    xs, _, ys = g.windows.shapes(layout)
    rng = np.random.default_rng(seed)
    x, dy = integers(seed, xs, dtype), integers(seed + 1, ys, dtype)
    x[rng.random(xs) < 0.1] = np.nan
    x[rng.random(xs) < 0.1] = -np.inf
    divisors = 2.0 ** rng.integers(0, 3, g.output_size)
    one, other = (e.ENGINE.functions for e in (gemm, loops))
    y, winners = one["max_pool_forward"](g, layout, x)
    for result, expected in zip((y, winners), other["max_pool_forward"](g, layout, x), strict=True):
        np.testing.assert_array_equal(result, expected)
    finite = np.nan_to_num(x, nan=1, neginf=-2)
    for name, arrays in (
        ("max_pool_backward", (dy, winners)),
        ("avg_pool_forward", (finite, divisors)),
        ("avg_pool_backward", (dy, divisors)),
    ):
        with np.errstate(all="raise"):
            np.testing.assert_array_equal(one[name](g, layout, *arrays), other[name](g, layout, *arrays))


@pytest.mark.parametrize(
    "text",
    [
        "conv2d:n4,c32-32,i128x128,k3x3,p1",  # columns of 75 MB
        "conv2d:n1,c512-8,i3x4096,k3x3,p1",  # one row of columns has 75 MB
        "conv1d:n1,c1-16,i1000000,k5,p2",
        "conv2d:n2,c256-1024,i7x7,k7x7",  # weights of 51 MB
        "conv1d:n2,c1-1,i4,k1,s1000,p10000000",  # 80 MB of zeros around each sample
        "conv2d:n8,c64-64,i8x8,k3x3,p1",
    ],
)
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_workspace_of_a_convolution_is_at_most_64_mb(
    text: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backlit.engines.threads._chosen", 64)
    monkeypatch.setattr(workers, "_pool", workers._Pool())  # threads without scratch space
    g = ConvGeometry.parse(text)
    x, w, dy = (np.ones(shape, np.float32) for shape in g.shapes(layout))
    for name, arrays in (
        ("conv_forward", (x, w, None)),
        ("conv_grad_input", (w, dy)),
        ("conv_grad_weight", (x, dy)),
    ):
        tracemalloc.start()
        try:
            result = gemm.ENGINE.functions[name](g, layout, *arrays)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak - result.nbytes < 64 << 20


def test_pool_of_a_large_window_keeps_no_copy_of_every_tap() -> None:
    x = np.random.default_rng(0).random((1, 1, 160, 160), np.float32)
    tracemalloc.start()
    try:
        y = bl.max_pool_forward(x, 40, stride=1)[0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20
    np.testing.assert_array_equal(y[0, 0, 7, 9], x[0, 0, 7:47, 9:49].max())


def test_padding_beyond_all_memory_between_far_strides_is_served() -> None:
    y, cache = bl.conv_forward(np.ones((2, 1, 4)), np.ones((1, 1, 1)), stride=2**40, padding=2**59)
    assert y.shape == (2, 1, 2**20 + 1)
    assert y.sum() == 2
    assert [gradient.sum() for gradient in bl.conv_backward(np.ones_like(y), cache)] == [2, 2]


def test_work_is_done_where_the_system_grants_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(workers, "_pool", workers._Pool())
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert workers.spread(lambda n: n * n, range(10), threads=4) == [n * n for n in range(10)]


def test_scratch_that_is_full_hands_out_fresh_memory() -> None:
    scratch = Scratch(1024)
    arrays = [scratch.take((100,), "float64") for _ in range(4)]
    for number, array in enumerate(arrays):
        array.fill(number)
    assert [array.sum() for array in arrays] == [0, 100, 200, 300]


def test_names_lists_engines_and_ends_with_the_definition() -> None:
    assert engines.names() == (*BUILT, "gemm", "loops")


def test_use_forces_an_engine_and_gives_it_back() -> None:
    with engines.use("loops"):
        assert engines.explain_choice("conv2d:n1,c1-1,i3x3,k2x2")["conv_forward"].engine == "loops"
        with engines.use("gemm", algorithm="im2col"):
            assert engines.explain_choice("conv2d:n1,c1-1,i3x3,k2x2")["conv_grad_weight"].engine == "gemm"
        assert engines.explain_choice("conv2d:n1,c1-1,i3x3,k2x2")["conv_grad_input"].engine == "loops"
    assert engines.explain_choice("conv2d:n1,c1-1,i3x3,k2x2")["conv_forward"].engine == FIRST


def test_forced_engine_is_the_one_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    for engine in (gemm.ENGINE, loops.ENGINE):
        real = engine.functions["conv_forward"]
        name = engine.name
        monkeypatch.setitem(
            engine.functions, "conv_forward", lambda *a, real=real, name=name: called.append(name) or real(*a)
        )
    x, w = np.ones((3, 3)), np.ones((2, 2))
    for name in ("gemm", "loops"):
        with engines.use(name):
            bl.conv_forward(x, w)
    assert called == ["gemm", "loops"]


def test_use_binds_only_its_own_thread() -> None:
    seen = []
    with engines.use("loops"):
        thread = threading.Thread(
            target=lambda: seen.append(engines.explain_choice("conv1d:n1,c1-1,i3,k2")["conv_forward"].engine)
        )
        thread.start()
        thread.join()
    assert seen == [FIRST]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("fast",), ValueError, f"engine is 'fast', and the engines are {', '.join(engines.names())}"),
        (
            ("gemm", "winograd"),
            ValueError,
            "algorithm is 'winograd', and of the algorithms of the engines gemm has im2col",
        ),
        (("loops", None, "avx2"), ValueError, "isa is 'avx2', and of the isas of the engines loops has none"),
        ((None,), TypeError, "engine is None"),
        (("gemm", 3), TypeError, "algorithm is 3"),
    ],
)
def test_forcing_what_does_not_exist_is_refused(arguments: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        engines.use(*arguments)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "BACKLIT_ENGINE",
            "fast",
            f"ValueError: BACKLIT_ENGINE is 'fast', and the engines are {', '.join(engines.names())}.",
        ),
        ("BACKLIT_ALGORITHM", "fft", "ValueError: BACKLIT_ALGORITHM is 'fft'"),
        ("BACKLIT_ISA", "mmx", "ValueError: BACKLIT_ISA is 'mmx'"),
        ("BACKLIT_NUM_THREADS", "0", "ValueError: BACKLIT_NUM_THREADS is '0'"),
        ("BACKLIT_NUM_THREADS", "many", "ValueError: BACKLIT_NUM_THREADS is 'many'"),
        ("BACKLIT_ENGINE", "loops", "loops"),
        ("BACKLIT_ALGORITHM", "definition", "loops"),
        ("BACKLIT_ALGORITHM", "im2col", "gemm"),
        ("BACKLIT_ENGINE", "", FIRST),
    ],
)
def test_environment_forces_or_is_refused_by_name(variable: str, value: str, message: str) -> None:
    code = (
        "import backlit as bl; bl.get_num_threads(); "
        "print(bl.engines.explain_choice('conv1d:n1,c1-1,i3,k2')['conv_forward'].engine)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {variable: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert message in (done.stdout if done.returncode == 0 else done.stderr.splitlines()[-1])


def test_explain_choice_tells_engine_algorithm_and_figures_of_all_passes() -> None:
    choice = engines.explain_choice("conv2d:n2,c3-4,i5x5,k3x3,p1", dtype=np.float64, layout="channels_last")
    assert list(choice) == ["conv_forward", "conv_grad_input", "conv_grad_weight"]
    assert choice["conv_forward"].figures["multiply adds"] == 2 * 4 * 3 * 13 * 13
    text = str(choice)
    assert "conv2d:n2,c3-4,i5x5,k3x3,s1,p1  float64, channels_last" in text
    assert text.count(f"{FIRST}, {choice['conv_forward'].algorithm}") == 3


def test_plans_are_made_once_and_cannot_be_changed() -> None:
    one, other = (engines.explain_choice("conv2d:n2,c3-4,i5x5,k3x3") for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    plan = one["conv_forward"]
    assert plan is other["conv_forward"]
    with pytest.raises(TypeError):
        plan.figures["multiply adds"] = 0  # type: ignore[index]
    with pytest.raises(AttributeError):
        plan.block = ()  # type: ignore[misc]


def test_transposed_choice_tells_what_its_own_forward_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    picky = dataclasses.replace(
        gemm.ENGINE, refusal=lambda op, *_: "never" if op == "conv_grad_input" else ""
    )
    monkeypatch.setattr("backlit.engines.choice.ENGINES", (picky, loops.ENGINE))
    chosen = {name: plan.engine for name, plan in engines.explain_choice("convT1d:n1,c1-1,i5,k3").items()}
    assert chosen == {"conv_forward": "loops", "conv_grad_input": "gemm", "conv_grad_weight": "gemm"}


@pytest.mark.parametrize("dtype", ["float16", np.int64, "double", None])
def test_explain_choice_of_another_dtype_is_refused(dtype: Any) -> None:
    with pytest.raises(ValueError, match="dtype is "):
        engines.explain_choice("conv1d:n1,c1-1,i3,k2", dtype=dtype)


@pytest.mark.parametrize(
    ("count", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError), (1.5, TypeError)]
)
def test_thread_count_that_is_none_is_refused(count: Any, error: type) -> None:
    with pytest.raises(error, match="count is"):
        bl.set_num_threads(count)


def test_thread_count_is_what_the_program_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backlit.engines.threads._chosen", None)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert bl.get_num_threads() == 3
    monkeypatch.setenv("BACKLIT_NUM_THREADS", "2")
    assert bl.get_num_threads() == 2
    bl.set_num_threads(1)
    assert bl.get_num_threads() == 1


def _blas_threads() -> list[int]:
    from threadpoolctl import ThreadpoolController

    return [
        library.get_num_threads()
        for library in ThreadpoolController().select(user_api="blas").lib_controllers
    ]


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize(
    "text",
    [
        "conv2d:n4,c256-300,i13x13,k3x3,p1",
        "conv2d:n33,c8-16,i28x28,k5x5",
        "conv2d:n1,c16-32,i112x112,k3x3,s2,p1",
        "convT2d:n16,c32-16,i14x14,k4x4,s2,p1",
        "conv2d:n16,c64-64,g64,i28x28,k3x3,p1",
    ],
)
def test_bits_are_the_same_for_any_number_of_threads(
    text: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "WORTH", 1e-9)
    g = ConvGeometry.parse(text)
    rng = np.random.default_rng(0)
    x, w, dy = (rng.standard_normal(shape).astype(np.float32) for shape in g.convolution.shapes(layout))
    found = []
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr("backlit.engines.threads._chosen", threads)
        forward, grad_input, grad_weight = (gemm.ENGINE.functions[name] for name in bl.engines.engine.PASSES)
        plain = g.convolution
        found.append(
            [
                forward(plain, layout, x, w, None),
                grad_input(plain, layout, w, dy),
                grad_weight(plain, layout, x, dy),
            ]
        )
    for other in found[1:]:
        for result, expected in zip(other, found[0], strict=True):
            assert result.tobytes() == expected.tobytes()


def test_bits_of_a_matrix_product_are_the_same_for_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "WORTH", 1e-9)
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((301, 900)), rng.standard_normal((900, 700))
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr("backlit.engines.threads._chosen", threads)
        out = np.empty((301, 700))
        workers.product(a, b, out)
        found.append(out.tobytes())
    assert found == [found[0]] * 3
    assert_close(out, np.einsum("ij,jk->ik", a, b), 900)


def test_work_is_spread_in_order_and_nested_work_does_not_wait() -> None:
    def outer(number: int) -> list[int]:
        return workers.spread(lambda n: n + number, range(20), threads=4)

    assert workers.spread(outer, range(30), threads=8) == [list(range(n, n + 20)) for n in range(30)]


def test_error_of_a_piece_reaches_the_caller_and_the_next_call_works() -> None:
    def fail(number: int) -> int:
        if number == 17:
            raise MemoryError(f"piece {number}")
        return number

    for _ in range(3):
        with pytest.raises(MemoryError, match="piece 17"):
            workers.spread(fail, range(40), threads=4)
    assert workers.spread(fail, range(10), threads=4) == list(range(10))


def test_blas_works_on_one_thread_inside_and_has_its_own_number_again_outside() -> None:
    before = _blas_threads()
    with workers.single_blas_thread(), workers.single_blas_thread():
        assert _blas_threads() == [1] * len(before)
    with pytest.raises(RuntimeError), workers.single_blas_thread():
        raise RuntimeError
    assert _blas_threads() == before


def test_forked_child_computes_after_its_parent_computed_in_parallel() -> None:
    code = (
        "import os, threading, numpy as np, backlit as bl\n"
        "from backlit.engines import workers\n"
        "numbers = lambda: [library.get_num_threads() for library in workers._libraries()]\n"
        "workers.WORTH = 1e-9; bl.set_num_threads(4)\n"
        "x, w = np.ones((64, 8, 28, 28)), np.ones((16, 8, 3, 3))\n"
        "expected = bl.conv_forward(x, w)[0]\n"
        "before, inside, done = numbers(), threading.Event(), threading.Event()\n"
        "def other():\n"
        "    with workers.single_blas_thread(): inside.set(); done.wait()\n"
        "thread = threading.Thread(target=other); thread.start(); inside.wait()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    same = (bl.conv_forward(x, w)[0] == expected).all()\n"
        "    os._exit(0 if same and numbers() == before else 1)\n"
        "status = os.waitpid(child, 0)[1]; done.set(); thread.join()\n"
        "print(status, numbers() == before)"
    )
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["0", "True"]


def test_eight_threads_at_once_compute_what_one_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "WORTH", 1e-9)
    x, w = integers(1, (16, 4, 20, 20), "float32"), integers(2, (8, 4, 3, 3), "float32")
    y, cache = bl.conv_forward(x, w)
    expected = [y, *bl.conv_backward(y, cache)]
    wrong: list[int] = []

    def compute(number: int) -> None:
        for _ in range(5):
            y, cache = bl.conv_forward(x, w)
            for result, right in zip([y, *bl.conv_backward(y, cache)], expected, strict=True):
                if not np.array_equal(result, right):
                    wrong.append(number)

    threads = [threading.Thread(target=compute, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_signal_handler_may_compute_amid_a_computation() -> None:
    x, w = integers(1, (32, 8, 24, 24), "float32"), integers(2, (16, 8, 3, 3), "float32")
    expected = bl.conv_forward(x, w)[0]
    handled: list[bool] = []

    def handle(*_: Any) -> None:
        if len(handled) < 20:
            handled.append(np.array_equal(bl.conv_forward(x[:5], w)[0], expected[:5]))

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.007)
    try:
        while len(handled) < 5:
            np.testing.assert_array_equal(bl.conv_forward(x, w)[0], expected)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert all(handled)


def test_block_whose_end_was_interrupted_counts_as_left_from_the_next_one_on() -> None:
    before = _blas_threads()
    lost = workers.single_blas_thread()
    lost.__enter__()
    del lost
    with workers.single_blas_thread():
        pass
    assert _blas_threads() == before


@pytest.mark.parametrize("engine", ["gemm", "loops"])
def test_infinities_raise_no_warning(engine: str) -> None:
    x, w = np.array([[[np.inf, 1.0, -np.inf]]]), np.ones((1, 1, 2))
    huge = np.full((1, 1, 2), np.finfo(float).max)
    with engines.use(engine), np.errstate(all="raise"):
        for forward, backward in (
            (bl.conv_forward, bl.conv_backward),
            (bl.conv_transpose_forward, bl.conv_transpose_backward),
        ):
            y, cache = forward(x, w, np.array([-np.inf]))
            backward(np.full(y.shape, np.finfo(float).max), cache)
        for pool, unpool in (
            (bl.max_pool_forward, bl.max_pool_backward),
            (bl.avg_pool_forward, bl.avg_pool_backward),
        ):
            y, cache = pool(x, 2, stride=1)
            unpool(huge, cache)
