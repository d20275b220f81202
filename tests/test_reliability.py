"""Every class of input that has crashed, hung or silently corrupted a well-known system, and the tests that hold it.

`CLASSES` names them; what no other file tests is tested below.
"""

from __future__ import annotations

import ast
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import backlit as bl
from configurations import integers
from ways import ISAS, each_isa, forced

CLASSES = {
    "zero, negative, empty, bool or float settings": [
        "test_reliability::test_setting_that_is_no_size_is_refused_by_name",
        "test_fuzz::test_fuzz_of_a_fixed_sample_finds_nothing",
        "test_conv::test_bad_argument_is_refused_by_name",
        "test_pool::test_bad_pool_argument_is_refused_by_name",
    ],
    "a kernel larger than the padded input": [
        "test_reliability::test_kernel_beyond_the_padded_input_is_refused_with_both_numbers",
    ],
    "an empty batch": [
        "test_conv::test_empty_batch_gives_an_empty_result_and_zero_weight_gradients",
        "test_pool::test_pool_of_an_empty_batch_is_empty",
        "test_native_matrix::test_native_class_equals_the_definition_exactly",
    ],
    "empty channels or positions": [
        "test_reliability::test_axis_without_elements_is_refused",
    ],
    "sizes that wrap 64 bits": [
        "test_reliability::test_size_beyond_64_bits_is_refused_before_anything_is_allocated",
        "test_pool::test_adaptive_avg_pool_of_an_impossible_size_is_refused",
    ],
    "arrays beyond 2**31 elements": [
        "test_reliability::test_array_beyond_two_to_the_31_elements_is_read_to_its_end",
        "test_reliability::test_result_beyond_all_memory_is_a_memory_error_and_the_next_call_works",
        "test_engines::test_padding_beyond_all_memory_between_far_strides_is_served",
    ],
    "channels that fill no vector, one channel, strided 1x1, large kernels, every remainder": [
        "test_native_matrix::test_native_class_equals_the_definition_exactly",
        "test_native_matrix::test_native_pairs_of_many_channels_equal_the_definition_exactly",
    ],
    "arrays of every make": [
        "test_conv::test_arrays_of_every_make_give_the_same_values",
        "test_conv::test_foreign_array_is_taken_through_dlpack",
        "test_conv::test_foreign_array_whose_export_fails_is_refused_by_name",
        "test_conv::test_torch_tensor_is_taken_and_one_that_requires_grad_is_refused",
        "test_conv::test_broadcast_input_counts_every_element_of_its_own",
        "test_conv::test_inputs_are_never_modified",
        "test_reliability::test_pair_takes_arrays_of_every_make_on_every_instruction_set",
        "test_reliability::test_array_of_another_kind_is_refused_by_name",
    ],
    "NaN and infinities": [
        "test_native_matrix::test_native_direct_keeps_infinities_and_nan_to_what_reads_them",
        "test_native_winograd::test_winograd_lets_nan_reach_every_output_that_reads_it",
        "test_conv::test_nan_reaches_every_output_that_reads_it",
    ],
    "pool windows of NaN, of minus infinity, of ties, in the padding": [
        "test_native_pools::test_native_max_pool_of_a_class_equals_the_definition_exactly",
        "test_pool::test_max_pool_sends_ties_to_the_first_in_row_major_order",
        "test_pool::test_max_pool_lets_the_first_nan_win",
        "test_pool::test_max_pool_of_minus_infinity_sends_the_gradient_to_the_first",
        "test_pool::test_window_wholly_in_the_padding_gives_minus_infinity_and_no_gradient",
    ],
    "upstream gradients of another shape or precision": [
        "test_conv::test_upstream_gradient_of_another_make_is_refused",
        "test_pool::test_pool_upstream_of_another_make_is_refused",
        "test_ops_conventions::test_an_upstream_gradient_of_another_shape_is_an_error",
    ],
    "a cache used twice, an output overwritten before, a cache of another operation": [
        "test_conv::test_cache_serves_twice_and_output_may_be_overwritten",
        "test_conv::test_cache_of_another_operation_is_refused",
        "test_pool::test_pool_cache_serves_twice_and_output_may_be_overwritten",
        "test_ops_conventions::test_an_output_may_be_overwritten_before_the_backward",
    ],
    "labels out of range, empty batches in a loss": [
        "test_ops_losses::test_cross_entropy_says_what_does_not_fit",
        "test_ops_losses::test_a_loss_of_an_empty_batch_is_empty_or_zero",
    ],
    "batch normalisation of one value, zero variance": [
        "test_ops_norms::test_batch_norm_says_what_does_not_fit",
        "test_ops_norms::test_batch_norm_of_zero_variance_is_beta",
    ],
    "denormals": [
        "test_reliability::test_denormals_are_zero_in_every_thread_of_a_kernel_and_not_in_its_caller",
    ],
}  # fmt: skip


def _tests(file: str) -> set[str]:
    tree = ast.parse((Path(__file__).parent / f"{file}.py").read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", CLASSES)
def test_reliability_class_has_its_tests(name: str) -> None:
    assert [test for test in CLASSES[name] if test.split("::")[1] not in _tests(test.split("::")[0])] == []


X, W = np.ones((1, 2, 5, 5)), np.ones((2, 2, 3, 3))
PAIRS: dict[str, Any] = {
    "conv": lambda **keywords: bl.conv_forward(X, W, **keywords),
    "conv_transpose": lambda **keywords: bl.conv_transpose_forward(X, W, **keywords),
    "max_pool": lambda **keywords: bl.max_pool_forward(X, **{"kernel_size": 2} | keywords),
    "avg_pool": lambda **keywords: bl.avg_pool_forward(X, **{"kernel_size": 2} | keywords),
}
SETTINGS = {
    "conv": ("stride", "dilation", "groups"),
    "conv_transpose": ("stride", "dilation", "groups"),
    "max_pool": ("kernel_size", "stride", "dilation"),
    "avg_pool": ("kernel_size", "stride", "divisor_override"),
}


@pytest.mark.parametrize(
    "value", [0, -1, -(2**62), (), (1, 2, 3), True, 1.0, float("nan"), "1", (2, 0), (True, 1)]
)
@pytest.mark.parametrize(("pair", "setting"), [(p, s) for p in SETTINGS for s in SETTINGS[p]])
def test_setting_that_is_no_size_is_refused_by_name(pair: str, setting: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=setting):
        PAIRS[pair](**{setting: value})


def test_kernel_beyond_the_padded_input_is_refused_with_both_numbers() -> None:
    for pair in ("conv", "max_pool", "avg_pool"):
        settings = {"padding": -2} if pair == "conv" else {"kernel_size": 6}
        with pytest.raises(ValueError, match=r"spans 3 .* has 1 |spans 6 .* has 5 "):
            PAIRS[pair](**settings)


@pytest.mark.parametrize("shape", [(1, 0, 5, 5), (1, 2, 0, 5), (0, 0, 5, 5)])
def test_axis_without_elements_is_refused(shape: tuple[int, ...]) -> None:
    x = np.ones(shape)
    for call in (
        lambda: bl.conv_forward(x, np.ones((2, shape[1], 3, 3))),
        lambda: bl.conv_transpose_forward(x, np.ones((shape[1], 2, 3, 3))),
        lambda: bl.max_pool_forward(x, 2),
        lambda: bl.avg_pool_forward(x, 2),
        lambda: bl.global_avg_pool_forward(x),
    ):
        with pytest.raises(ValueError, match="x has shape"):
            call()


@pytest.mark.parametrize("size", [2**62, 2**63 - 1, 2**63, 2**64, 10**100])
@pytest.mark.parametrize(
    ("pair", "setting"),
    [("conv", "padding"), ("conv", "dilation"), ("conv_transpose", "stride"), ("conv_transpose", "dilation"),
     ("max_pool", "padding"), ("max_pool", "dilation"), ("max_pool", "kernel_size"), ("avg_pool", "padding")],
)  # fmt: skip
def test_size_beyond_64_bits_is_refused_before_anything_is_allocated(
    pair: str, setting: str, size: int
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises((OverflowError, ValueError), match=r"64 bits|spans \d+ positions"):
            PAIRS[pair](**{setting: size})
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.native
def test_array_beyond_two_to_the_31_elements_is_read_to_its_end() -> None:
    x = np.zeros((1, 1, 9 * 2**28 + 1), np.float32)  # of whose pages the few that are read cost memory
    x[0, 0, 2**31], x[0, 0, -1] = 3, 5
    w = np.array([[[1.0]], [[2.0]]], np.float32)
    dy = np.stack([np.arange(10), np.ones(10)])[None].astype(np.float32)
    for isa in each_isa():
        y, cache = bl.conv_forward(x, w, stride=2**28)
        assert y.tolist() == [[[0] * 8 + [3, 5], [0] * 8 + [6, 10]]], isa
        dw = bl.conv_backward(dy, cache, needs=("dw",))[1]
        assert dw.reshape(-1).tolist() == [3 * 8 + 5 * 9, 8], isa


def test_result_beyond_all_memory_is_a_memory_error_and_the_next_call_works() -> None:
    x, w = np.ones((1, 1, 4)), np.ones((1, 1, 2))
    for _ in range(3):
        with pytest.raises(MemoryError):
            bl.conv_forward(x, w, padding=2**46)
        with pytest.raises(MemoryError):
            bl.max_pool_forward(x, 2, stride=1, padding=2**46)
        assert bl.conv_forward(x, w)[0].tolist() == [[[2, 2, 2]]]


def _makes(a: Any, file: Path) -> dict[str, Any]:
    """The same values in arrays of every make, one of which is mapped from `file`."""
    wide = np.full((*a.shape[:-1], a.shape[-1] * 2), np.nan, a.dtype)
    wide[..., ::2] = a
    raw = np.zeros(a.nbytes + 1, np.uint8)
    misaligned = raw[1:].view(a.dtype).reshape(a.shape)
    misaligned[...] = a
    readonly = a.copy()
    readonly.flags.writeable = False
    file.write_bytes(a.tobytes())
    return {
        "fortran": np.asfortranarray(a),
        "strided": wide[..., ::2],
        "negative strides": np.flip(np.flip(a).copy()),
        "read-only": readonly,
        "misaligned": misaligned,
        "byte-swapped": a.astype(a.dtype.newbyteorder()),
        "memory-mapped": np.memmap(file, a.dtype, "r", shape=a.shape),
        "transposed": np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pair_takes_arrays_of_every_make_on_every_instruction_set(dtype: str, tmp_path: Path) -> None:
    x, w, dy = (integers(n, s, dtype) for n, s in enumerate(((2, 4, 7, 9), (8, 4, 3, 3), (2, 8, 7, 9))))
    pooled = integers(3, (2, 4, 3, 4), dtype)
    for _ in each_isa():
        y, cache = bl.conv_forward(x, w, padding=1)
        right = [y, *bl.conv_backward(dy, cache)]
        y, cache = bl.max_pool_forward(x, 2)
        right += [y, bl.max_pool_backward(pooled, cache)]
        makes = [_makes(a, tmp_path / str(n)) for n, a in enumerate((x, w, dy, pooled))]
        for make in makes[0]:
            given = [of[make] for of in makes]
            y, cache = bl.conv_forward(given[0], given[1], padding=1)
            found = [y, *bl.conv_backward(given[2], cache)]
            y, cache = bl.max_pool_forward(given[0], 2)
            found += [y, bl.max_pool_backward(given[3], cache)]
            for result, expected in zip(found, right, strict=True):
                np.testing.assert_array_equal(result, expected, make)


def test_pair_takes_overlapping_arrays_as_their_copies() -> None:
    line, w = integers(0, (12,), "float32"), integers(1, (3, 2, 3), "float32")
    windows = np.lib.stride_tricks.sliding_window_view(line, 6)[:4].reshape(2, 2, 6)
    overlapping = np.lib.stride_tricks.as_strided(line, (2, 2, 6), (8, 4, 4))
    for _ in each_isa():
        for x in (windows, overlapping):
            y, cache = bl.conv_forward(x, w)
            expected, other = bl.conv_forward(x.copy(), w)
            np.testing.assert_array_equal(y, expected)
            for gradient, right in zip(bl.conv_backward(y, cache), bl.conv_backward(y, other), strict=True):
                np.testing.assert_array_equal(gradient, right)


KINDS: dict[str, Any] = {
    "0-d": np.float64(1), "masked": np.ma.masked_array(X), "object": X.astype(object), "integer": X.astype(int),
    "bool": X.astype(bool), "complex": X.astype(complex), "float16": X.astype("float16"), "text": X.astype(str),
    "longdouble": X.astype("longdouble"), "structured": np.zeros(X.shape, [("a", "f4")]), "none": None,
    "ragged": [[1.0], []],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_array_of_another_kind_is_refused_by_name(kind: str) -> None:
    bad = KINDS[kind]
    cache, pooled = bl.conv_forward(X, W)[1], bl.max_pool_forward(X, 2)[1]
    for call, name in (
        (lambda: bl.conv_forward(bad, W), "x"),
        (lambda: bl.conv_forward(X, bad), "w"),
        (lambda: bl.conv_transpose_forward(bad, W), "x"),
        (lambda: bl.max_pool_forward(bad, 2), "x"),
        (lambda: bl.avg_pool_forward(bad, 2), "x"),
        (lambda: bl.conv_backward(bad, cache), "dy"),
        (lambda: bl.max_pool_backward(bad, pooled), "dy"),
    ):
        with pytest.raises((TypeError, ValueError), match=rf"\b{name} (is|has|\(\))"):
            call()


@pytest.mark.native
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_denormals_are_zero_in_every_thread_of_a_kernel_and_not_in_its_caller(dtype: str) -> None:
    tiny = np.finfo(dtype).smallest_normal / 8
    x, w = np.full((4, 16, 24, 24), tiny, dtype), np.full((16, 16, 3, 3), 0.5, dtype)
    for isa in ISAS:
        for count in (1, 4):
            with forced(isa, count=count):
                y, cache = bl.conv_forward(x, w, padding=1)
                dx, dw = bl.conv_backward(np.full_like(y, tiny), cache)
            assert not y.any(), isa
            assert not dx.any(), isa
            assert not dw.any(), isa
            assert np.full(8, tiny, dtype).sum() > tiny  # the caller's own arithmetic still has them
