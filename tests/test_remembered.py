"""Problems that are remembered: an answer is only ever that of the same arguments, of the same types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import backlit as bl
from backlit import engines
from backlit.engines import remembered
from configurations import integers

X, W = np.arange(16.0).reshape(1, 1, 4, 4), np.ones((1, 1, 2, 2))

# Settings that equal 1 (or hold it), and are none of those that a pair takes.
WRONG = [True, 1.0, np.True_, np.float64(1), (True, 1), (1, 1.0), [1, True], (1, np.True_)]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize("name", ["stride", "dilation", "padding"])
@pytest.mark.parametrize("pair", [bl.conv_forward, bl.conv_transpose_forward])
def test_what_merely_equals_a_size_is_refused_after_that_size(pair: Any, name: str, wrong: Any) -> None:
    for right in (1, (1, 1)):
        pair(X, W, **{name: right})
    for _ in range(2):
        with pytest.raises(TypeError, match=f"{name} is .*, and an integer is needed"):
            pair(X, W, **{name: wrong})


@pytest.mark.parametrize("wrong", [True, 1.0, np.True_], ids=repr)
def test_groups_that_merely_equal_one_are_refused_after_one(wrong: Any) -> None:
    bl.conv_forward(X, W, groups=1)
    with pytest.raises(TypeError, match=r"groups is .*, and an integer is needed"):
        bl.conv_forward(X, W, groups=wrong)


@pytest.mark.parametrize("wrong", [True, 1.0, (True, 1), [1.0, 1]], ids=repr)
@pytest.mark.parametrize("name", ["kernel_size", "stride", "dilation"])
def test_pool_refuses_what_merely_equals_a_size_after_that_size(name: str, wrong: Any) -> None:
    for right in (1, (1, 1)):
        bl.max_pool_forward(X, **{"kernel_size": 2, name: right})
    with pytest.raises(TypeError, match=f"{name} is .*, and an integer is needed"):
        bl.max_pool_forward(X, **{"kernel_size": 2, name: wrong})


@pytest.mark.parametrize("wrong", [0, 1, np.False_, None], ids=repr)
def test_pool_refuses_what_merely_equals_a_flag_after_that_flag(wrong: Any) -> None:
    for right in (True, False):
        bl.max_pool_forward(X, 2, ceil_mode=right)
    with pytest.raises(TypeError, match="ceil_mode is"):
        bl.max_pool_forward(X, 2, ceil_mode=wrong)


@pytest.mark.parametrize("layout", [["channels_first"], 1, None, "channels first"], ids=repr)
def test_layout_that_is_none_is_refused(layout: Any) -> None:
    with pytest.raises(ValueError, match="layout is"):
        bl.conv_forward(X, W, layout=layout)


@pytest.mark.parametrize(
    "settings",
    [
        {"stride": [2, 2], "padding": [[1, 1], [1, 1]]},
        {"stride": np.array([2, 2]), "padding": np.int64(1)},
        {"stride": (np.int32(2), 2), "padding": ((1, 1), (1, np.int8(1)))},
        {"stride": 2, "padding": (1, 1)},
    ],
)
def test_sizes_may_be_written_in_many_ways(settings: dict[str, Any]) -> None:
    expected, known = bl.conv_forward(X, W, stride=2, padding=1)
    y, cache = bl.conv_forward(X, W, **settings)
    np.testing.assert_array_equal(y, expected)
    assert cache.geometry == known.geometry


def test_same_problem_is_validated_once() -> None:
    _, one = bl.conv_forward(X, W, stride=2)
    _, other = bl.conv_forward(X + 1, W, stride=2)
    assert one.problem is other.problem


def test_errors_are_the_same_each_time() -> None:
    messages = []
    for _ in range(2):
        with pytest.raises(ValueError) as error:
            bl.conv_forward(X, W, stride=0)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert "stride is 0" in messages[0]


def test_what_is_built_of_other_types_is_built_anew() -> None:
    built = remembered(lambda shapes, *settings: (shapes, settings))
    shapes = ((2, 2),)
    assert built(shapes, 1) is built(shapes, 1)
    assert type(built(shapes, True)[1][0]) is bool
    assert type(built(shapes, (1, True))[1][0][1]) is bool
    assert type(built(shapes, (1, 1))[1][0][1]) is int


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", engines.names())
def test_bare_arrays_give_what_arrays_with_all_axes_give(name: str, dtype: str, layout: str) -> None:
    x, w, b = integers(0, (6, 5), dtype), integers(1, (3, 2), dtype), np.asarray(2, dtype)
    first = layout == "channels_first"
    whole_x, whole_w = (x[None, None], w[None, None]) if first else (x[None, ..., None], w[..., None, None])
    with engines.use(name):
        for forward, backward in (
            (bl.conv_forward, bl.conv_backward),
            (bl.conv_transpose_forward, bl.conv_transpose_backward),
        ):
            y, cache = forward(x, w, b, stride=2, layout=layout)
            found = [y, *backward(y, cache)]
            whole, cache = forward(whole_x, whole_w, b[None], stride=2, layout=layout)
            for result, expected in zip(found, (whole, *backward(whole, cache)), strict=True):
                assert result.shape == expected.squeeze().shape
                np.testing.assert_array_equal(result, expected.squeeze())
