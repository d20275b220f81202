"""The source of random numbers: seeds, the override of one thread, and threads that share it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from backlit.ops.random import generator, manual_seed, using


def test_the_same_seed_gives_the_same_numbers() -> None:
    manual_seed(7)
    first = generator().random(5)
    manual_seed(np.int64(7))
    np.testing.assert_array_equal(generator().random(5), first)


def test_a_seed_gives_the_numbers_of_numpys_default_generator() -> None:
    manual_seed(7)
    np.testing.assert_array_equal(generator().random(5), np.random.default_rng(7).random(5))


def test_using_is_undone_at_the_end_and_by_an_exception() -> None:
    shared, mine = generator(), np.random.default_rng(0)
    with using(mine):
        pass
    assert generator() is shared
    with pytest.raises(KeyError), using(mine):
        raise KeyError
    assert generator() is shared


def test_using_nests() -> None:
    outer, inner = np.random.default_rng(0), np.random.default_rng(1)
    with using(outer):
        with using(inner):
            assert generator() is inner
        assert generator() is outer


def test_using_hands_over_the_generator() -> None:
    with using(np.random.default_rng(0)) as rng:
        assert generator() is rng


def test_using_is_invisible_to_other_threads() -> None:
    shared, mine = generator(), np.random.default_rng(0)
    with using(mine), ThreadPoolExecutor(1) as pool:
        assert pool.submit(generator).result() is shared


def test_manual_seed_leaves_a_generator_in_force() -> None:
    mine = np.random.default_rng(0)
    with using(mine):
        manual_seed(1)
        assert generator() is mine


def test_eight_threads_draw_different_numbers_from_the_shared_generator() -> None:
    manual_seed(0)
    start = threading.Barrier(8)

    def draw(_: int) -> list[float]:
        start.wait()
        return [generator().random() for _ in range(200)]

    with ThreadPoolExecutor(8) as pool:
        drawn = [value for values in pool.map(draw, range(8)) for value in values]
    assert sorted(drawn) == sorted(np.random.default_rng(0).random(1600).tolist())


@pytest.mark.parametrize("n", [True, 1.0, "1", None])
def test_a_seed_that_is_no_integer_is_an_error(n: Any) -> None:
    with pytest.raises(TypeError, match=r"n is .*, and an integer is needed"):
        manual_seed(n)


def test_a_negative_seed_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"n is -1, and it has to be at least 0"):
        manual_seed(-1)


@pytest.mark.parametrize("rng", [None, 0, np.random.RandomState(0)])
def test_using_refuses_what_is_no_generator(rng: Any) -> None:
    with pytest.raises(TypeError, match=r"rng is .*, and a NumPy Generator is needed"), using(rng):
        pass
