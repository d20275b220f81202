"""Answers published in two courses, against our pairs; and the wrong ones of 2017, recognised as wrong.

cs231n assignment 2 (channels first, elementwise) and deeplearning.ai course 4 week 1 (channels last, means and slices);
their arrays come from NumPy's legacy generator in the order in which the exercises draw them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import backlit as bl
from tolerance import assert_shown
from ways import ISAS, forced


@pytest.fixture(autouse=True, params=["as chosen", *ISAS])
def _isa(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every answer by the engine that is chosen, and by the native one on every instruction set."""
    if request.param == "as chosen":
        yield
        return
    with forced(request.param):
        yield


def _legacy(seed: int) -> Any:
    return np.random.RandomState(seed).randn  # the courses' generator


def _line(low: float, high: float, *shape: int) -> Any:
    return np.linspace(low, high, num=int(np.prod(shape))).reshape(shape)


def _published(actual: Any, expected: Any, decimals: int = 8) -> None:
    """Equal in so many decimals: as many as were printed, or as the rounding of the sums leaves."""
    assert_shown(actual, expected, decimals)


def test_cs231n_conv_forward() -> None:
    x, w, b = _line(-0.1, 0.5, 2, 3, 4, 4), _line(-0.2, 0.3, 3, 3, 4, 4), np.linspace(-0.1, 0.2, num=3)
    y, _ = bl.conv_forward(x, w, b, stride=2, padding=1)
    expected = [
        [
            [[-0.08759809, -0.10987781], [-0.18387192, -0.2109216]],
            [[0.21027089, 0.21661097], [0.22847626, 0.23004637]],
            [[0.50813986, 0.54309974], [0.64082444, 0.67101435]],
        ],
        [
            [[-0.98053589, -1.03143541], [-1.19128892, -1.24695841]],
            [[0.69108355, 0.66880383], [0.59480972, 0.56776003]],
            [[2.36270298, 2.36904306], [2.38090835, 2.38247847]],
        ],
    ]
    _published(y, expected)


def test_cs231n_conv_backward() -> None:
    randn = _legacy(231)
    x, w, b, dout = randn(4, 3, 5, 5), randn(2, 3, 3, 3), randn(2), randn(4, 2, 5, 5)
    dx, dw, db = bl.conv_backward(dout, bl.conv_forward(x, w, b, stride=1, padding=1)[1])
    _published(db, [0.47050388352978434, 1.800073277599659], 13)
    _published(dx.sum(), -25.29736485038937, 12)
    _published(dw.sum(), -58.84515791476805, 12)
    row = [2.0202264811062625, 1.315572440016853, -3.150878541139839, 3.2389219689824182, -4.012148443193525]
    _published(dx[0, 0, 0], row, 13)
    tap = [
        [3.7408322880511227, -1.1173693226760242, 5.650084752915143],
        [-19.119629889665703, 5.654060373385498, 4.531247245716857],
        [-3.632933797933478, 3.7616908691345534, 7.204720867935405],
    ]
    _published(dw[0, 0], tap, 13)


def test_cs231n_max_pool_forward() -> None:
    y, _ = bl.max_pool_forward(_line(-0.3, 0.4, 2, 3, 4, 4), 2)
    expected = [
        [
            [[-0.26315789, -0.24842105], [-0.20421053, -0.18947368]],
            [[-0.14526316, -0.13052632], [-0.08631579, -0.07157895]],
            [[-0.02736842, -0.01263158], [0.03157895, 0.04631579]],
        ],
        [
            [[0.09052632, 0.10526316], [0.14947368, 0.16421053]],
            [[0.20842105, 0.22315789], [0.26736842, 0.28210526]],
            [[0.32631579, 0.34105263], [0.38526316, 0.4]],
        ],
    ]
    _published(y, expected)


def test_deeplearning_single_step_of_a_convolution() -> None:
    randn = _legacy(1)
    a, w, b = randn(4, 4, 3), randn(4, 4, 3), randn(1, 1, 1)
    z, _ = bl.conv_forward(a[None], w[..., None], b.reshape(1), layout="channels_last")
    _published(z.item(), -6.999089450680221, 14)


def test_deeplearning_conv_forward_of_2018() -> None:
    randn = _legacy(1)
    a, w, b = randn(10, 4, 4, 3), randn(2, 2, 3, 8), randn(1, 1, 1, 8)
    z, _ = bl.conv_forward(a, w, b.reshape(-1), stride=2, padding=2, layout="channels_last")
    _published(z.mean(), 0.048995203528855794, 15)
    expected = [
        -0.61490741,
        -6.7439236,
        -2.55153897,
        1.75698377,
        3.56208902,
        0.53036437,
        5.18531798,
        8.75898442,
    ]
    _published(z[3, 2, 1], expected)


def test_deeplearning_conv_forward_of_2021() -> None:
    randn = _legacy(1)
    a, w, b = randn(2, 5, 7, 4), randn(3, 3, 4, 8), randn(1, 1, 1, 8)
    z, _ = bl.conv_forward(a, w, b.reshape(-1), stride=2, padding=1, layout="channels_last")
    _published(z.mean(), 0.5511276474566768, 15)
    expected = [
        -2.17796037,
        8.07171329,
        -0.5772704,
        3.36286738,
        4.48113645,
        -2.89198428,
        10.99288867,
        3.03171932,
    ]
    _published(z[0, 2, 1], expected)


def _deeplearning_backward(stride: int) -> list[float]:
    """Means of dA, dW and db of the course's arrays, the upstream gradient being the output itself."""
    randn = _legacy(1)
    a, w, b = randn(10, 4, 4, 3), randn(2, 2, 3, 8), randn(1, 1, 1, 8)
    z, cache = bl.conv_forward(a, w, b.reshape(-1), stride=stride, padding=2, layout="channels_last")
    return [float(gradient.mean()) for gradient in bl.conv_backward(z, cache)]


def test_deeplearning_conv_backward_of_2018_and_2021() -> None:
    _published(_deeplearning_backward(2), [1.4524377775388075, 1.7269914583139097, 7.839232564616838], 11)


def test_deeplearning_conv_backward_of_2017_is_recognised_as_wrong() -> None:
    right = _deeplearning_backward(1)
    _published(right, [4.114581704914984, 9.20367719901416, 1.3783436803789684], 11)
    published = [9.60899067587, 10.5817412755, 76.3710691956]
    assert (np.abs(np.subtract(right, published)) > 1).all()
    # what they encode: a bias added once for each of the f*f*C = 12 products inside the window's sum
    randn = _legacy(1)
    a, w, b = randn(10, 4, 4, 3), randn(2, 2, 3, 8), randn(1, 1, 1, 8)
    z, cache = bl.conv_forward(a, w, 12 * b.reshape(-1), stride=1, padding=2, layout="channels_last")
    _published([float(gradient.mean()) for gradient in bl.conv_backward(z, cache)], published, 9)


@pytest.mark.parametrize(
    ("options", "max_rows", "mean_rows"),
    [
        (
            {"kernel_size": 3, "stride": 2},
            [[1.74481176, 0.86540763, 1.13376944], [1.13162939, 1.51981682, 2.18557541]],
            [[0.02105773, -0.20328806, -0.40389855], [-0.22154621, 0.51716526, 0.48155844]],
        ),
        (
            {"kernel_size": 4, "stride": 1},
            [[1.74481176, 1.6924546, 2.10025514], [1.19891788, 1.51981682, 2.18557541]],
            [[-0.09498456, 0.11180064, -0.14263511], [-0.09525108, 0.28325018, 0.33035185]],
        ),
    ],
)
def test_deeplearning_pool_forward(options: Any, max_rows: Any, mean_rows: Any) -> None:
    a = _legacy(1)(2, 4, 4, 3)
    _published(bl.max_pool_forward(a, **options, layout="channels_last")[0].reshape(2, 3), max_rows)
    _published(bl.avg_pool_forward(a, **options, layout="channels_last")[0].reshape(2, 3), mean_rows)


def test_deeplearning_pool_backward() -> None:
    randn = _legacy(1)
    a, da = randn(5, 5, 3, 2), randn(5, 4, 2, 2)
    _published(da.mean(), 0.14571390272918056, 15)
    _, cache = bl.max_pool_forward(a, 2, stride=1, layout="channels_last")
    _published(bl.max_pool_backward(da, cache)[1, 1], [[0, 0], [5.05844394, -1.68282702], [0, 0]])
    _, cache = bl.avg_pool_forward(a, 2, stride=1, layout="channels_last")
    expected = [[0.08485462, 0.2787552], [1.26461098, -0.25749373], [1.17975636, -0.53624893]]
    _published(bl.avg_pool_backward(da, cache)[1, 1], expected)
