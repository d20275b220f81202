"""Cross-entropy and the mean squared error: by hand, by their properties, against PyTorch; and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlit.ops import (
    cross_entropy_backward,
    cross_entropy_forward,
    log_softmax_forward,
    mse_backward,
    mse_forward,
    softmax_forward,
)
from tolerance import assert_close

floats = pytest.mark.parametrize("dtype", ["float32", "float64"])
LOGITS = np.log([[1.0, 2.0, 5.0], [4.0, 3.0, 1.0]])  # probabilities in eighths
LABELS = np.array([2, 1])


def test_cross_entropy_by_hand() -> None:
    loss, cache = cross_entropy_forward(LOGITS, LABELS)
    assert_close(loss, (math.log(8 / 5) + math.log(8 / 3)) / 2, terms=8)
    expected = np.array([[1, 2, 5 - 8], [4, 3 - 8, 1]]) / 16
    assert_close(cross_entropy_backward(1.0, cache), expected, terms=8)


def test_cross_entropy_reductions_by_hand() -> None:
    each = np.log([8 / 5, 8 / 3])
    assert_close(cross_entropy_forward(LOGITS, LABELS, reduction="none")[0], each, terms=8)
    assert_close(cross_entropy_forward(LOGITS, LABELS, reduction="sum")[0], each.sum(), terms=8)


def test_cross_entropy_weights_by_hand() -> None:
    loss, cache = cross_entropy_forward(LOGITS, LABELS, weight=np.array([7.0, 3.0, 1.0]))
    assert_close(loss, (1 * math.log(8 / 5) + 3 * math.log(8 / 3)) / 4, terms=8)
    expected = np.array([[1, 2, 5 - 8], [3 * 4, 3 * (3 - 8), 3 * 1]]) / 8 / 4
    assert_close(cross_entropy_backward(1.0, cache), expected, terms=8)


def test_cross_entropy_smoothing_by_hand() -> None:
    loss, cache = cross_entropy_forward(LOGITS[:1], LABELS[:1], label_smoothing=0.3)
    target = np.array([0.1, 0.1, 0.8])
    assert_close(loss, -np.sum(target * np.log([1 / 8, 2 / 8, 5 / 8])), terms=8)
    assert_close(cross_entropy_backward(1.0, cache), [np.array([1 / 8, 2 / 8, 5 / 8]) - target], terms=8)


def test_cross_entropy_leaves_ignored_labels_out_by_hand() -> None:
    logits = np.vstack([LOGITS, np.full((1, 3), np.nan)])
    loss, cache = cross_entropy_forward(logits, [2, 1, -100], weight=np.array([7.0, 3.0, 1.0]))
    assert_close(loss, (1 * math.log(8 / 5) + 3 * math.log(8 / 3)) / 4, terms=8)
    expected = np.array([[1, 2, 5 - 8], [3 * 4, 3 * (3 - 8), 3 * 1], [0, 0, 0]]) / 8 / 4
    assert_close(cross_entropy_backward(1.0, cache), expected, terms=8)


def test_cross_entropy_of_ignored_labels_alone_has_a_sum_and_no_mean() -> None:
    loss, cache = cross_entropy_forward(LOGITS, [2, 2], ignore_index=2, reduction="sum")
    assert loss == 0
    np.testing.assert_array_equal(cross_entropy_backward(1.0, cache), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"labels are all 2, the ignore_index, and the mean of no losses"):
        cross_entropy_forward(LOGITS, [2, 2], ignore_index=2)


def test_cross_entropy_with_every_option_equals_its_definition(rng: np.random.Generator) -> None:
    logits, weight = rng.standard_normal((3, 4, 2, 5)), rng.uniform(0.5, 2, 4)
    labels = rng.integers(0, 4, (3, 2, 5))
    loss, _ = cross_entropy_forward(logits, labels, weight=weight, label_smoothing=0.2)
    log_p, _ = log_softmax_forward(logits, axis=1)
    total = 0.0
    for n, i, j in np.ndindex(labels.shape):
        for k in range(4):
            t = weight[k] * (0.8 * (k == labels[n, i, j]) + 0.2 / 4)
            total -= t * log_p[n, k, i, j]
    assert_close(loss, total / weight[labels].sum(), terms=120)


def test_cross_entropy_of_pixels_equals_that_of_a_longer_batch(rng: np.random.Generator) -> None:
    logits, labels = rng.standard_normal((3, 4, 2, 5)), rng.integers(0, 4, (3, 2, 5))
    loss, cache = cross_entropy_forward(logits, labels)
    flat, flat_cache = cross_entropy_forward(np.moveaxis(logits, 1, -1).reshape(-1, 4), labels.ravel())
    assert_close(loss, flat, terms=30)
    dflat = cross_entropy_backward(2.0, flat_cache).reshape(3, 2, 5, 4)
    assert_close(cross_entropy_backward(2.0, cache), np.moveaxis(dflat, -1, 1), terms=4)


@given(shift=st.floats(-1e6, 1e6), label=st.integers(0, 2), smoothing=st.sampled_from([0.0, 0.3]))
def test_cross_entropy_does_not_see_a_shift(shift: float, label: int, smoothing: float) -> None:
    first, _ = cross_entropy_forward(LOGITS[:1], [label], label_smoothing=smoothing)
    second, _ = cross_entropy_forward(LOGITS[:1] + shift, [label], label_smoothing=smoothing)
    assert_close(second, first, terms=8, scale=1e6)  # the logits' own rounding


@pytest.mark.parametrize("options", [{}, {"weight": np.array([0.5, 2.0, 1.0])}, {"label_smoothing": 0.3}])
def test_cross_entropy_gradient_sums_to_zero_over_the_classes(options: Any, rng: np.random.Generator) -> None:
    _, cache = cross_entropy_forward(rng.standard_normal((20, 3)), rng.integers(0, 3, 20), **options)
    assert_close(cross_entropy_backward(1.0, cache).sum(axis=1), np.zeros(20), terms=4, scale=0.1)


def test_cross_entropy_gradient_is_probability_minus_one_hot(rng: np.random.Generator) -> None:
    logits, labels = rng.standard_normal((6, 5)), rng.integers(0, 5, 6)
    _, cache = cross_entropy_forward(logits, labels, reduction="sum")
    expected = softmax_forward(logits)[0] - np.eye(5)[labels]
    assert_close(cross_entropy_backward(1.0, cache), expected, terms=6)


@floats
def test_cross_entropy_of_the_largest_logits_is_finite_and_right(dtype: str) -> None:
    most = np.finfo(dtype).max / 4
    logits = np.array([[most, 0.0], [-most, -most]], dtype)
    loss, cache = cross_entropy_forward(logits, [0, 1], reduction="none")
    assert_close(loss, np.array([0, math.log(2)], dtype), terms=2)
    expected = np.array([[0, 0], [0.5, -0.5]], dtype)
    assert_close(cross_entropy_backward(np.ones(2, dtype), cache), expected, terms=2)


def test_cross_entropy_resolves_a_confident_answer_in_float32() -> None:
    logits = np.array([[20.0, 0.0, 0.0]], np.float32)
    loss, cache = cross_entropy_forward(logits, [0])
    rest = 2 * math.exp(-20)
    assert_close(loss, np.float32(math.log1p(rest)), terms=2)
    dlogits = cross_entropy_backward(1.0, cache)
    assert_close(dlogits[0, 0], np.float32(-rest / (1 + rest)), terms=2)
    assert_close(dlogits[0, 1:], np.full(2, rest / 2 / (1 + rest), np.float32), terms=2)


def test_cross_entropy_of_a_class_masked_out_is_infinite_and_its_gradient_is_not() -> None:
    logits = np.array([[0.0, -np.inf]])
    loss, cache = cross_entropy_forward(logits, [1])
    assert loss == np.inf
    assert cross_entropy_backward(1.0, cache).tolist() == [[1.0, -1.0]]
    assert cross_entropy_forward(logits, [0])[0] == 0


def test_cross_entropy_keeps_nan_to_its_sample() -> None:
    logits = np.array([[0.0, np.nan], [0.0, 0.0]])
    loss, cache = cross_entropy_forward(logits, [0, 0], reduction="none")
    dlogits = cross_entropy_backward(np.ones(2), cache)
    assert np.isnan(loss).tolist() == [True, False]
    assert np.isnan(dlogits).tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int32, np.uint64, np.int64, ">i4"])
def test_cross_entropy_takes_labels_of_any_integers(kind: Any) -> None:
    labels = np.array([2, 1], kind)
    assert cross_entropy_forward(LOGITS, labels)[0] == cross_entropy_forward(LOGITS, [2, 1])[0]


def test_cross_entropy_remembers_the_labels_it_was_given() -> None:
    labels = np.array([2, 1])
    _, cache = cross_entropy_forward(LOGITS, labels)
    expected = cross_entropy_backward(1.0, cache)
    labels[:] = 0
    np.testing.assert_array_equal(cross_entropy_backward(1.0, cache), expected)


@pytest.mark.parametrize("dloss", [2, 2.0, np.float64(2), np.array(2.0)])
def test_a_loss_takes_a_number_upstream(dloss: Any) -> None:
    _, cache = cross_entropy_forward(LOGITS, LABELS)
    assert_close(cross_entropy_backward(dloss, cache), 2 * cross_entropy_backward(1.0, cache), terms=1)
    _, cache2 = mse_forward([1.0, 4.0], [0.0, 0.0])
    assert mse_backward(dloss, cache2)[0].tolist() == [2.0, 8.0]


@pytest.mark.parametrize("dloss", [True, None, "1"])
def test_a_loss_refuses_what_is_no_number_upstream(dloss: Any) -> None:
    with pytest.raises(TypeError, match="dloss"):
        cross_entropy_backward(dloss, cross_entropy_forward(LOGITS, LABELS)[1])


def test_a_loss_of_each_sample_refuses_one_number_upstream() -> None:
    with pytest.raises(ValueError, match=r"dloss has shape \(\), and an upstream gradient has the shape"):
        cross_entropy_backward(1.0, cross_entropy_forward(LOGITS, LABELS, reduction="none")[1])


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_a_loss_of_an_empty_batch_is_empty_or_zero(reduction: str) -> None:
    loss, cache = cross_entropy_forward(np.zeros((0, 3)), np.zeros(0, int), reduction=reduction)
    assert loss.sum() == 0
    assert cross_entropy_backward(loss, cache).shape == (0, 3)
    loss, cache2 = mse_forward(np.zeros((0, 3)), np.zeros((0, 3)), reduction=reduction)
    assert loss.sum() == 0
    assert mse_backward(loss, cache2)[0].shape == (0, 3)


def test_cross_entropy_of_a_single_class_is_zero() -> None:
    loss, cache = cross_entropy_forward(np.array([[3.0], [-1.0]]), [0, 0])
    assert loss == 0
    assert cross_entropy_backward(1.0, cache).tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize(
    ("logits", "labels", "options", "message"),
    [
        (np.ones(3), [0], {}, r"logits has shape \(3,\), and \(N, K\) or \(N, K, \*spatial\) is needed"),
        (
            np.ones((2, 0)),
            [0, 0],
            {},
            r"logits has shape \(2, 0\), and of \(N, K, \*spatial\) only N may be 0",
        ),
        (
            np.ones((2, 3, 0)),
            np.zeros((2, 0), int),
            {},
            r"logits has shape \(2, 3, 0\), and of .* only N may be 0",
        ),
        (
            np.ones((2, 3)),
            [0],
            {},
            r"labels has shape \(1,\), and logits of shape \(2, 3\) need labels of shape \(2",
        ),
        (
            np.ones((2, 3)),
            np.eye(3, dtype=int)[:2],
            {},
            r"need labels of shape \(2,\): pass labels.argmax\(axis=1\)",
        ),
        (np.ones((2, 3, 4)), [0, 0], {}, r"need labels of shape \(2, 4\): pass one class index for each"),
        (
            np.ones((2, 3)),
            [2, 3],
            {},
            r"labels\[1\] is 3, and logits of shape \(2, 3\) have the classes 0 to 2",
        ),
        (
            np.ones((2, 3)),
            [-1, 5],
            {},
            r"labels\[0\] is -1, and logits of shape \(2, 3\) have the classes 0 to 2",
        ),
        (np.ones((2, 3)), np.array([0, 2**63], np.uint64), {}, r"labels\[1\] is 9223372036854775808, and"),
        (np.ones((1, 3, 2)), [[0, 3]], {}, r"labels\[0, 1\] is 3, and logits"),
        (
            np.ones((0, 3)),
            np.zeros(0, int),
            {},
            r"logits has shape \(0, 3\), and the mean of no losses does not exist",
        ),
        (
            LOGITS,
            LABELS,
            {"label_smoothing": 1.5},
            r"label_smoothing is 1.5, and a number from 0 to 1",
        ),
        (LOGITS, LABELS, {"label_smoothing": -0.1}, r"label_smoothing is -0.1, and a number from 0"),
        (LOGITS, LABELS, {"label_smoothing": np.nan}, r"label_smoothing is nan, and a number from 0"),
        (
            LOGITS,
            LABELS,
            {"reduction": "average"},
            r"reduction is 'average', and \"mean\" or \"sum\" or \"none\" is",
        ),
        (
            LOGITS,
            LABELS,
            {"weight": np.ones(2)},
            r"weight has shape \(2,\), and logits of shape \(2, 3\) need one per",
        ),
        (
            LOGITS,
            LABELS,
            {"weight": np.array([1.0, -1, 1])},
            r"weight\[1\] is -1, and class weights are finite and at",
        ),
        (
            LOGITS,
            LABELS,
            {"weight": np.array([1.0, 1, np.inf])},
            r"weight\[2\] is inf, and class weights are finite",
        ),
        (
            LOGITS,
            LABELS,
            {"weight": np.array([np.nan, 1, 1])},
            r"weight\[0\] is nan, and class weights are finite",
        ),
        (LOGITS, LABELS, {"weight": np.array([1.0, 0, 0])}, r"weight is 0 for every label that occurs"),
    ],
)
def test_cross_entropy_says_what_does_not_fit(logits: Any, labels: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cross_entropy_forward(logits, labels, **options)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (
            [0.0, 1.0],
            {},
            r"labels is a list of float64, and an integer array is needed: pass np.asarray\(labels, np.int64\)",
        ),
        ([True, False], {}, r"labels is a list of bool, and an integer array is needed"),
        (np.ma.masked_array([0, 1], [False, True]), {}, r"labels is a masked array"),
        (None, {}, r"labels is None"),
        (LABELS, {"label_smoothing": True}, r"label_smoothing is True, and a number from 0"),
        (LABELS, {"reduction": None}, r"reduction is None, and \"mean\" or \"sum\" or \"none\" is needed"),
        (
            LABELS,
            {"weight": np.ones(3, np.float32)},
            r"weight has dtype float32 where the other arguments",
        ),
    ],
)
def test_cross_entropy_says_what_is_of_the_wrong_kind(labels: Any, options: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        cross_entropy_forward(LOGITS, labels, **options)


def test_mse_by_hand() -> None:
    prediction, target = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.0, 2.0], [5.0, 1.0]])
    loss, cache = mse_forward(prediction, target)
    dprediction, dtarget = mse_backward(6.0, cache)
    assert loss == (1 + 0 + 4 + 9) / 4
    assert dprediction.tolist() == [[3.0, 0.0], [-6.0, 9.0]]
    assert dtarget.tolist() == [[-3.0, 0.0], [6.0, -9.0]]


def test_mse_of_each_element_by_hand() -> None:
    loss, cache = mse_forward([1.0, 4.0], [0.0, 1.0], reduction="none")
    assert loss.tolist() == [1.0, 9.0]
    assert mse_backward([1.0, 10.0], cache)[0].tolist() == [2.0, 60.0]


def test_mse_of_squares_beyond_float32_has_a_mean_within() -> None:
    prediction = np.zeros(100, np.float32)
    prediction[0] = 3e19
    assert_close(mse_forward(prediction, np.zeros_like(prediction))[0], np.float32(9e36), terms=2)


@pytest.mark.parametrize("shape", [(1, 3), (3,), (2, 1), ()])
def test_mse_refuses_to_broadcast(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"prediction has shape \(2, 3\) and target has shape .*, and mse takes equal"
    ):
        mse_forward(np.zeros((2, 3)), np.zeros(shape))


def test_mse_refuses_the_mean_of_nothing() -> None:
    with pytest.raises(
        ValueError, match=r"prediction has shape \(0, 3\), and the mean of no losses does not exist"
    ):
        mse_forward(np.zeros((0, 3)), np.zeros((0, 3)))


def test_mse_refuses_an_unknown_reduction() -> None:
    with pytest.raises(
        ValueError, match=r"reduction is 'max', and \"mean\" or \"sum\" or \"none\" is needed"
    ):
        mse_forward([1.0], [1.0], reduction="max")


@pytest.mark.torch
@floats
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("ignore_index", [-100, 3])
@pytest.mark.parametrize("spatial", [(), (4, 5)])
def test_cross_entropy_equals_pytorch(
    spatial: tuple[int, ...],
    ignore_index: int,
    smoothing: float,
    weighted: bool,
    reduction: str,
    dtype: str,
    rng: np.random.Generator,
    torch: Any,
) -> None:
    logits = (3 * rng.standard_normal((16, 10, *spatial))).astype(dtype)
    labels = rng.integers(0, 10, (16, *spatial))
    labels.reshape(-1)[::5] = ignore_index
    weight = rng.uniform(0.1, 3, 10).astype(dtype) if weighted else None
    loss, cache = cross_entropy_forward(
        logits,
        labels,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=smoothing,
        reduction=reduction,
    )
    dloss = np.asarray(rng.standard_normal(loss.shape), dtype)
    tensor = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        tensor,
        torch.tensor(labels),
        weight=None if weight is None else torch.tensor(weight),
        ignore_index=ignore_index,
        label_smoothing=smoothing,
        reduction=reduction,
    )
    expected.backward(torch.tensor(dloss))
    terms = max(10, labels.size if reduction != "none" else 0)
    assert_close(loss, expected.detach().numpy(), terms=terms)
    assert_close(cross_entropy_backward(dloss, cache), tensor.grad.numpy(), terms=10)


@pytest.mark.torch
@floats
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(16, 10), ()])
def test_mse_equals_pytorch(
    shape: tuple[int, ...], reduction: str, dtype: str, rng: np.random.Generator, torch: Any
) -> None:
    arrays = [np.asarray(rng.standard_normal(shape), dtype) for _ in range(2)]
    loss, cache = mse_forward(*arrays, reduction=reduction)
    dloss = np.asarray(rng.standard_normal(loss.shape), dtype)
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    expected = torch.nn.functional.mse_loss(*tensors, reduction=reduction)
    expected.backward(torch.tensor(dloss))
    assert_close(loss, expected.detach().numpy(), terms=160)
    for ours, tensor in zip(mse_backward(dloss, cache), tensors, strict=True):
        assert_close(ours, tensor.grad.numpy(), terms=3)
