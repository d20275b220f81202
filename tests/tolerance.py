"""How far two computations of the same sums, or a value and its print, may differ.

It is the only place in the tests where a tolerance is decided.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike


def tolerance(dtype: DTypeLike, terms: int, *, differenced: bool = False) -> float:
    """The largest difference, per unit of magnitude, that rounding alone explains between two sums of `terms` products.

    One sum of n rounded terms errs by at most n*u times the sum of their magnitudes, u = eps/2 (half a unit in the
    last place), and roundings that do not conspire reach lambda*sqrt(n)*u, past which they go with probability
    2*exp(-lambda**2/2). With lambda = 8 that is 1e-14 for each element of an array, and each of the two sides has its
    own sum in its own order, so

        tolerance = 2 * 8 * sqrt(n) * eps/2 = 8 * eps * sqrt(n)

    A bug is a missing, doubled or misplaced term, so an error of 1/n or more: n stays well below 1/(8*eps)**(2/3),
    which is ten thousand terms in float32 and several billion in float64.

    Args:
        dtype: the precision that was computed in; the coarser one where two were.
        terms: how many products the longest sum behind one element has: in_channels/groups * prod(kernel) for a
            convolution's output. For operations in a row the terms add up.
        differenced: the expected side is a central finite difference with the step eps**(1/3), whose truncation
            and rounding are both of order eps**(2/3), which then stands in for eps.

    Example:
        >>> tolerance("float64", 1) == 8 * 2.0**-52
        True
        >>> tolerance("float32", 400) == 20 * tolerance("float32", 1)
        True
    """
    eps = float(np.finfo(dtype).eps)
    return 8 * (eps ** (2 / 3) if differenced else eps) * float(np.sqrt(max(terms, 1)))


def assert_close(
    actual: ArrayLike,
    expected: ArrayLike,
    terms: int,
    scale: ArrayLike | None = None,
    *,
    differenced: bool = False,
) -> None:
    """Fail unless both have the same shape, the same NaNs and infinities, and else differ by rounding at most.

    Args:
        actual: what the code under test computed.
        expected: what something independent computed, in the same or a finer precision.
        terms: as `tolerance` has it.
        scale: the magnitude that the rounding is relative to: a number, or an array that broadcasts. None takes the
            largest magnitude in `expected`. Where terms cancel (the gradient of a normalisation, a sum that is zero)
            pass the magnitude of what was added up: the same sum over absolute values is exactly right.
        differenced: as `tolerance` has it.

    Raises:
        AssertionError: with the worst element, both values, and the difference in units of what is allowed.

    Example:
        >>> assert_close([0.1 + 0.2], [0.3], terms=2)
        >>> assert_close([1.0, 2.5], [1.0, 2.0], terms=2)
        Traceback (most recent call last):
        AssertionError: element (1,) is 2.5, expected 2.0: off by 0.5, 9.95e+13 times the 5.02e-15 that 2 terms allow
    """
    a, e = np.asarray(actual), np.asarray(expected)
    assert a.shape == e.shape, f"the shape is {a.shape}, expected {e.shape}"
    if a.size == 0:
        return
    finite = np.isfinite(e)
    np.testing.assert_array_equal(
        a[~finite], e[~finite], "NaN and infinities have to be where they are expected"
    )
    precision = max(
        (x.dtype for x in (a, e) if x.dtype.kind == "f"), key=_coarseness, default=np.dtype(np.float64)
    )
    wide: Any = np.float64
    if scale is None:
        scale = np.max(np.abs(e[finite]), initial=0.0).astype(wide)
    allowed = np.broadcast_to(
        tolerance(precision, terms, differenced=differenced) * np.asarray(scale, wide), e.shape
    )
    with np.errstate(invalid="ignore"):
        error = np.where(finite, np.abs(a.astype(wide) - e.astype(wide)), 0.0)
    if np.all(error <= allowed):
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(np.where(error == 0, 0.0, error / allowed), nan=np.inf)
    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), ratio.shape))
    raise AssertionError(
        f"element {at} is {a[at]}, expected {e[at]}: off by {error[at]:.3g}, {ratio[at]:.3g} times the "
        f"{allowed[at]:.3g} that {terms} terms allow"
    )


def assert_shown(
    actual: ArrayLike,
    shown: ArrayLike,
    decimals: int | None = None,
    *,
    digits: int | None = None,
    terms: int = 1,
) -> None:
    """Fail unless values agree with those that were printed or published, in as many places as these have.

    Printing moves a value by half a unit of its last place at most; a tenth of a unit more is left to the rounding of
    what was printed, so

        |actual - shown| <= (terms / 2 + 1 / 10) * unit

    Args:
        actual: what was computed.
        shown: what was printed, of the same shape.
        decimals: how many places behind the point it has: the unit is 10**-decimals.
        digits: in place of decimals, how many significant digits it has: the unit is that of each value.
        terms: how many printed values are in it: 2 where actual was read from print itself, more where it is a sum.

    Raises:
        AssertionError: with the first element that is off, both values, and what is allowed.

    Example:
        >>> assert_shown([2 / 3, 1.0], [0.667, 1.0], 3)
        >>> assert_shown(2000 / 3, 667, digits=3)
        >>> assert_shown(2 / 3, 0.666, 3)
        Traceback (most recent call last):
        AssertionError: element () is 0.6666666666666666, and 0.666 is shown: off by 0.000667, and 0.0006 is allowed
    """
    a, s = np.asarray(actual, np.float64), np.asarray(shown, np.float64)
    assert a.shape == s.shape, f"the shape is {a.shape}, expected {s.shape}"
    if decimals is not None:
        unit = np.full(s.shape, 10.0**-decimals)
    else:
        assert digits is not None, "decimals or digits have to be given"
        with np.errstate(divide="ignore"):
            unit = np.where(s == 0, 0.0, 10.0 ** (np.floor(np.log10(np.abs(s))) + 1 - digits))
    allowed = (terms / 2 + 0.1) * unit
    error = np.abs(a - s)
    if np.all(error <= allowed):
        return
    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(~(error <= allowed))), error.shape))
    raise AssertionError(
        f"element {at} is {a[at]}, and {s[at]} is shown: off by {error[at]:.3g}, and {allowed[at]:.3g} is allowed"
    )


# Root mean square of the error that Winograd's float32 results have, per unit of the root mean square of the result:
# of normally distributed arrays of 64 channels, against sums in float64. F(4x4, 3x3) with the points 0, +-5/8, +-3/2
# and infinity for y and dx, F(3x3, 4x4) for dw, whose sums run over every tile of the batch.
WINOGRAD_ERROR = {"y": 8.0e-7, "dx": 8.0e-7, "dw": 1.9e-6}


def assert_close_to_winograd(
    actual: ArrayLike, expected: ArrayLike, which: str, terms: int, scale: float | None = None
) -> None:
    """Fail unless a result of Winograd's algorithm has the error that its transformations explain, and no more.

    Winograd's algorithm adds and subtracts multiples of neighbouring values before it multiplies, so its rounding is no
    longer relative to each output but to the size of its neighbours: it is measured against the root mean square (RMS)
    of the whole result. The sums over channels (tiles for dw) add rounding that grows with the root of their length.
    Twice the measured figure is left for arrays that are distributed otherwise, and as an element's error depends on
    the magnitudes in its tile and on its place there, the largest may be 12 times the RMS:

        RMS of the error <= 2 * WINOGRAD_ERROR * sqrt(max(1, terms/576)) * scale           any error <= 12 times that

    The first is asked of results of a thousand elements and more: those of a small one all lie at the same places of
    their tiles, some of which have three times the error of others.

    A misplaced or missing term of 576 is an error of 1/24 of the RMS, thousands of times more.

    Args:
        actual: what was computed. expected: the same in float64.
        which: "y", "dx" or "dw".
        terms: how many products the longest sum has: 576 are 64 channels of 3x3 taps.
        scale: the RMS that a result of so many random terms has, sqrt(terms) times the RMS of either operand, where
            so few elements make it up, or so many terms lie in the padding, that its own is smaller; None takes this.

    Raises:
        AssertionError: with the RMS of the error, or the largest, and what is allowed.

    Example:
        >>> assert_close_to_winograd([1.0, 1.0 + 1e-6], [1.0, 1.0], "y", terms=9)
        >>> assert_close_to_winograd([1.0, 1.1], [1.0, 1.0], "y", terms=9)
        Traceback (most recent call last):
        AssertionError: y is off by 0.1, and 1.92e-05 is allowed where the root mean square is 1
    """
    a, e = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert a.shape == e.shape, f"the shape is {a.shape}, expected {e.shape}"
    if a.size == 0:
        return
    error = np.abs(a - e)
    size = float(np.sqrt(np.mean(e * e))) if scale is None else float(scale)
    allowed = 2 * WINOGRAD_ERROR[which] * float(np.sqrt(max(1.0, terms / 576))) * size
    measured = float(np.sqrt(np.mean(error * error))) if a.size >= 1000 else 0.0
    for value, limit in ((float(error.max()), 12 * allowed), (measured, allowed)):
        assert value <= limit, (
            f"{which} is off by {value:.3g}, and {limit:.3g} is allowed where the root mean square is {size:.3g}"
        )


def _coarseness(dtype: np.dtype[Any]) -> float:
    return float(np.finfo(dtype).eps)
