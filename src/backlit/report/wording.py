"""Numbers, shapes and readings as a person would write them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from backlit.ops.arrays import Array

__all__ = ["aligned", "duration", "extent", "largest", "norm", "number", "percent", "plural", "shape"]

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, digits: int = 3) -> str:
    """A number with that many significant digits, with a true minus sign; "–" for None.

    Example:
        >>> number(-0.012345), number(1234.5), number(1.5e-7), number(0.0)
        ('−0.0123', '1234', '1.50·10⁻⁷', '0')
    """
    if value is None:
        return "–"
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "NaN")
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{abs(value):.{digits - 1}e}".partition("e")
    power = int(exponent)
    if -4 <= power < 6:
        text = f"{abs(value):.{max(0, digits - 1 - power)}f}"
    else:
        text = f"{mantissa}·10{str(power).translate(_SUPERSCRIPT)}"
    return f"−{text}" if value < 0 else text


def aligned(values: Sequence[float], digits: int = 5) -> list[str]:
    """Numbers of one column, all with as many decimals as give the largest that many digits.

    Example:
        >>> aligned([0.25, -0.0012345], 3)
        ['0.250', '−0.001']
    """
    top = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    power = math.floor(math.log10(top)) if top else 0
    if not -4 <= power < 6 or not all(map(math.isfinite, values)):
        return [number(value, digits) for value in values]
    decimals = max(0, digits - 1 - power)
    return [f"{value:.{decimals}f}".replace("-", "−") for value in values]


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 1 in percent, never rounded up to 100% or down to 0%.

    Example:
        >>> percent(0.98611), percent(0.99999), percent(1.0), percent(0.5, 0)
        ('98.6%', '99.9%', '100%', '50%')
    """
    if share is None or not math.isfinite(share):
        return number(share)
    text = f"{100 * share:.{digits}f}"
    unit = 10.0**-digits
    if share < 1 and float(text) >= 100:
        text = f"{100 - unit:.{digits}f}"
    elif share > 0 and float(text) == 0:
        text = f"{unit:.{digits}f}"
    return ("100" if share == 1 else "0" if share == 0 else text) + "%"


def plural(count: int, one: str, many: str = "") -> str:
    """A count and its noun: "1 epoch", "1,797 images"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """A time as "42 s", "3 min 20 s" or "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    return f"{minutes // 60} h {minutes % 60} min"


def shape(sizes: Sequence[int]) -> str:
    """A shape as "(1, 16, 8, 8)"; "a single number" for ()."""
    return (
        f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})" if len(sizes) else "a single number"
    )


def largest(fields: Array | Sequence[Array]) -> float:
    """The largest finite magnitude, by which a picture is scaled; 0 where there is none."""
    values = np.concatenate([np.abs(np.ravel(field)) for field in fields] or [np.zeros(0)])
    finite = values[np.isfinite(values)]
    return float(finite.max(initial=0.0))


def norm(field: Array) -> float:
    """The Euclidean norm of all elements, summed in float64."""
    return float(np.linalg.norm(np.asarray(field, np.float64).ravel()))


def extent(field: Array) -> str:
    """The smallest and the largest value: "−0.12 … 0.34"."""
    if not field.size:
        return "–"
    low, high = float(np.min(field)), float(np.max(field))
    return number(low) if low == high or low != low else f"{number(low)} … {number(high)}"
