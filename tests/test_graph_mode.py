"""Recording and threads: no_grad binds one thread, and graphs of different threads do not meet."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from backlit.graph import Tensor, is_grad_enabled, no_grad, sweep


def leaf(value: Any) -> Tensor:
    return Tensor(value, requires_grad=True)


def test_no_grad_nests_and_ends_after_an_error() -> None:
    assert is_grad_enabled()
    with no_grad():
        with pytest.raises(ZeroDivisionError), no_grad():
            raise ZeroDivisionError
        assert not is_grad_enabled()
    assert is_grad_enabled()


def test_no_grad_decorates_functions_that_call_themselves() -> None:
    @no_grad()
    def power(x: Tensor, n: int) -> Tensor:
        assert not is_grad_enabled()
        return power(x, n - 1) * x if n else Tensor(1.0)

    result = power(leaf(2.0), 5)
    assert (result.item(), result.requires_grad) == (32.0, False)
    assert is_grad_enabled()


def test_no_grad_can_be_entered_again_while_it_is_entered() -> None:
    block = no_grad()
    with block:
        with block:
            assert not is_grad_enabled()
        assert not is_grad_enabled()
    assert is_grad_enabled()


def test_no_grad_drops_the_cache_at_once() -> None:
    x = leaf(np.ones(3))
    with no_grad():
        middle = x * 2
        reference = weakref.ref(middle)
        y = middle.exp()
        del middle
    assert reference() is None
    assert not y.requires_grad


def test_no_grad_binds_its_own_thread_only() -> None:
    inside, done = threading.Event(), threading.Event()

    def hold() -> None:
        with no_grad():
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(10)
    assert is_grad_enabled()
    assert (leaf(1.0) * 2).requires_grad
    done.set()
    thread.join()


def test_threads_build_and_sweep_graphs_of_their_own() -> None:
    def work(seed: int) -> float:
        x = leaf(float(seed))
        y = x
        for _ in range(200):
            y = y * 1.0 + x
        y.backward()
        return float(x.grad)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(40))) == [201.0] * 40


def test_threads_lose_no_gradient_of_a_parameter_they_share() -> None:
    shared = leaf(np.zeros(50))

    def work(_: int) -> None:
        for _ in range(25):
            (shared * 1.0).sum().backward()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    np.testing.assert_array_equal(shared.grad, np.full(50, 200.0))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_child_goes_backwards_though_a_thread_of_its_parent_was_accumulating() -> None:
    x = leaf(2.0)
    with sweep._accumulating:
        child = os.fork()
        if not child:
            signal.alarm(10)  # seconds: a child that waits for the lock dies
            (x * x).backward()
            os._exit(0 if float(x.grad) == 4.0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
