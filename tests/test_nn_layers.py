"""The layers: settings and inputs that they refuse, what they compute by hand, and how their weights begin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

import backlit as bl
from backlit import nn
from backlit.nn import functional
from backlit.ops import random
from tolerance import assert_close

CLASSES = [name for name in nn.__all__ if name[0].isupper()]


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "dtype of integers": (lambda: nn.Linear(1, 1, dtype=np.int32), TypeError, "dtype is int32"),
    "dtype of no kind": (lambda: nn.BatchNorm1d(1, dtype="double!"), TypeError, "dtype is 'double!'"),
    "half precision": (lambda: nn.Conv2d(1, 1, 1, dtype="float16"), TypeError, "dtype is float16"),
    "indices": (
        lambda: nn.MaxPool2d(2, return_indices=True),
        ValueError,
        "return_indices is True.*not supported",
    ),
    "softmax without axis": (lambda: nn.Softmax()(zeros(2, 3)), TypeError, "dim is None.*pass dim=1"),
    "log softmax without axis": (lambda: nn.LogSoftmax()(zeros(2, 3)), TypeError, "dim is None.*pass dim=1"),
    "groups": (
        lambda: nn.Conv2d(4, 6, 3, groups=4),
        ValueError,
        "groups is 4, which does not divide out_channels=6",
    ),
    "kernel of no size": (lambda: nn.Conv2d(1, 1, 0), ValueError, "kernel_size is 0"),
    "stride of no size": (lambda: nn.Conv1d(1, 1, 1, stride=0), ValueError, "stride is 0"),
    "channels a float": (lambda: nn.Conv2d(1.0, 1, 3), TypeError, "in_channels is 1.0"),
    "groups a bool": (lambda: nn.Conv2d(1, 1, 3, groups=True), TypeError, "groups is True"),
    "two kernel sizes for three axes": (lambda: nn.Conv3d(1, 1, (3, 3)), ValueError, "kernel_size is"),
    "padding word": (lambda: nn.Conv2d(1, 1, 3, padding="full"), ValueError, "padding is 'full'"),
    "padding word transposed": (
        lambda: nn.ConvTranspose2d(1, 1, 3, padding="same"),
        ValueError,
        "a transposed convolution takes numbers only",
    ),
    "output padding": (
        lambda: nn.ConvTranspose2d(1, 1, 3, stride=2, output_padding=2),
        ValueError,
        r"output_padding is \(2, 2\)",
    ),
    "bias no bool": (lambda: nn.Conv2d(1, 1, 3, bias=3), TypeError, "bias is 3"),
    "channels": (
        lambda: nn.Conv2d(3, 8, 3)(zeros(2, 1, 8, 8)),
        ValueError,
        r"made with in_channels=3, and x of shape \(2, 1, 8, 8\) has 1 channels",
    ),
    "transposed channels": (
        lambda: nn.ConvTranspose1d(3, 8, 3)(zeros(2, 1, 8)),
        ValueError,
        "ConvTranspose1d was made with in_channels=3",
    ),
    "no batch": (
        lambda: nn.Conv2d(3, 8, 3)(zeros(3, 8, 8)),
        ValueError,
        r"an input \(N, 3, H, W\), and x has shape \(3, 8, 8\): add the batch axis, x\[None\]",
    ),
    "kernel beyond input": (
        lambda: nn.Conv2d(1, 1, 5)(zeros(1, 1, 3, 3)),
        ValueError,
        "spans 5 positions on an axis, and the padded input has 3",
    ),
    "float64 into float32": (lambda: nn.Conv2d(1, 1, 1)(np.zeros((1, 1, 1, 1))), TypeError, "float64"),
    "integers as input": (lambda: nn.Conv2d(1, 1, 1)(np.zeros((1, 1, 1, 1), int)), TypeError, "int64"),
    "pool of no size": (lambda: nn.MaxPool2d(0), ValueError, "kernel_size is 0"),
    "pool's axes": (
        lambda: nn.AvgPool2d(2)(zeros(1, 1, 4)),
        ValueError,
        r"AvgPool2d needs an input \(N, C, H, W\)",
    ),
    "pool's rounding": (lambda: nn.MaxPool2d(2, ceil_mode=1), TypeError, "ceil_mode is 1"),
    "divisor": (lambda: nn.AvgPool2d(2, divisor_override=0), ValueError, "divisor_override is 0"),
    "adaptive sizes": (lambda: nn.AdaptiveAvgPool2d((2, 2, 2)), ValueError, "output_size is"),
    "features": (
        lambda: nn.Linear(4, 2)(zeros(3, 5)),
        ValueError,
        r"in_features=4, and x of shape \(3, 5\) has 5 features",
    ),
    "unflattened": (lambda: nn.Linear(4, 2)(zeros(3, 1, 2, 2)), ValueError, r"put nn.Flatten\(\) in between"),
    "no features": (lambda: nn.Linear(0, 2), ValueError, "in_features is 0"),
    "probability": (lambda: nn.Dropout(1.5), ValueError, "p is 1.5"),
    "probability nan": (lambda: nn.Dropout(math.nan), ValueError, "p is nan"),
    "norm's features": (
        lambda: nn.BatchNorm2d(3)(zeros(2, 4, 5, 5)),
        ValueError,
        "made with num_features=3, and x of shape",
    ),
    "norm's axes": (lambda: nn.BatchNorm1d(3)(zeros(2, 3, 5, 5)), ValueError, "BatchNorm1d needs an input"),
    "norm of one value": (lambda: nn.BatchNorm1d(3)(zeros(1, 3)), ValueError, "one value|1 value"),
    "norm's momentum": (lambda: nn.BatchNorm1d(3, momentum=2), ValueError, "momentum is 2"),
    "norm's eps": (lambda: nn.BatchNorm1d(3, eps=-1), ValueError, "eps is -1"),
    "softmax's axis": (lambda: nn.Softmax(2)(zeros(1, 2)), ValueError, "dim is 2"),
    "flatten's axes": (lambda: nn.Flatten(2, 1)(zeros(1, 2, 3)), ValueError, "start_dim has to come first"),
    "reduction": (lambda: nn.MSELoss(reduction="average"), ValueError, "reduction is 'average'"),
    "smoothing": (lambda: nn.CrossEntropyLoss(label_smoothing=2), ValueError, "label_smoothing is 2"),
    "label beyond classes": (
        lambda: nn.CrossEntropyLoss()(zeros(2, 3), np.array([0, 3])),
        ValueError,
        "labels",
    ),
    "labels of floats": (lambda: nn.CrossEntropyLoss()(zeros(2, 3), zeros(2)), TypeError, "labels"),
    "functional's axes": (
        lambda: nn.functional.conv2d(zeros(1, 1, 3), zeros(1, 1, 1, 1)),
        ValueError,
        "x of conv2d",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_layer_refuses_with_a_sentence(case: str) -> None:
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call()


def test_norm_that_refuses_a_batch_does_not_count_it() -> None:
    norm = nn.BatchNorm1d(2)
    with pytest.raises(ValueError, match="value"):
        norm(zeros(1, 2))
    assert norm.num_batches_tracked == 0
    assert norm.running_mean.tolist() == [0, 0]


# --- by hand


def test_conv_module_is_the_pair() -> None:
    layer = nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=((0, 1), (2, -1)), dilation=(1, 2), groups=2)
    x = np.random.default_rng(0).normal(size=(2, 2, 7, 6)).astype(np.float32)
    y, _ = bl.conv_forward(
        x,
        layer.weight.data,
        layer.bias.data,
        stride=(2, 1),
        padding=((0, 1), (2, -1)),
        dilation=(1, 2),
        groups=2,
    )
    np.testing.assert_array_equal(layer(x).numpy(), y)


def test_conv_same_padding_keeps_the_size_divided_by_the_stride() -> None:
    assert nn.Conv1d(1, 1, 4, padding="same")(zeros(1, 1, 9)).shape == (1, 1, 9)
    assert nn.Conv1d(1, 1, 4, stride=2, padding="same")(zeros(1, 1, 9)).shape == (1, 1, 5)
    assert nn.Conv1d(1, 1, 4, padding="valid")(zeros(1, 1, 9)).shape == (1, 1, 6)


def test_conv_of_an_empty_batch_is_empty() -> None:
    assert nn.Conv2d(1, 2, 3)(zeros(0, 1, 5, 5)).shape == (0, 2, 3, 3)


def test_norm_momentum_none_takes_the_plain_mean_of_all_batches() -> None:
    norm = nn.BatchNorm1d(1, momentum=None)
    for mean in (1.0, 3.0, 8.0):
        norm(np.array([[mean - 1], [mean + 1]], np.float32))
    assert norm.running_mean.tolist() == [4.0]
    assert norm.running_var.tolist() == [2.0]  # each batch: ((-1)**2 + 1**2) / (2 - 1)
    assert norm.num_batches_tracked == 3


def test_norm_in_evaluation_uses_and_keeps_the_running_statistics() -> None:
    norm = nn.BatchNorm1d(1, eps=0).eval()
    norm.running_mean[...] = 2
    norm.running_var[...] = 4
    assert norm(np.array([[6.0]], np.float32)).item() == 2
    assert norm.num_batches_tracked == 0


def test_norm_without_running_statistics_uses_the_batch_in_evaluation_too() -> None:
    norm = nn.BatchNorm1d(1, eps=0, track_running_stats=False).eval()
    assert norm(np.array([[1.0], [3.0]], np.float32)).numpy().tolist() == [[-1], [1]]
    assert list(norm.state_dict()) == ["weight", "bias"]


def test_norm_without_affine_has_no_parameters() -> None:
    assert list(nn.BatchNorm2d(2, affine=False).parameters()) == []


def test_norm_without_bias_has_a_weight() -> None:
    norm = nn.BatchNorm1d(1, eps=0, bias=False)
    norm.weight.data[...] = 3
    assert norm(np.array([[1.0], [3.0]], np.float32)).numpy().tolist() == [[-3], [3]]
    assert [name for name, _ in norm.named_parameters()] == ["weight"]
    assert repr(norm).endswith("track_running_stats=True, bias=False)")


def test_dropout_drops_while_training_only() -> None:
    x, layer = np.ones(10_000), nn.Dropout(0.25)
    with random.using(np.random.default_rng(0)):
        y = layer(x).numpy()
    assert set(np.unique(y)) == {0, 1 / 0.75}
    assert abs((y == 0).mean() - 0.25) < 0.02
    np.testing.assert_array_equal(layer.eval()(x).numpy(), x)


def test_losses_take_tensors_arrays_and_lists_of_labels() -> None:
    logits, labels = np.zeros((2, 4)), np.array([1, 3])
    for given in (labels, labels.astype(np.uint8), [1, 3]):
        assert_close(nn.CrossEntropyLoss()(logits, given).item(), math.log(4), 4)
    target = bl.Tensor(np.full((2, 4), 2.0))
    assert nn.MSELoss()(logits, target).item() == 4


def test_loss_weight_is_part_of_the_state() -> None:
    assert list(nn.CrossEntropyLoss(np.ones(3, np.float32)).state_dict()) == ["weight"]


def test_flatten_joins_inner_axes() -> None:
    assert nn.Flatten(1, 2)(zeros(2, 3, 4, 5)).shape == (2, 12, 5)
    assert nn.functional.flatten(zeros(2, 3)).shape == (6,)
    assert nn.functional.flatten(np.float32(1)).shape == (1,)


def test_functional_names_are_those_it_exports() -> None:
    for name in nn.functional.__all__:
        assert getattr(nn.functional, name).__name__ == name


@pytest.mark.parametrize("name", CLASSES)
def test_layer_has_a_docstring_of_its_own(name: str) -> None:
    assert vars(getattr(nn, name))["__doc__"]


# --- how weights begin

FRESH = {
    "conv": (lambda: nn.Conv2d(16, 64, 5, groups=2), 8 * 25),
    "conv transposed": (lambda: nn.ConvTranspose2d(64, 16, 5, groups=2), 8 * 25),
    "linear": (lambda: nn.Linear(200, 100), 200),
    "conv 1d": (lambda: nn.Conv1d(20, 300, 3), 60),
    "conv 3d": (lambda: nn.Conv3d(5, 200, 3), 135),
}


@pytest.mark.parametrize("case", FRESH)
def test_weights_begin_uniform_within_one_over_the_root_of_fan_in(case: str) -> None:
    make, fan_in = FRESH[case]
    bound = 1 / math.sqrt(fan_in)
    with random.using(np.random.default_rng(0)):
        layer = make()
    for values in (layer.weight.data, layer.bias.data):
        assert values.dtype == np.float32
        assert np.abs(values).max() <= bound * (1 + 1e-6)
        assert stats.kstest(values.reshape(-1), stats.uniform(-bound, 2 * bound).cdf).pvalue > 0.001


def test_weights_are_those_of_the_seed() -> None:
    def weights(seed: int) -> Any:
        bl.manual_seed(seed)
        return nn.Linear(3, 3).weight.data

    np.testing.assert_array_equal(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))


def test_norms_begin_as_the_identity() -> None:
    state = nn.BatchNorm2d(3).state_dict()
    assert [state[name].tolist() for name in ("weight", "bias")] == [[1, 1, 1], [0, 0, 0]]
    assert [state[name].tolist() for name in ("running_mean", "running_var")] == [[0, 0, 0], [1, 1, 1]]
    assert state["num_batches_tracked"].shape == ()
    assert state["num_batches_tracked"].dtype == np.int64


@pytest.mark.parametrize(
    "make",
    [
        lambda **o: nn.Conv1d(1, 2, 1, **o),
        lambda **o: nn.Conv2d(1, 2, 1, **o),
        lambda **o: nn.Conv3d(1, 2, 1, **o),
        lambda **o: nn.ConvTranspose1d(1, 2, 1, **o),
        lambda **o: nn.ConvTranspose2d(1, 2, 1, **o),
        lambda **o: nn.ConvTranspose3d(1, 2, 1, **o),
        lambda **o: nn.Linear(1, 2, **o),
        lambda **o: nn.BatchNorm1d(2, **o),
        lambda **o: nn.BatchNorm2d(2, **o),
        lambda **o: nn.BatchNorm3d(2, **o),
    ],
)
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(None, "float32"), (np.float32, "float32"), (np.float64, "float64"), ("float64", "float64")],
)
def test_module_is_made_in_the_precision_that_dtype_says(make: Any, dtype: Any, expected: str) -> None:
    floating = [array for array in make(dtype=dtype).state_dict().values() if array.dtype.kind == "f"]
    assert {array.dtype.name for array in floating} == {expected}


def test_max_pool_takes_ceil_mode_after_return_indices() -> None:
    assert nn.MaxPool1d(2, 2, 0, 1, False, True)(zeros(1, 1, 5)).shape == (1, 1, 3)


@pytest.mark.parametrize("name", functional.__all__)
def test_function_says_what_it_takes_returns_and_raises(name: str) -> None:
    text = getattr(functional, name).__doc__
    assert all(f"{part}:\n" in text for part in ("Args", "Returns", "Raises", "Example")), text
