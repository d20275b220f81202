"""Every module and function against PyTorch's of the same name: keys, printing, outputs, gradients, statistics."""

from __future__ import annotations

import math
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
import pytest

from backlit import nn
from backlit.graph import Tensor
from backlit.nn import functional
from backlit.ops import random
from tolerance import assert_close

pytestmark = pytest.mark.torch


class Case(NamedTuple):
    """A module: its name, its arguments, and the shape of its input."""

    name: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    shape: tuple[int, ...]


def case(name: str, *arguments: Any, shape: tuple[int, ...], **options: Any) -> Any:
    text = ",".join([*map(str, arguments), *(f"{key}={value}" for key, value in options.items())])
    return pytest.param(Case(name, arguments, options, shape), id=f"{name}({text})".replace(" ", ""))


MODULES = [
    case("Conv1d", 3, 4, 3, shape=(2, 3, 9)),
    case("Conv1d", 4, 6, 2, 2, 1, 2, 2, False, shape=(2, 4, 9)),
    case("Conv2d", 1, 4, 3, padding=1, shape=(2, 1, 6, 6)),
    case("Conv2d", 4, 6, (3, 2), (2, 1), (1, 2), (1, 2), 2, shape=(2, 4, 7, 6)),
    case("Conv2d", 2, 3, 4, padding="same", dilation=2, shape=(2, 2, 7, 8)),
    case("Conv2d", 2, 3, 3, padding="valid", bias=False, shape=(2, 2, 5, 5)),
    case("Conv3d", 2, 3, 2, stride=2, padding=(0, 1, 1), shape=(2, 2, 4, 5, 4)),
    case("ConvTranspose1d", 3, 4, 3, 2, 1, 1, shape=(2, 3, 5)),
    case("ConvTranspose2d", 4, 6, 3, 2, 1, 1, 2, False, 2, shape=(2, 4, 4, 5)),
    case("ConvTranspose2d", 2, 3, (2, 3), stride=(1, 2), shape=(2, 2, 4, 4)),
    case("ConvTranspose3d", 2, 2, 2, stride=2, shape=(2, 2, 3, 2, 3)),
    case("MaxPool1d", 2, shape=(2, 3, 9)),
    case("MaxPool2d", 3, 2, 1, shape=(2, 3, 7, 8)),
    case("MaxPool2d", (2, 3), (1, 2), 0, 2, ceil_mode=True, shape=(2, 3, 7, 8)),
    case("MaxPool3d", 2, shape=(2, 2, 4, 5, 4)),
    case("AvgPool1d", 3, 2, 1, shape=(2, 3, 9)),
    case("AvgPool2d", 3, 2, 1, True, False, shape=(2, 3, 7, 8)),
    case("AvgPool2d", (2, 3), divisor_override=5, shape=(2, 3, 7, 8)),
    case("AvgPool3d", 2, shape=(2, 2, 4, 5, 4)),
    case("AdaptiveAvgPool1d", 4, shape=(2, 3, 9)),
    case("AdaptiveAvgPool2d", (3, None), shape=(2, 3, 7, 8)),
    case("AdaptiveAvgPool2d", 1, shape=(2, 3, 7, 8)),
    case("AdaptiveAvgPool3d", (1, 2, 3), shape=(2, 2, 4, 5, 4)),
    case("Linear", 5, 4, shape=(3, 5)),
    case("Linear", 5, 4, bias=False, shape=(2, 3, 5)),
    case("ReLU", shape=(3, 5)),
    case("ReLU", True, shape=(3, 5)),
    case("Sigmoid", shape=(3, 5)),
    case("Tanh", shape=(3, 5)),
    case("Softmax", dim=1, shape=(3, 5, 2)),
    case("LogSoftmax", dim=-1, shape=(3, 5)),
    case("BatchNorm1d", 4, shape=(6, 4)),
    case("BatchNorm1d", 4, 1e-3, 0.3, shape=(3, 4, 5)),
    case("BatchNorm2d", 3, shape=(4, 3, 5, 4)),
    case("BatchNorm2d", 3, momentum=None, affine=False, shape=(4, 3, 5, 4)),
    case("BatchNorm2d", 3, track_running_stats=False, shape=(4, 3, 5, 4)),
    case("BatchNorm3d", 2, shape=(3, 2, 2, 3, 4)),
    case("Flatten", shape=(2, 3, 4)),
    case("Flatten", 0, 1, shape=(2, 3, 4)),
    case("Dropout", 0.4, shape=(3, 5)),
    case("Dropout", 0.0, shape=(3, 5)),
    case("Identity", shape=(3, 5)),
]


def pair(torch: Any, case: Case, dtype: str) -> tuple[nn.Module, Any]:
    """Our module and PyTorch's, with the same state, far from the ones and zeros that norms begin with."""
    with random.using(np.random.default_rng(1)):
        ours = getattr(nn, case.name)(*case.arguments, **case.options).astype(dtype)
    theirs = getattr(torch.nn, case.name)(*case.arguments, **case.options).to(getattr(torch, dtype))
    rng = np.random.default_rng(2)
    state = {
        name: (array + rng.uniform(0.1, 1, array.shape)).astype(array.dtype) if array.ndim else array + 3
        for name, array in ours.state_dict().items()
    }
    ours.load_state_dict(state)
    theirs.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in state.items()})
    return ours, theirs


def assert_same_arrays(actual: dict[str, Any], expected: dict[str, Any], terms: int, scale: float) -> None:
    assert list(actual) == list(expected)
    for name, value in expected.items():
        if value is None:
            assert actual[name] is None, name
        else:
            assert_close(actual[name], value.detach().numpy(), terms, scale=scale)


# Masks of dropout are drawn from other generators than PyTorch's: compared is what happens without one.
MODES = [
    pytest.param(c.values[0], training, id=f"{c.id}-{'train' if training else 'eval'}")
    for c in MODULES
    for training in (True, False)
    if not (training and c.id == "Dropout(0.4)")
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("case", "training"), MODES)
def test_module_computes_what_pytorchs_does(torch: Any, case: Case, training: bool, dtype: str) -> None:
    ours, theirs = pair(torch, case, dtype)
    ours.train(training)
    theirs.train(training)
    rng = np.random.default_rng(3)
    x = rng.normal(size=case.shape).astype(dtype)
    x_ours, x_theirs = Tensor(x, requires_grad=True), torch.from_numpy(x.copy()).requires_grad_()
    y, expected = ours(x_ours), theirs(x_theirs * 1)  # times 1: in place only works on what is computed
    dy = rng.normal(size=y.shape).astype(dtype)
    y.backward(dy)
    expected.backward(torch.from_numpy(dy.copy()))

    magnitude = max(1.0, *(float(np.abs(p.data).max()) for p in ours.parameters()), 1.0)
    inner = max([float(p.size / p.shape[0]) for p in ours.parameters()] + [8.0])  # terms of one output
    terms = int(max(inner, y.size))
    if case.name.startswith("BatchNorm"):  # 1/sqrt(var) of any channel, twice for the gradient of var
        magnitude *= 30
    assert_close(y.numpy(), expected.detach().numpy(), terms, scale=magnitude * 8)
    assert_close(x_ours.grad, x_theirs.grad.numpy(), terms, scale=magnitude * 8)
    gradients = {name: p.grad for name, p in ours.named_parameters()}
    assert_same_arrays(gradients, {n: p.grad for n, p in theirs.named_parameters()}, terms, magnitude * 8)
    assert_same_arrays(dict(ours.named_buffers()), dict(theirs.named_buffers()), terms, magnitude)


@pytest.mark.parametrize("case", MODULES)
def test_module_has_pytorchs_state(torch: Any, case: Case) -> None:
    ours = getattr(nn, case.name)(*case.arguments, **case.options).state_dict()
    theirs = getattr(torch.nn, case.name)(*case.arguments, **case.options).state_dict()
    described = {name: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in theirs.items()}
    assert {name: (array.shape, array.dtype.name) for name, array in ours.items()} == described
    assert list(ours) == list(theirs)


# AvgPool1d keeps its sizes as tuples there, and what BatchNorm tells of its bias depends on the version.
PRINTED = [c for c in MODULES if not c.values[0].name.startswith(("AvgPool1d", "BatchNorm"))]


@pytest.mark.parametrize("case", PRINTED)
def test_module_prints_as_pytorchs_does(torch: Any, case: Case) -> None:
    ours = getattr(nn, case.name)(*case.arguments, **case.options)
    assert repr(ours) == repr(getattr(torch.nn, case.name)(*case.arguments, **case.options))


# What differs from PyTorch's classes, and why.
LEFT_OUT = {
    "device": "there is one, the processor",
    "padding_mode": "only zeros are padded",
    "size_average": "deprecated there",
    "reduce": "deprecated there",
}
ADDED = {("AvgPool1d", "divisor_override"): "AvgPool2d and AvgPool3d have it there, too"}
# Abstract, a tensor and not a module (a class without signature there), and one that only names its *args.
NO_SIGNATURE = {"Module", "Parameter", "Sequential"}


@pytest.mark.parametrize("name", sorted({n for n in nn.__all__ if n[0].isupper()} - NO_SIGNATURE))
def test_module_takes_pytorchs_arguments(torch: Any, name: str) -> None:
    def described(of: Any) -> list[tuple[str, Any]]:
        named = [
            p for p in signature(of).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        return [(p.name, p.default) for p in named if p.name not in LEFT_OUT and (name, p.name) not in ADDED]

    ours, theirs = described(getattr(nn, name)), described(getattr(torch.nn, name))
    assert sorted(ours, key=str) == sorted(theirs, key=str)


@pytest.mark.parametrize("name", sorted({n for n in nn.__all__ if n[0].isupper()} - NO_SIGNATURE))
def test_module_takes_no_positional_argument_where_pytorch_takes_another(torch: Any, name: str) -> None:
    def positional(of: Any) -> list[str]:
        return [p.name for p in signature(of).parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD]

    ours, theirs = positional(getattr(nn, name)), positional(getattr(torch.nn, name))
    ours = [argument for argument in ours if (name, argument) not in ADDED]
    assert ours == theirs[: len(ours)]


def test_tree_prints_as_pytorchs_does(torch: Any) -> None:
    def tree(package: Any) -> Any:
        block = package.Sequential(package.Conv2d(1, 2, 3), package.ReLU())
        return package.Sequential(block, package.Flatten(), package.Linear(8, 2))

    assert repr(tree(nn)) == repr(tree(torch.nn))


@pytest.mark.parametrize(
    "case", [c for c in MODULES if "Conv" in c.values[0].name or c.values[0].name == "Linear"]
)
def test_weights_begin_in_pytorchs_interval(torch: Any, case: Case) -> None:
    def extremes(package: Any) -> dict[str, float]:
        largest: dict[str, float] = {}
        for _ in range(60):
            for name, array in (
                getattr(package, case.name)(*case.arguments, **case.options).state_dict().items()
            ):
                largest[name] = max(largest.get(name, 0.0), float(abs(array).max()))
        return largest

    torch.manual_seed(0)
    theirs = extremes(torch.nn)
    with random.using(np.random.default_rng(0)):
        ours = extremes(nn)
    for name, value in theirs.items():
        assert 0.94 <= ours[name] / value <= 1.06, name  # 60 draws or more reach the last 6 percent


LOSSES = [
    ("CrossEntropyLoss", {}, (5, 4)),
    ("CrossEntropyLoss", {"reduction": "sum"}, (5, 4)),
    ("CrossEntropyLoss", {"reduction": "none"}, (5, 4)),
    ("CrossEntropyLoss", {"label_smoothing": 0.2}, (5, 4)),
    ("CrossEntropyLoss", {"label_smoothing": 1.0, "ignore_index": 2}, (5, 4)),
    ("CrossEntropyLoss", {"weight": [1.0, 2.0, 0.5, 3.0], "label_smoothing": 0.1}, (5, 4)),
    ("CrossEntropyLoss", {"weight": [1.0, 2.0, 0.5, 3.0], "reduction": "sum"}, (2, 4, 3, 3)),
    ("MSELoss", {}, (5, 4)),
    ("MSELoss", {"reduction": "sum"}, (5, 4)),
    ("MSELoss", {"reduction": "none"}, (5, 4)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options", "shape"), LOSSES)
def test_loss_computes_what_pytorchs_does(
    torch: Any, name: str, options: dict[str, Any], shape: tuple[int, ...], dtype: str
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(dtype)
    ours, theirs = dict(options), dict(options)
    if "weight" in options:
        ours["weight"] = np.array(options["weight"], dtype)
        theirs["weight"] = torch.tensor(options["weight"], dtype=getattr(torch, dtype))
    target: Any = rng.normal(size=shape).astype(dtype)
    if name == "CrossEntropyLoss":
        target = rng.integers(0, 4, (shape[0], *shape[2:]))
    x_ours, x_theirs = Tensor(x, requires_grad=True), torch.from_numpy(x.copy()).requires_grad_()
    loss = getattr(nn, name)(**ours)(x_ours, target)
    expected = getattr(torch.nn, name)(**theirs)(x_theirs, torch.from_numpy(target))
    loss.sum().backward()
    expected.sum().backward()
    assert_close(loss.numpy(), expected.detach().numpy(), x.size)
    assert_close(x_ours.grad, x_theirs.grad.numpy(), x.size)


def test_losses_take_pytorchs_tensors_as_labels(torch: Any) -> None:
    loss = nn.CrossEntropyLoss()(np.zeros((2, 4)), torch.tensor([0, 3]))
    assert_close(loss.item(), math.log(4), 4)


def test_load_state_dict_takes_pytorchs_tensors_by_value(torch: Any) -> None:
    theirs, ours = torch.nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        theirs.weight.fill_(9)
    assert not (ours.weight.data == 9).any()


W = (3, 2, 3)
FUNCTIONS: dict[str, tuple[tuple[tuple[int, ...] | None, ...], dict[str, Any]]] = {
    "relu": (((3, 4),), {}),
    "sigmoid": (((3, 4),), {}),
    "tanh": (((3, 4),), {}),
    "softmax": (((3, 4),), {"dim": 0}),
    "log_softmax": (((3, 4),), {"dim": 1}),
    "linear": (((3, 4), (5, 4), (5,)), {}),
    "conv1d": (((2, 2, 7), W, (3,)), {"stride": 2, "padding": 1}),
    "conv2d": (((2, 2, 7, 7), (*W, 3), None), {"dilation": 2}),
    "conv3d": (((2, 4, 4, 4, 4), (4, 2, 2, 2, 2), (4,)), {"groups": 2}),
    "conv_transpose1d": (((2, 3, 5), W, (2,)), {"stride": 2, "output_padding": 1}),
    "conv_transpose2d": (((2, 3, 5, 5), (*W, 3), (2,)), {"padding": 1}),
    "conv_transpose3d": (((2, 2, 3, 3, 3), (2, 1, 2, 2, 2), None), {"groups": 2}),
    "max_pool1d": (((2, 3, 8),), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "max_pool2d": (((2, 3, 8, 8),), {"kernel_size": 2}),
    "max_pool3d": (((1, 2, 4, 4, 4),), {"kernel_size": 2, "dilation": 2, "stride": 1}),
    "avg_pool1d": (((2, 3, 8),), {"kernel_size": 3, "padding": 1, "count_include_pad": False}),
    "avg_pool2d": (((2, 3, 7, 7),), {"kernel_size": 2, "ceil_mode": True}),
    "avg_pool3d": (((1, 2, 4, 4, 4),), {"kernel_size": 2}),
    "adaptive_avg_pool1d": (((2, 3, 8),), {"output_size": 3}),
    "adaptive_avg_pool2d": (((2, 3, 8, 7),), {"output_size": (None, 2)}),
    "adaptive_avg_pool3d": (((1, 2, 4, 4, 4),), {"output_size": 1}),
    "mse_loss": (((3, 4), (3, 4)), {}),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_computes_what_pytorchs_does(torch: Any, name: str) -> None:
    shapes, options = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    arrays = [None if shape is None else rng.normal(size=shape) for shape in shapes]
    ours = [None if a is None else Tensor(a, requires_grad=True) for a in arrays]
    theirs = [None if a is None else torch.from_numpy(a).requires_grad_() for a in arrays]
    y = getattr(functional, name)(*ours, **options)
    expected = getattr(torch.nn.functional, name)(*theirs, **options)
    dy = rng.normal(size=y.shape)
    y.backward(dy)
    expected.backward(torch.from_numpy(np.asarray(dy)))
    assert_close(y.numpy(), expected.detach().numpy(), 100)
    for mine, other in zip(ours, theirs, strict=True):
        if mine is not None:
            assert_close(mine.grad, other.grad.numpy(), 1000)


def test_functions_that_are_compared_are_all_there_are() -> None:
    elsewhere = {"batch_norm", "cross_entropy", "dropout", "flatten"}  # through the modules above
    assert set(functional.__all__) == set(FUNCTIONS) | elsewhere


def test_models_of_both_train_alike(torch: Any) -> None:
    """Ten steps of Adam on one batch from the same weights, in float64: the losses stay together."""

    def network(package: Any) -> Any:
        layers = [
            package.Conv2d(1, 4, 3, padding=1),
            package.BatchNorm2d(4),
            package.ReLU(),
            package.MaxPool2d(2),
        ]
        return package.Sequential(*layers, package.Flatten(), package.Linear(16, 3))

    from backlit import optim

    with random.using(np.random.default_rng(0)):
        ours = network(nn).double()
    theirs = network(torch.nn).double()
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in ours.state_dict().items()})
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(8, 1, 4, 4)), rng.integers(0, 3, 8)
    optimizers = optim.Adam(ours.parameters(), lr=0.01), torch.optim.Adam(theirs.parameters(), lr=0.01)
    for _ in range(10):
        losses = (
            nn.CrossEntropyLoss()(ours(x), y),
            torch.nn.CrossEntropyLoss()(theirs(torch.from_numpy(x)), torch.from_numpy(y)),
        )
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert_close(losses[0].item(), losses[1].item(), 1000)
