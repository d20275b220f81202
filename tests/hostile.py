"""Hostile calls of the pairs: arguments and arrays that no one should pass, and what has to come of each.

A call ends in the documented result or in an error of the documented kinds whose message names an argument. Everything
follows from one random generator, so that a call can be made again.
"""

from __future__ import annotations

import array
import decimal
import fractions
import re
import tempfile
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

ERRORS = (ValueError, TypeError, OverflowError, MemoryError)
NAMES = re.compile(
    r"\b(x|w|b|dy|y|stride|padding|dilation|groups|layout|kernel_size|output_padding|output_size|ceil_mode|cache|needs|"
    r"count_include_pad|divisor_override|engine|algorithm|isa|count|descriptor|dtype|input_size|batch|in_channels|"
    r"out_channels|channels|transposed|an input of size|a kernel of size|this transposed convolution)\b"
)


class Finding(AssertionError):  # noqa: N818  # it is what it is called
    """A call that ended in a way that it must not."""


class _Index:
    """An integer of someone else's, or one that only looks like it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __index__(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class _Export:
    """An array of another library whose export does as it likes."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def __array__(self, *_: Any, **__: Any) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class _Silent:
    """A value that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


HUGE = [2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64, 10**30, -(2**31), -(2**63), -(2**64)]
STRANGE: list[Callable[[], Any]] = [
    lambda: 0, lambda: -1, lambda: -7, lambda: True, lambda: False, lambda: 1.0, lambda: 2.5, lambda: float("nan"),
    lambda: float("inf"), lambda: None, lambda: "1", lambda: "same", lambda: "valid", lambda: "full", lambda: b"2",
    lambda: (), list, lambda: (1,), lambda: (1, 2), lambda: (1, 2, 3), lambda: (1, 2, 3, 4), lambda: [[1]],
    lambda: ((1, 2),), lambda: ((1, 2), (0, 1)), lambda: ((1, 2, 3),) * 2, lambda: ((),), dict, lambda: {1: 2},
    lambda: object(), lambda: np.int64(2), lambda: np.uint8(255), lambda: np.bool_(True), lambda: np.float32(1),
    lambda: np.array(2), lambda: np.array([1, 2]), lambda: np.array([]), lambda: np.array([[1, 2]]), lambda: 1j,
    lambda: range(2), lambda: (1, None), lambda: (True, 1), lambda: (1.0, 1), lambda: slice(1),
    lambda: ..., lambda: _Index(2), lambda: _Index(2**70), lambda: _Index(RuntimeError("no")), lambda: _Index("1"),
    lambda: _Silent(), lambda: fractions.Fraction(2), lambda: decimal.Decimal(2), lambda: (n for n in (1, 2)),
    lambda: 10**5000, lambda: -(10**5000), lambda: (2**63, 1), lambda: ((2**62, 2**62),), lambda: np.array([2**40, 1]),
    lambda: int, lambda: np.array([1.0, 2.0]), lambda: np.array([1, 2], object), lambda: {1, 2},
    lambda: "channels_first",
]  # fmt: skip


def integer(random: Random) -> int:
    return random.choice(HUGE) if random.random() < 0.5 else random.randint(-3, 12)


def strange(random: Random) -> Any:
    """A value for a size, a stride, a flag, a word."""
    kind = random.random()
    if kind < 0.5:
        return random.choice(STRANGE)()
    if kind < 0.7:
        return integer(random)
    if kind < 0.9:
        return tuple(integer(random) for _ in range(random.randint(1, 3)))
    return tuple((integer(random), integer(random)) for _ in range(random.randint(1, 3)))


def strange_array(random: Random, like: Any) -> Any:
    """Something in the place of an array: of another shape, another dtype, or no array at all."""
    makers: list[Callable[[], Any]] = [
        lambda: None, lambda: 1.0, lambda: 3, lambda: "x", list, lambda: [[1.0], [1.0, 2.0]], dict,
        lambda: object(), lambda: _Export(RuntimeError("elsewhere")), lambda: _Export(like), lambda: _Export([1.0]),
        lambda: _Export(None), lambda: like.astype(int), lambda: like.astype(bool), lambda: like.astype(complex),
        lambda: like.astype("float16"), lambda: like.astype(object), lambda: like.astype("longdouble"),
        lambda: like.astype("float32" if like.dtype == np.float64 else "float64"), lambda: like.astype("U8"),
        lambda: np.ma.masked_array(like), lambda: like[..., None], lambda: like[0] if like.shape[:1] > (0,) else like,
        lambda: like[..., :0], lambda: np.float64(2), lambda: np.array(1.0), lambda: like.reshape(-1),
        lambda: np.zeros(like.shape, [("a", "f4"), ("b", "f4")]), lambda: np.zeros(like.shape, "datetime64[s]"),
        lambda: memoryview(np.ascontiguousarray(like)), lambda: array.array("d", [1.0, 2.0]),
        lambda: (v for v in (1.0,)),
        lambda: like.T, lambda: like[None], lambda: np.broadcast_to(like.reshape(-1)[:1], (1,) * like.ndim),
        lambda: _Silent(), lambda: [like, like], lambda: like.tolist(),
        lambda: np.zeros((0, *like.shape[1:]), like.dtype),
        lambda: np.broadcast_to(like.dtype.type(0), tuple(random.choice((1, 3, 2**20, 2**40)) for _ in like.shape)),
        lambda: range(3), lambda: np.zeros((1,) * 40, like.dtype),
    ]  # fmt: skip
    try:
        with np.errstate(all="ignore"):
            return random.choice(makers)()
    except (ValueError, TypeError, IndexError):  # this one cannot be made of such an array
        return None


def remade(random: Random, values: Any) -> Any:
    """The same values in an array of another make."""
    kind = random.randrange(11)
    if kind == 0:
        return values.copy(order="F")
    if kind == 1 and values.ndim:
        wide = np.full((*values.shape[:-1], values.shape[-1] * 2), np.nan, values.dtype)
        wide[..., ::2] = values
        return wide[..., ::2]
    if kind == 2:
        return np.flip(np.flip(values).copy())
    if kind == 3:
        copy = values.copy()
        copy.flags.writeable = False
        return copy
    if kind == 4:
        raw = np.zeros(values.nbytes + 8, np.uint8)
        offset = random.randint(1, 7)
        moved = raw[offset : offset + values.nbytes].view(values.dtype).reshape(values.shape)
        moved[...] = values
        return moved
    if kind == 5:
        return values.astype(values.dtype.newbyteorder())
    if kind == 6:
        return values.view(type("Sub", (np.ndarray,), {}))
    if kind == 7 and values.size and random.random() < 0.1:
        with tempfile.TemporaryFile() as file:
            mapped = np.memmap(file, values.dtype, "w+", shape=values.shape)
            mapped[...] = values
            return mapped
    if kind == 8 and values.ndim:  # every element along one axis is the same one
        axis = random.randrange(values.ndim)
        return np.broadcast_to(values.take([0], axis), values.shape) if values.shape[axis] else values
    if kind == 9 and values.ndim and values.size:  # neighbours overlap
        flat = values.reshape(-1)
        return (
            np.lib.stride_tricks.as_strided(flat, values.shape, (flat.itemsize,) * 1 + values.strides[1:])
            if values.strides[0] >= flat.itemsize
            else values
        )
    return values


def values(random: Random, shape: tuple[int, ...], dtype: Any, spoil: bool) -> Any:
    """Small integers, whose sums are exact, now and then with infinities and NaN among them."""
    generator = np.random.default_rng(random.getrandbits(32))
    drawn = generator.integers(-4, 5, shape).astype(dtype)
    if spoil and drawn.size:
        count = random.randint(0, 3)
        drawn.flat[generator.integers(0, drawn.size, count)] = generator.choice(
            [np.inf, -np.inf, np.nan], count
        )
    return drawn


def refused(error: BaseException, sound: bool = False) -> str:
    """The name of an error's type, once it is a documented one of a call that was not sound, and names an argument."""
    if isinstance(error, Finding):
        raise error
    if sound:
        raise Finding(f"{type(error).__name__} where all is well: {error}") from error
    if not isinstance(error, ERRORS):
        raise Finding(f"{type(error).__name__} is no documented error: {error}") from error
    message = str(error)
    if not message or (not isinstance(error, MemoryError) and not NAMES.search(message)):
        raise Finding(f"{type(error).__name__} names no argument: {message!r}") from error
    return type(error).__name__


def called(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """What a pair returns, once its inputs are seen to be untouched and its outputs to be memory of its own."""
    inputs = [a for a in arguments if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    before = [_bits(a) for a in inputs]
    result = function(*arguments, **keywords)
    for array_, bits in zip(inputs, before, strict=True):
        if _bits(array_) != bits:
            raise Finding(f"{function.__name__} has modified an input")
        for output in result if isinstance(result, tuple) else (result,):
            if isinstance(output, np.ndarray) and output.size and np.may_share_memory(output, array_):
                raise Finding(f"{function.__name__} returned the memory of an input")
    return result


def check_made(which: str, found: Any, shape: Any, dtype: Any) -> None:
    """Fail unless a result is an array of its own of the right shape and precision."""
    made = (
        type(found) is np.ndarray
        and found.dtype == dtype
        and found.flags.c_contiguous
        and found.flags.writeable
    )
    if not made or found.shape != tuple(shape):
        raise Finding(
            f"{which} is a {type(found).__name__} {getattr(found, 'dtype', '')}{getattr(found, 'shape', '')}, and a "
            f"contiguous array {np.dtype(dtype)}{tuple(shape)} is right"
        )


def check_values(which: str, found: Any, right: Any) -> None:
    """Fail unless a result has exactly these values."""
    with np.errstate(all="ignore"):
        right = right.astype(found.dtype)
    if not np.array_equal(found, right, equal_nan=True):
        raise Finding(f"{which} is wrong:\n{found.tolist()}\nand right is\n{right.tolist()}"[:2000])


def check_reach(which: str, found: Any, right: Any) -> None:
    """Fail unless NaN is wherever it has to be."""
    if not np.isnan(found[np.isnan(right)]).all():
        raise Finding(
            f"NaN does not reach all of {which}:\n{found.tolist()}\nand right is\n{right.tolist()}"[:2000]
        )


def _bits(values_: Any) -> Any:
    return values_.tobytes() if values_.nbytes < 1 << 20 else None
