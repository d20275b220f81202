"""The native engine in its process: fork, many threads, affinity, interrupts, exit, limits, and the same bits."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import pytest

import backlit as bl
from backlit.engines import module, workers
from processes import ALL, ISAS, LAYOUTS, PROBLEMS, assert_same_bits, changed, operands, results, run_python

if module.available():
    from backlit import _native

pytestmark = pytest.mark.native


def test_fork_after_a_parallel_call_computes_in_the_child() -> None:
    run_python("""
expected = compute()
assert workers() == 3
for _ in range(5):
    child = os.fork()
    if child == 0:
        before = workers()
        equal = np.array_equal(compute(), expected)
        os._exit(not (equal and before == 0 and workers() == 3))
    assert succeeds(child)
assert np.array_equal(compute(), expected)
""")


def test_fork_of_a_fork_computes_too() -> None:
    run_python("""
expected = compute()
child = os.fork()
if child == 0:
    compute()
    grandchild = os.fork()
    if grandchild == 0:
        os._exit(not np.array_equal(compute(), expected))
    os._exit(not (succeeds(grandchild) and np.array_equal(compute(), expected)))
assert succeeds(child)
""")


@pytest.mark.unsanitized
def test_fork_while_threads_compute_computes_in_the_child() -> None:
    run_python("""
expected, stop = compute(), False
def loop():
    while not stop:
        assert np.array_equal(compute(), expected)
threads = [threading.Thread(target=loop) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(not all(np.array_equal(compute(), expected) for _ in range(3)))
    assert succeeds(child)
stop = True
for thread in threads:
    thread.join()
""")


def test_arrays_of_the_parent_are_released_in_the_child() -> None:
    run_python("""
kept = [compute() for _ in range(4)]
child = os.fork()
if child == 0:
    live = _native.pool_figures()[0]
    del kept
    ok = _native.pool_figures()[0] < live
    bl.engines.empty_cache()
    os._exit(not (ok and _native.pool_figures()[:2] == (0, 0)))
assert succeeds(child)
""")


def test_eight_python_threads_at_once_get_the_right_results() -> None:
    text = PROBLEMS[1]
    given = [operands(text, layout) for layout in LAYOUTS]
    expected = [results(text, layout, inputs) for layout, inputs in zip(LAYOUTS, given, strict=True)]
    wrong = []

    def compute(number: int) -> None:
        for turn in range(40):
            which = (number + turn) % 2
            found = results(text, LAYOUTS[which], given[which], threads=4)
            if not all(map(np.array_equal, found, expected[which])):
                wrong.append((number, turn))

    threads = [threading.Thread(target=compute, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_calls_from_the_workers_of_another_pool_do_not_deadlock() -> None:
    given = operands(PROBLEMS[1], "channels_first")
    expected = results(PROBLEMS[1], "channels_first", given)
    found = workers.spread(
        lambda _: results(PROBLEMS[1], "channels_first", given, threads=4), range(32), threads=8
    )
    for each in found:
        assert_same_bits(each, expected)


@pytest.mark.parametrize("threads", [1, 2, 4, 9])
def test_nested_loops_do_every_piece_once(threads: int) -> None:
    for _ in range(20):
        assert _native._count_pieces([7, 5, 3, 2], threads) == 7 * 5 * 3 * 2


def test_more_callers_than_the_pool_has_slots_do_every_piece() -> None:
    counted: list[int] = []
    callers = [
        threading.Thread(target=lambda: counted.append(_native._count_pieces([40, 40, 10], 3)))
        for _ in range(40)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert counted == [16000] * 40


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("failing", [0, 1, 17, 104])
def test_error_in_a_piece_reaches_the_caller_and_the_next_call_is_right(threads: int, failing: int) -> None:
    with pytest.raises(RuntimeError, match="a piece of work failed"):
        _native._count_pieces([7, 5, 3], threads, failing)
    assert _native._count_pieces([7, 5, 3], threads) == 105


def test_workers_are_started_on_demand_and_one_fewer_than_threads() -> None:
    run_python("""
assert workers() == 0
compute(1)
assert workers() == 0
compute(3)
assert workers() == 2
compute(2)
assert workers() == 2
compute(5)
assert workers() == 4
""")


def test_affinity_mask_of_one_processor_means_no_workers() -> None:
    run_python("""
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
assert bl.get_num_threads() == 1
y, cache = bl.conv_forward(x, w, padding=1)
bl.conv_backward(y, cache)
assert workers() == 0
""")


def test_number_of_threads_that_was_set_bounds_the_workers() -> None:
    run_python("""
bl.set_num_threads(2)
big = np.ones((16, 64, 56, 56), np.float32)
y, cache = bl.conv_forward(big, np.ones((64, 64, 3, 3), np.float32), padding=1)
bl.conv_backward(y, cache)
assert workers() == 1
""")


def test_problem_of_microseconds_starts_no_worker() -> None:
    run_python("""
bl.set_num_threads(8)
y, cache = bl.conv_forward(np.ones((1, 3, 8, 8), np.float32), np.ones((4, 3, 3, 3), np.float32))
bl.conv_backward(y, cache)
assert workers() == 0
""")


def test_workers_leave_signals_to_the_interpreter() -> None:
    run_python("""
compute()
for task in os.listdir("/proc/self/task"):
    if open(f"/proc/self/task/{task}/comm").read().strip() == "backlit":
        status = dict(line.split(":", 1) for line in open(f"/proc/self/task/{task}/status"))
        assert int(status["SigBlk"], 16) & (1 << (signal.SIGINT - 1))
""")


def test_ctrl_c_arrives_after_the_call_and_leaves_everything_intact() -> None:
    run_python("""
found = expected = compute()
for turn in range(10):
    timer = threading.Timer(0.03, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        while True:
            found = compute()
    except KeyboardInterrupt:
        timer.join()
    else:
        raise AssertionError("no KeyboardInterrupt")
    assert np.array_equal(found, expected)
    assert np.array_equal(compute(), expected)
""")


def test_interpreter_exits_while_threads_compute() -> None:
    for _ in range(5):
        run_python("""
begun = threading.Barrier(5)
def loop():
    begun.wait()
    while True:
        compute()
for _ in range(4):
    threading.Thread(target=loop, daemon=True).start()
begun.wait()
time.sleep(0.05)
""")


@pytest.mark.unsanitized
def test_little_address_space_is_enough_for_many_threads() -> None:
    run_python(
        """
import resource
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (100 << 20), resource.RLIM_INFINITY))
expected = compute(1)
assert np.array_equal(compute(8), expected)
assert workers() > 3
""",
        OPENBLAS_NUM_THREADS="1",
    )


@pytest.mark.unsanitized
def test_threads_that_the_system_refuses_are_done_without() -> None:
    run_python(
        """
import resource
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (5 << 19), resource.RLIM_INFINITY))  # two stacks of 1 MB
for _ in range(1000):
    assert _native._count_pieces([100], 64) == 100
assert workers() < 3
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for _ in range(1000):
    compute(4)
assert workers() == 3
""",
        OPENBLAS_NUM_THREADS="1",
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("text", [*ALL, "conv2d:n5,c40-48,i30x31,k3x3,p1", "conv2d:n4,c70-90,i20x20,k1x1"])
def test_bits_are_the_same_for_any_number_of_threads_and_in_every_run(
    text: str, layout: str, isa: str, dtype: str, rng: Any
) -> None:
    given = changed(
        operands(text, layout, dtype), lambda array: rng.standard_normal(array.shape).astype(array.dtype)
    )
    expected = results(text, layout, given, isa=isa)
    for threads in (1, 2, 3, 4, 7, 32, 4):
        assert_same_bits(results(text, layout, given, threads=threads, isa=isa), expected)


def test_usable_threads_are_what_the_mask_and_the_quota_allow() -> None:
    processors = len(os.sched_getaffinity(0))
    assert bl.get_num_threads() == module.usable_threads() <= processors
