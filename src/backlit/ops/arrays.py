"""What every pair asks of the arrays that it is given: float32 or float64, of one precision, never modified."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from backlit.engines.memory import Array, empty, zeros

__all__ = [
    "Array",
    "as_array",
    "as_integers",
    "as_upstream",
    "check_cache",
    "empty",
    "from_sequence",
    "zeros",
]

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_Cache = TypeVar("_Cache")


def as_array(name: str, value: Any, *, dtype: DTypeLike | None = None) -> Array:
    """The argument `name` as a float32 or float64 NumPy array, sharing memory with `value` where that is possible.

    Args:
        name: the argument's name, for the error message.
        value: a NumPy array, anything with `__array__` or `__dlpack__`, or nested lists of floats.
        dtype: the precision that the other arguments have; None where this is the first.

    Returns:
        An array of native byte order, of any strides. It may be read-only and is never to be written to.

    Raises:
        TypeError: the value is no array of float32 or float64, is masked, or its precision is not `dtype`.
        ValueError: the value's own export to an array fails.

    Example:
        >>> as_array("x", [[1.0, 2.0]]).shape
        (1, 2)
        >>> as_array("x", np.arange(3))
        Traceback (most recent call last):
        TypeError: x has dtype int64, and gradients need float32 or float64: pass x.astype(np.float32).
    """
    if type(value) is np.ndarray and value.dtype in _FLOATS:  # of native byte order, as those are
        array = value
    else:
        array = _floating(name, value, _exported(name, value))
    if dtype is not None and array.dtype != dtype:
        raise TypeError(
            f"{name} has dtype {array.dtype} where the other arguments have {np.dtype(dtype)}: "
            f"pass {name}.astype(np.{np.dtype(dtype)})."
        )
    return array


def as_upstream(name: str, value: Any, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """The upstream gradient `name` as an array of exactly the shape and dtype of the result that it belongs to.

    Raises:
        TypeError, ValueError: as `as_array`; ValueError also for any other shape, broadcastable or not.
    """
    array = as_array(name, value, dtype=dtype)
    if array.shape != tuple(shape):
        raise ValueError(
            f"{name} has shape {array.shape}, and an upstream gradient has the shape of the forward's result, "
            f"{tuple(shape)}."
        )
    return array


def as_integers(name: str, value: Any) -> Array:
    """The argument `name` (class labels, say) as an integer array.

    Raises:
        TypeError: the value is no array of integers (bool is none), or is masked.
    """
    array = _exported(name, value)
    if array.dtype.kind not in "iu":
        fix = _conversion(name, value, array, "np.int64", "long")
        raise TypeError(f"{name} {_kind(value, array)}, and an integer array is needed: {fix}.")
    return array


def check_cache(operation: str, cache: object, kind: type[_Cache]) -> _Cache:
    """The cache itself, once it is known to come from the forward that `operation` is the backward of.

    Raises:
        TypeError: it does not.
    """
    if not isinstance(cache, kind):
        raise TypeError(
            f"cache of {operation}_backward has to come from {operation}_forward, and this is "
            f"{'a ' + type(cache).__name__ if cache is not None else 'None'}: "
            f"call out, cache = {operation}_forward(...) first."
        )
    return cache


def _exported(name: str, value: Any) -> Array:
    """`value` as any NumPy array, with the errors of its own export turned into sentences that name the argument."""
    if value is None:
        raise TypeError(f"{name} is None, and an array of float32 or float64 is needed.")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose mask would be lost: fill it first, {name}.filled(0)."
        )
    if getattr(value, "requires_grad", None) is True:  # a tensor, of ours or of another library
        raise ValueError(
            f"{name} is a {type(value).__name__} that cannot be read as an array while it requires a gradient: "
            f"pass {name}.detach()."
        )
    if isinstance(value, (list, tuple)):
        return from_sequence(name, value)
    try:
        if hasattr(value, "__array__") or not hasattr(value, "__dlpack__"):
            return np.asarray(value)
        return np.from_dlpack(value)
    except MemoryError:
        raise
    except Exception as error:
        kind = str(getattr(value, "dtype", ""))
        if kind.startswith("torch.") and kind.removeprefix("torch.").startswith(("bfloat", "float8")):
            raise TypeError(
                f"{name} has dtype {kind.removeprefix('torch.')}, which NumPy does not have: pass {name}.float()."
            ) from error
        raise ValueError(
            f"{name} is a {type(value).__name__} that cannot be read as an array ({error}): "
            f"pass a NumPy array of float32 or float64."
        ) from error


def from_sequence(name: str, value: Any) -> Array:
    """Nested lists as an array of whatever they hold.

    Raises:
        ValueError: the rows differ in length.
    """
    try:
        return np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(
            f"{name} is a {type(value).__name__} that cannot be read as an array: make its rows equally long."
        ) from error


def _floating(name: str, value: Any, array: Array) -> Array:
    """`array` in native byte order, once its dtype is known to be float32 or float64."""
    native = array.dtype.newbyteorder("=")
    if native not in _FLOATS:
        fix = _conversion(name, value, array, "np.float32", "float")
        raise TypeError(f"{name} {_kind(value, array)}, and gradients need float32 or float64: {fix}.")
    return np.asarray(array, native)


def _kind(value: Any, array: Array) -> str:
    """What an argument is that was not wanted: "is of type dict", "is a list of int64", "has dtype int64"."""
    if hasattr(value, "dtype"):
        return f"has dtype {array.dtype}"
    if isinstance(value, (list, tuple)):
        return (
            f"is a {type(value).__name__} of {array.dtype if array.dtype.kind in 'biufc' else 'other things'}"
        )
    return f"is of type {type(value).__name__}"


def _conversion(name: str, value: Any, array: Array, dtype: str, method: str) -> str:
    """The nearest way from `value`, which was read as `array`, to what is needed."""
    if array.dtype.kind == "O" and array.size and all(isinstance(item, int) for item in array.flat):
        return f"pass np.asarray({name}, {dtype})"  # beyond 64 bits
    if array.dtype.kind not in "biuf":
        return f"pass a NumPy array of {dtype}"
    if hasattr(value, "astype"):
        return f"pass {name}.astype({dtype})"
    if str(getattr(value, "dtype", "")).startswith("torch."):
        return f"pass {name}.{method}()"
    return f"pass np.asarray({name}, {dtype})"
