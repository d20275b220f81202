"""state_dict and load_state_dict: copies out, values in, and nothing changed where anything does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backlit import nn


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def test_state_dict_gives_copies() -> None:
    model = net()
    for array in model.state_dict().values():
        array[...] = 9
    assert not any((array == 9).any() for array in model.state_dict().values())


def test_state_dict_comes_back_the_same_bits() -> None:
    source, target = net(), net()
    source[1].num_batches_tracked[...] = 7
    assert target.load_state_dict(source.state_dict()) == ([], [])
    for name, array in source.state_dict().items():
        np.testing.assert_array_equal(target.state_dict()[name], array)


def test_load_state_dict_keeps_the_parameter_objects_and_arrays() -> None:
    model = net()
    parameter, array = model[0].weight, model[0].weight.data
    model.load_state_dict(net().state_dict())
    assert model[0].weight is parameter
    assert parameter.data is array


def test_load_state_dict_takes_whatever_numpy_reads() -> None:
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": memoryview(np.array([[1, 2]], "f4")), "bias": np.ones(1, ">f4")})
    assert layer.weight.data.tolist() == [[1, 2]]
    assert layer.bias is not None
    assert layer.bias.data.tolist() == [1]


def changed(**changes: Any) -> dict[str, Any]:
    """A state of another net() with some entries replaced, or removed where they are None."""
    state = {**net().state_dict(), **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in state.items() if value is not None}


MISFITS = {
    "missing": (changed(**{"0__bias": None}), ValueError, "does not fit Sequential: missing '0.bias'"),
    "unexpected": (changed(extra=np.ones(1)), ValueError, "unexpected 'extra'"),
    "shape": (
        changed(**{"0__bias": np.ones(3, np.float32)}),
        ValueError,
        r"'0.bias' has shape \(3,\) where the model has \(2,\)",
    ),
    "dtype": (
        changed(**{"0__bias": np.ones(2)}),
        ValueError,
        r"'0.bias' is float64 where the model is float32 \(convert the model first, model.astype\(np.float64\)",
    ),
    "integers": (changed(**{"0__bias": np.ones(2, int)}), TypeError, "0.bias has dtype int64"),
    "counter of floats": (
        changed(**{"1__num_batches_tracked": np.float32(1)}),
        TypeError,
        "num_batches_tracked has dtype float32",
    ),
    "no dict": ([1], TypeError, r"state_dict is \[1\]"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_load_state_dict_refuses_and_changes_nothing(case: str) -> None:
    state, error, message = MISFITS[case]
    model = net()
    before = model.state_dict()
    with pytest.raises(error, match=message):
        model.load_state_dict(state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_load_state_dict_tells_all_misfits_at_once() -> None:
    state = changed(**{"0__bias": None, "extra": np.ones(1), "1__weight": np.ones(5, np.float32)})
    with pytest.raises(
        ValueError, match=r"missing '0.bias'; unexpected 'extra'; '1.weight' has shape \(5,\)"
    ):
        net().load_state_dict(state)


def test_load_state_dict_cuts_long_lists_of_names() -> None:
    layers = nn.Sequential(*[nn.Linear(1, 1) for _ in range(20)])
    with pytest.raises(ValueError, match="and 34 more") as caught:
        layers.load_state_dict({})
    assert len(str(caught.value)) < 300


def test_load_state_dict_without_strict_leaves_other_names_alone() -> None:
    model = net()
    missing, unexpected = model.load_state_dict(
        {"0.bias": np.full(2, 3, np.float32), "head.weight": np.ones(1)}, strict=False
    )
    assert model[0].bias.data.tolist() == [3, 3]
    assert "0.weight" in missing
    assert unexpected == ["head.weight"]


def test_load_state_dict_without_strict_still_refuses_shapes() -> None:
    with pytest.raises(ValueError, match="has shape"):
        net().load_state_dict({"0.bias": np.ones(3, np.float32)}, strict=False)


def test_load_state_dict_refuses_a_read_only_parameter_and_changes_nothing() -> None:
    model, state = net(), net().state_dict()
    model[1].bias.data.flags.writeable = False
    before = model.state_dict()
    with pytest.raises(
        ValueError, match=r"'1.bias' is read-only in the model \(assign it an array of its own"
    ):
        model.load_state_dict({name: value + 1 for name, value in state.items()})
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
