"""The checks that the pairs share: what passes, and the sentence that meets what does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backlit.ops.arguments import as_axis, as_choice, as_flag, as_needs, as_number


@pytest.mark.parametrize(("value", "axis"), [(0, 0), (2, 2), (-1, 2), (-3, 0), (np.int8(-2), 1)])
def test_axis_is_counted_from_the_front(value: Any, axis: int) -> None:
    assert as_axis("axis", value, "x", (4, 5, 6)) == axis


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.25), np.int64(1)])
def test_number_of_any_real_type_passes(value: Any) -> None:
    number = as_number("p", value, 0, 1)
    assert type(number) is float
    assert number == value


@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_number_beyond_every_float_is_an_error(value: int) -> None:
    with pytest.raises(ValueError, match=r"eps is -?inf, and a number of at least 0 and finite is needed"):
        as_number("eps", value, 0, np.inf, below=True)


def test_number_below_a_bound_excludes_the_bound() -> None:
    assert as_number("p", 1, 0, 1) == 1
    with pytest.raises(
        ValueError, match=r"p is 1, and a number from 0 up to, but not including, 1 is needed"
    ):
        as_number("p", 1, 0, 1, below=True)


@pytest.mark.parametrize("value", [True, False, np.True_, np.False_])
def test_flag_of_either_bool_passes(value: Any) -> None:
    assert as_flag("training", value) is bool(value)


@pytest.mark.parametrize("value", [None, "yes", [], np.ones(3), 1, 0.0])
def test_flag_of_anything_else_is_an_error(value: Any) -> None:
    with pytest.raises(TypeError, match=r"training is .*, and True or False is needed"):
        as_flag("training", value)


def test_choice_names_what_there_is_to_choose_from() -> None:
    assert as_choice("reduction", "sum", ("mean", "sum")) == "sum"
    with pytest.raises(ValueError, match=r"reduction is 'total', and \"mean\" or \"sum\" is needed"):
        as_choice("reduction", "total", ("mean", "sum"))


@pytest.mark.parametrize("needs", [("dx",), ["dx"], {"dx"}, frozenset({"dx"})])
def test_needs_may_be_any_collection_of_names(needs: Any) -> None:
    assert as_needs(needs, ("dx", "dw")) == {"dx"}
