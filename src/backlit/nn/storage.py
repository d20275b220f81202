"""Models in safetensors files: written whole or not at all, and read without running anything."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from backlit.files import as_path, write_atomic
from backlit.nn.module import Module
from backlit.ops.arrays import Array
from backlit.sizes import shown

FilePath = str | os.PathLike[str]
_HEADER_LIMIT = 100_000_000  # bytes, the format's own limit
_NAMES = ("name", "arguments")
_FOREIGN = ("F16", "BF16", "C64")  # the format has them, and no gradient is computed in them


def save(model: Module, path: FilePath) -> None:
    """Write a model's parameters and buffers to a safetensors file.

    A model from `backlit.models` has its name and arguments written along, so that `load_model` can build it
    again. A crash at any moment leaves the old file or the new one, whole.

    Args:
        model: the model.
        path: the file, by custom `*.safetensors`; its folder must exist.

    Raises:
        TypeError: model is no Module.
        ValueError: its `config` cannot be written as JSON.
        OSError: the file cannot be written.

    Source: the format is https://huggingface.co/docs/safetensors.

    Example:
        >>> import tempfile
        >>> from backlit import nn
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(nn.Linear(3, 2), folder + "/m.safetensors")
        ...     load(nn.Linear(3, 2), folder + "/m.safetensors")
    """
    _check_module(model)
    metadata = {"format": "backlit"}
    config = getattr(model, "config", None)
    if config is not None:
        try:
            metadata["config"] = json.dumps({key: config[key] for key in _NAMES})
        except (TypeError, ValueError, KeyError):
            raise ValueError(
                f"model.config is {shown(config)}, and a dict of 'name' and 'arguments' that JSON can hold "
                f"is needed."
            ) from None
    write_tensors(path, model.state_dict(), metadata)


def load(model: Module, path: FilePath) -> None:
    """Read a model's parameters and buffers from a safetensors file; if one does not fit, nothing changes.

    Args:
        model: a model of the architecture that was saved.
        path: the file, written by `save` or by any other program with the same names and shapes.

    Raises:
        TypeError: model is no Module.
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, no safetensors file, of a precision other than float32 or float64, or of
            another architecture.

    Example:
        >>> import tempfile
        >>> from backlit import nn
        >>> saved, model = nn.Linear(3, 2), nn.Linear(3, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(saved, folder + "/m.safetensors")
        ...     load(model, folder + "/m.safetensors")
        >>> bool((model.weight.data == saved.weight.data).all())
        True
    """
    _check_module(model)
    fill(model, path, *read_tensors(path))


def fill(model: Module, path: FilePath, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Put what `read_tensors` gave into a model, with the errors that `load` has."""
    try:
        model.load_state_dict(arrays)
    except (TypeError, ValueError) as error:
        config = model_config(metadata)
        saved = f" (it holds the model {config['name']!r})" if config else ""
        reason = str(error).removeprefix("state_dict ")
        raise ValueError(f"file {_shown(path)}{saved} {reason}") from None


def read_metadata(path: FilePath) -> dict[str, str]:
    """The texts that a safetensors file carries beside its arrays, such as "config"; no array is read.

    Raises:
        FileNotFoundError, ValueError: as `load`.
    """
    with _opened(path) as file:
        return _header(path, file)[1]


def write_tensors(path: FilePath, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write arrays and texts to a safetensors file, whole or not at all.

    Args:
        path: the file; its folder must exist.
        arrays: name -> array, of floats, integers or bools.
        metadata: name -> text.
    """
    from safetensors.numpy import save as serialize

    target = as_path("path", path)
    whole = {name: np.array(array, order="C", copy=None) for name, array in arrays.items()}
    write_atomic(target, serialize(whole, dict(metadata)))


def read_tensors(path: FilePath) -> tuple[dict[str, Array], dict[str, str]]:
    """Read what `write_tensors` wrote.

    Returns:
        The arrays by name, writable copies, and the texts.

    Raises:
        FileNotFoundError, ValueError: as `load`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialize

    with _opened(path) as file:
        end, metadata, dtypes = _header(path, file)
        for name, dtype in dtypes.items():
            if dtype in _FOREIGN or dtype.startswith(("F8_", "F6_", "F4")):
                raise ValueError(
                    f"file {_shown(path)} holds tensor {name!r} as {dtype}, and F32, F64, integers and BOOL are "
                    f"what can be read: convert it to F32 where it was written."
                )
        file.seek(0)
        content = file.read(end + 1)
    try:
        if len(content) != end:
            raise SafetensorError(f"it has {len(content)} bytes now, and had {end}")
        return {name: np.array(array) for name, array in deserialize(content).items()}, metadata
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"file {_shown(path)} is no sound safetensors file: {error}.") from error


def _opened(path: FilePath) -> Any:
    """The file, open for reading bytes."""
    file = as_path("path", path)
    try:
        return file.open("rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"file {_shown(path)} does not exist: check the path.") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"path {_shown(path)} is a folder, and a file is needed.") from None


def _header(path: FilePath, file: Any) -> tuple[int, dict[str, str], dict[str, str]]:
    """The size in bytes that the header promises, once it is that of the file, its texts, and tensors' dtypes."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or not 2 <= length <= _HEADER_LIMIT or file.read(1) != b"{":
        raise ValueError(
            f"file {_shown(path)} of {size} bytes is no safetensors file: it does not begin with a header."
        )
    if 8 + length > size:
        raise ValueError(
            f"file {_shown(path)} is truncated: its header takes {length} bytes from byte 8 on, and the file "
            f"has {size} bytes."
        )
    try:
        header = json.loads(b"{" + file.read(length - 1), object_pairs_hook=_without_repeats)
        metadata = header.pop("__metadata__", {})
        sizes = [int(entry["data_offsets"][1]) for entry in header.values()]
        dtypes = {name: str(entry["dtype"]) for name, entry in header.items()}
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("metadata holds more than texts")
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise ValueError(
            f"file {_shown(path)} is no sound safetensors file: its header, from byte 8 on, is damaged "
            f"({error})."
        ) from None
    end = 8 + length + max(sizes, default=0)
    if end != size:
        what = "is truncated" if end > size else "has bytes that belong to nothing"
        raise ValueError(
            f"file {_shown(path)} {what}: its header describes {end} bytes, and the file has {size}."
        )
    return end, metadata, dtypes


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dict, unless a name in it stands twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name in it stands twice")
    return result


def model_config(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """The model that a file was saved from, {"name": ..., "arguments": {...}}, or None if it does not say."""
    try:
        config = json.loads(metadata["config"])
        name, arguments = (config[key] for key in _NAMES)
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return {"name": name, "arguments": arguments}


def _check_module(model: Any) -> None:
    if not isinstance(model, Module):
        raise TypeError(f"model is {shown(model)}, and an nn.Module is needed.")


def _shown(path: FilePath) -> str:
    """The path, quoted, for a message."""
    return repr(os.fspath(path))
