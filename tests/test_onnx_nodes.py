"""ONNX's own node tests of convolutions and pools: each passes through our pairs, or stands here with a reason."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import backlit as bl
from tolerance import assert_close, assert_shown
from ways import each_isa

OPERATORS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")

DILATED_MEAN = "avg_pool_forward has no dilation"
NO_INDICES = "max_pool_forward gives no indices beside the maxima: its cache holds the winner of each window"
NO_GLOBAL_MAX = "there is no global max pool pair: a max pool whose window is the input is one"
NOT_DIFFERENTIABLE = "the pairs take float32 and float64, whose gradients exist, and no integers"

REASONS = {
    "test_averagepool_2d_dilations": DILATED_MEAN,
    "test_averagepool_3d_dilations_small": DILATED_MEAN,
    "test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_True": DILATED_MEAN,
    "test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_False": DILATED_MEAN,
    "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True": DILATED_MEAN,
    "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_False": DILATED_MEAN,
    "test_maxpool_with_argmax_2d_precomputed_pads": NO_INDICES,
    "test_maxpool_with_argmax_2d_precomputed_strides": NO_INDICES,
    "test_maxpool_2d_uint8": NOT_DIFFERENTIABLE,
    "test_globalmaxpool": NO_GLOBAL_MAX,
    "test_globalmaxpool_precomputed": NO_GLOBAL_MAX,
}

DECIMALS = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 4}  # written down in so many places


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    """Every node test whose model is one of these operators and nothing else, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # building the cases of other operators overflows on purpose
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    return {
        case.name: case
        for case in found
        if len(case.model.graph.node) == 1 and case.model.graph.node[0].op_type in OPERATORS
    }


def _pads(attributes: dict[str, Any], size: Any, kernel: Any, stride: Any, dilation: Any) -> Any:
    """ONNX's pads, all low ends first, or its auto_pad, as (low, high) pairs."""
    axes, mode = len(kernel), attributes.pop("auto_pad", b"NOTSET")
    flat = attributes.pop("pads", [0] * 2 * axes)
    if mode in (b"NOTSET", b"VALID"):
        return tuple(zip(flat[:axes], flat[axes:], strict=True))
    pairs = []
    for i, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((-(-i // s) - 1) * s + d * (k - 1) + 1 - i, 0)
        pairs.append(
            (total // 2, total - total // 2) if mode == b"SAME_UPPER" else (total - total // 2, total // 2)
        )
    return tuple(pairs)


def _conv(attributes: dict[str, Any], x: Any, w: Any, b: Any = None) -> Any:
    axes = x.ndim - 2
    kernel = attributes.pop("kernel_shape", w.shape[2:])
    stride, dilation = attributes.pop("strides", [1] * axes), attributes.pop("dilations", [1] * axes)
    pads = _pads(attributes, x.shape[2:], kernel, stride, dilation)
    options = {"stride": stride, "padding": pads, "dilation": dilation, "groups": attributes.pop("group", 1)}
    return bl.conv_forward(x, w, b, **options)[0]


def _conv_transpose(attributes: dict[str, Any], x: Any, w: Any, b: Any = None) -> Any:
    axes = x.ndim - 2
    kernel = attributes.pop("kernel_shape", w.shape[2:])
    stride, dilation = attributes.pop("strides", [1] * axes), attributes.pop("dilations", [1] * axes)
    extra, mode = attributes.pop("output_padding", [0] * axes), attributes.pop("auto_pad", b"NOTSET")
    flat, wanted = attributes.pop("pads", [0] * 2 * axes), attributes.pop("output_shape", None)
    if mode in (b"SAME_UPPER", b"SAME_LOWER") and wanted is None:
        wanted = [i * s for i, s in zip(x.shape[2:], stride, strict=True)]
    pads = list(zip(flat[:axes], flat[axes:], strict=True))
    if wanted is not None:  # ONNX: the pads are what leaves this size; negative ones add zeros
        for axis, (i, k, s, d, o, y) in enumerate(
            zip(x.shape[2:], kernel, stride, dilation, extra, wanted, strict=True)
        ):
            total = s * (i - 1) + o + d * (k - 1) + 1 - y
            half = total // 2 if mode == b"SAME_UPPER" else total - total // 2
            pads[axis] = (half, total - half)
    options = {"stride": stride, "padding": pads, "dilation": dilation, "groups": attributes.pop("group", 1)}
    return bl.conv_transpose_forward(x, w, b, output_padding=extra, **options)[0]


def _pool(pair: Any, attributes: dict[str, Any], x: Any) -> Any:
    axes, kernel = x.ndim - 2, attributes.pop("kernel_shape")
    stride = attributes.pop("strides", [1] * axes)
    dilation = attributes.pop("dilations", [1] * axes)
    options = {
        "stride": stride,
        "padding": _pads(attributes, x.shape[2:], kernel, stride, dilation),
        "ceil_mode": bool(attributes.pop("ceil_mode", 0)),
    }
    if pair is bl.avg_pool_forward:
        options["count_include_pad"] = bool(attributes.pop("count_include_pad", 0))
        if any(d > 1 for d in dilation):
            raise NotImplementedError(DILATED_MEAN)
    else:
        options["dilation"] = dilation
    return pair(x, kernel, **options)[0]


PAIRS = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": lambda attributes, x: _pool(bl.max_pool_forward, attributes, x),
    "AveragePool": lambda attributes, x: _pool(bl.avg_pool_forward, attributes, x),
    "GlobalAveragePool": lambda attributes, x: bl.global_avg_pool_forward(x)[0],
}


def _check(case: Any) -> None:
    """Fail, or raise, unless our pair gives the case's outputs."""
    import onnx

    (node,) = case.model.graph.node
    for inputs, outputs in case.data_sets:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type not in PAIRS:
            raise NotImplementedError(f"{node.op_type} has no pair")
        if len(outputs) != 1:
            raise NotImplementedError(f"{node.op_type} has {len(outputs)} outputs")
        y = PAIRS[node.op_type](attributes, *inputs)
        assert not attributes, f"{case.name} has attributes that were not looked at: {attributes}"
        assert y.dtype == outputs[0].dtype
        if case.name in DECIMALS:
            assert_shown(y, outputs[0], DECIMALS[case.name])
        else:
            assert_close(y, outputs[0], terms=int(np.prod(inputs[-1].shape)))


@pytest.mark.onnx
@pytest.mark.parametrize("operator", OPERATORS)
def test_onnx_cases_pass_or_have_a_reason(operator: str, cases: dict[str, Any]) -> None:
    mine = {name: case for name, case in cases.items() if case.model.graph.node[0].op_type == operator}
    assert mine
    for name, case in mine.items():
        if name not in REASONS:
            for _ in each_isa():
                _check(case)


@pytest.mark.onnx
def test_onnx_cases_that_have_a_reason_would_not_pass(cases: dict[str, Any]) -> None:
    listed = REASONS.keys() & cases.keys()  # the names differ a little from release to release
    assert len(listed) > len(REASONS) / 2
    for name in sorted(listed):
        with pytest.raises((NotImplementedError, TypeError)):
            _check(cases[name])
