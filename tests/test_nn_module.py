"""Module: what registers, how it is walked, hooked, converted and printed, and what it refuses."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from backlit import nn
from backlit.graph import Tensor


class Net(nn.Module):
    """Two layers, a buffer and a list, without super().__init__(), which may be left out."""

    def __init__(self) -> None:
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.heads = nn.ModuleList([nn.Linear(8, 3), nn.Linear(8, 3)])
        self.scale = nn.Parameter(np.ones(1, np.float32))
        self.register_buffer("offset", np.zeros(1, np.float32))

    def forward(self, x: Any) -> Any:
        x = nn.functional.flatten(self.norm(self.conv(x)), 1)
        return self.heads[0](x) * self.scale + self.heads[1](x) + self.offset


PARAMETERS = ["scale", "conv.weight", "conv.bias", "norm.weight", "norm.bias"]
PARAMETERS += ["heads.0.weight", "heads.0.bias", "heads.1.weight", "heads.1.bias"]


def images(dtype: Any = np.float32) -> Any:
    return np.random.default_rng(0).normal(size=(4, 1, 4, 4)).astype(dtype)


# --- registration


def test_module_names_parameters_own_first_then_children_in_order() -> None:
    assert [name for name, _ in Net().named_parameters()] == PARAMETERS


def test_module_parameters_without_recurse_are_its_own() -> None:
    assert [name for name, _ in Net().named_parameters(recurse=False)] == ["scale"]


def test_module_prefix_comes_before_every_name() -> None:
    assert next(name for name, _ in Net().named_parameters(prefix="net")) == "net.scale"


def test_module_names_modules_parents_first() -> None:
    names = [name for name, _ in Net().named_modules()]
    assert names == ["", "conv", "norm", "heads", "heads.0", "heads.1"]


def test_module_names_buffers() -> None:
    names = [name for name, _ in Net().named_buffers()]
    assert names == ["offset", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]


def test_module_lists_children_only() -> None:
    assert [name for name, _ in Net().named_children()] == ["conv", "norm", "heads"]


def test_module_yields_a_shared_parameter_once_and_saves_it_under_both_names() -> None:
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    net[1].weight = net[0].weight
    assert len(list(net.parameters())) == 1
    assert list(net.state_dict()) == ["0.weight", "1.weight"]


def test_module_yields_a_shared_module_once() -> None:
    layer = nn.Linear(2, 2)
    assert len(list(nn.Sequential(layer, layer).modules())) == 2


def test_module_without_a_parameter_keeps_its_name_as_none() -> None:
    layer = nn.Linear(2, 2, bias=False)
    assert layer.bias is None
    layer.bias = nn.Parameter(np.zeros(2, np.float32))
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_module_forgets_a_parameter_assigned_none_or_deleted() -> None:
    layer = nn.Linear(2, 2)
    layer.bias = None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    del layer.weight
    assert not hasattr(layer, "weight")


def test_module_completes_registered_names() -> None:
    assert {"conv", "scale", "offset"} <= set(dir(Net()))


def test_module_replaces_a_plain_attribute_by_a_parameter_of_its_name() -> None:
    net = Net()
    net.gain = 2.0
    net.gain = nn.Parameter(np.ones(1))
    assert "gain" in dict(net.named_parameters())


def test_module_is_deep_copied_apart() -> None:
    net = Net()
    twin = copy.deepcopy(net)
    twin.scale.data[...] = 5
    twin.offset[...] = 5
    assert (net.scale.data.item(), net.offset.item()) == (1, 0)
    assert list(twin.state_dict()) == list(net.state_dict())


def test_parameter_copies_its_data_into_an_aligned_array() -> None:
    data = np.asfortranarray(np.ones((3, 2)))
    parameter = nn.Parameter(data)
    data[...] = 7
    assert parameter.data.max() == 1
    assert parameter.data.flags.c_contiguous
    assert parameter.data.ctypes.data % 64 == 0


def test_buffer_is_a_copy() -> None:
    net, array = Net(), np.zeros(3)
    net.register_buffer("stored", array)
    array[...] = 1
    assert net.stored.max() == 0


REFUSED = {
    "integer parameter": (lambda: nn.Parameter(np.arange(3)), TypeError, "data has dtype int64"),
    "requires_grad no bool": (lambda: nn.Parameter(np.ones(1), 1), TypeError, "requires_grad is 1"),
    "array over parameter": (
        lambda: setattr(Net(), "scale", np.ones(1)),
        TypeError,
        "scale is registered as a Parameter: assign a Parameter or None",
    ),
    "number over module": (lambda: setattr(Net(), "conv", 1), TypeError, "conv is registered as a Module"),
    "text over buffer": (lambda: setattr(Net(), "offset", "x"), TypeError, "offset is a buffer"),
    "method's name": (
        lambda: setattr(Net(), "train", nn.Linear(1, 1)),
        ValueError,
        "name 'train' is already an attribute of Net",
    ),
    "dotted name": (lambda: Net().add_module("a.b", nn.ReLU()), ValueError, "'a.b', and a registered name"),
    "empty name": (lambda: Net().register_buffer("", np.ones(1)), ValueError, "a text without dots"),
    "module no module": (lambda: Net().add_module("a", 3), TypeError, "module 'a' is 3, and an nn.Module"),
    "parameter no parameter": (
        lambda: Net().register_parameter("a", np.ones(1)),
        TypeError,
        "parameter 'a' is a ndarray: wrap it",
    ),
    "buffer of bools": (lambda: Net().register_buffer("a", [True]), TypeError, "a has dtype bool"),
    "hook no function": (lambda: Net().register_forward_hook(3), TypeError, "hook is 3"),
    "missing attribute": (lambda: Net().conv9, AttributeError, "Net has no attribute 'conv9'"),
    "mode no bool": (lambda: Net().train("no"), TypeError, "mode is 'no'"),
    "dtype of integers": (lambda: Net().astype(np.int32), TypeError, "dtype is int32"),
    "no forward": (lambda: nn.ModuleList()(1), TypeError, "ModuleList has no forward: define forward"),
    "function in Sequential": (
        lambda: nn.Sequential(nn.Linear(1, 1), nn.functional.relu),
        TypeError,
        "argument 1 of Sequential is <function relu",
    ),
    "list in Sequential": (
        lambda: nn.Sequential([nn.ReLU()]),
        TypeError,
        r"a list is unpacked \(\*modules\)",
    ),
    "index beyond": (lambda: nn.Sequential(nn.ReLU())[1], IndexError, "index is 1, and Sequential has 1"),
    "index no int": (lambda: nn.Sequential(nn.ReLU())["0"], TypeError, "index is '0'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_module_refuses_with_a_sentence(case: str) -> None:
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call()


def test_module_cannot_be_a_part_of_itself() -> None:
    outer, inner = Net(), Net()
    outer.inner = inner
    with pytest.raises(ValueError, match="a part of itself"):
        inner.outer = outer
    with pytest.raises(ValueError, match="a part of itself"):
        inner.add_module("outer", outer)


# --- containers


def test_sequential_runs_its_modules_in_order() -> None:
    double = nn.Linear(1, 1, bias=False)
    double.weight.data[...] = -2
    x = np.ones((1, 1), np.float32)
    assert nn.Sequential(double, nn.ReLU())(x).item() == 0
    assert nn.Sequential(nn.ReLU(), double)(x).item() == -2


def test_sequential_takes_names_from_a_dict() -> None:
    named = OrderedDict([("first", nn.Linear(1, 2)), ("second", nn.ReLU())])
    assert list(nn.Sequential(named).state_dict()) == ["first.weight", "first.bias"]
    assert list(nn.Sequential(dict(named)).state_dict()) == ["first.weight", "first.bias"]


def test_sequential_slice_is_a_sequential_over_the_same_modules() -> None:
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 3))
    assert [type(part).__name__ for part in net[1:]] == ["ReLU", "Linear"]
    assert net[-1] is net[1:][1]
    assert isinstance(net[:2], nn.Sequential)


def test_sequential_takes_another_module_in_the_place_of_one() -> None:
    model = nn.Sequential({"first": nn.Linear(2, 3), "last": nn.ReLU()})
    model[-1] = nn.Tanh()
    assert [(name, type(child)) for name, child in model.named_children()] == [
        ("first", nn.Linear),
        ("last", nn.Tanh),
    ]


@pytest.mark.parametrize(
    ("index", "left"), [(1, ["0", "1", "2"]), (slice(1, 3), ["0", "1"]), (-4, ["0", "1", "2"])]
)
def test_sequential_without_a_module_is_numbered_anew(index: Any, left: list[str]) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Tanh(), nn.Sigmoid())
    kept = list(model)
    del kept[index], model[index]
    assert [name for name, _ in model.named_children()] == left
    assert list(model) == kept


def test_sequential_refuses_to_change_a_position_it_does_not_have() -> None:
    model = nn.Sequential(nn.ReLU())
    with pytest.raises(IndexError, match="index is 1, and Sequential has 1 modules"):
        model[1] = nn.Tanh()
    with pytest.raises(IndexError, match="index is -2, and Sequential has 1 modules"):
        del model[-2]
    with pytest.raises(TypeError, match=r"module '0' is 'tanh', and an nn.Module is needed"):
        model[0] = "tanh"  # type: ignore[assignment]


def test_sequential_without_modules_returns_its_input() -> None:
    x = Tensor([1.0])
    assert nn.Sequential()(x) is x
    assert nn.Identity()(x) is x


def test_module_list_appends_extends_and_iterates() -> None:
    layers = nn.ModuleList().append(nn.Linear(1, 1)).extend([nn.ReLU(), nn.ReLU()])
    assert [type(layer).__name__ for layer in layers] == ["Linear", "ReLU", "ReLU"]
    assert len(layers[1:]) == 2


# --- hooks, modes, gradients, conversion


def test_hook_sees_module_inputs_and_output_until_removed() -> None:
    layer, seen = nn.Identity(), []
    handle = layer.register_forward_hook(lambda *arguments: seen.append(arguments))
    x = Tensor([1.0])
    layer(x)
    handle.remove()
    handle.remove()
    layer(x)
    assert seen == [(layer, (x,), x)]


def test_hook_replaces_the_output_by_what_it_returns() -> None:
    layer = nn.Identity()
    layer.register_forward_hook(lambda _module, _inputs, output: output * 2)
    layer.register_forward_hook(lambda _module, _inputs, output: output + 1)
    assert layer(Tensor([3.0])).item() == 7


def test_hook_that_removes_itself_runs_once() -> None:
    layer, seen = nn.Identity(), []
    handle = layer.register_forward_hook(lambda *_: (seen.append(1), handle.remove())[1])
    layer(1)
    layer(1)
    assert seen == [1]


def test_mode_reaches_every_module() -> None:
    net = Net().eval()
    assert not any(part.training for part in net.modules())
    assert all(part.training for part in net.train().modules())


def test_zero_grad_drops_all_gradients() -> None:
    net = Net()
    net(images()).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_frozen_parameters_get_no_gradient() -> None:
    net = Net()
    net.conv.requires_grad_(False)
    net(images()).sum().backward()
    assert net.conv.weight.grad is None
    assert net.scale.grad is not None


def test_astype_converts_parameters_and_floating_buffers_only() -> None:
    net = Net().double()
    kinds = {name: array.dtype.name for name, array in net.state_dict().items()}
    assert kinds.pop("norm.num_batches_tracked") == "int64"
    assert set(kinds.values()) == {"float64"}
    assert net(images(np.float64)).dtype == np.float64


def test_astype_keeps_values_and_drops_gradients() -> None:
    net = nn.Linear(2, 2)
    before = net.weight.data.copy()
    net(np.ones((1, 2), np.float32)).sum().backward()
    net.astype("float64")
    np.testing.assert_array_equal(net.weight.data, before)
    assert net.weight.grad is None


def test_apply_reaches_children_before_parents() -> None:
    seen: list[str] = []
    Net().apply(lambda module: seen.append(type(module).__name__))
    assert seen[-1] == "Net"
    assert len(seen) == 6


def test_module_prints_as_a_tree() -> None:
    assert repr(nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Dropout(0.1)))) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (1): Sequential(\n"
        "    (0): ReLU()\n"
        "    (1): Dropout(p=0.1, inplace=False)\n"
        "  )\n"
        ")"
    )
