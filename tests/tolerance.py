"""How far two computations of the same sums may differ: the only place in the tests where a tolerance is decided."""

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


def _coarseness(dtype: np.dtype[Any]) -> float:
    return float(np.finfo(dtype).eps)
