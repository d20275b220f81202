"""The table of networks by name, and a network made again from the file that it was saved to."""

from __future__ import annotations

import os
from inspect import signature
from typing import Any

import numpy as np

from backlit.models.digitsnet import DigitsNet
from backlit.models.lenet import LeNet5
from backlit.nn.module import Module
from backlit.nn.storage import FilePath, fill, model_config, read_tensors
from backlit.sizes import shown

_MODELS: dict[str, type[DigitsNet] | type[LeNet5]] = {"digits": DigitsNet, "lenet5": LeNet5}


def names() -> list[str]:
    """The names that `create` and the command line take.

    Example:
        >>> names()
        ['digits', 'lenet5']
    """
    return sorted(_MODELS)


def create(name: str, **arguments: Any) -> Module:
    """A new network.

    Args:
        name: one of `names()`.
        **arguments: of the class, such as classes, in_channels and image_size.

    Raises:
        ValueError: there is no network of this name, or an argument is out of range.
        TypeError: an argument is of the wrong kind, or there is none of its name.

    Example:
        >>> type(create("lenet5", classes=26)).__name__
        'LeNet5'
    """
    network = _class(name)
    known = list(signature(network).parameters)
    for argument in arguments:
        if argument not in known:
            raise TypeError(f"{name} has no argument {shown(argument)}: it takes {', '.join(known)}.")
    return network(**arguments)


def smallest_image(name: str) -> int:
    """The height and width that images need at least for a network.

    Args:
        name: one of `names()`.

    Raises:
        ValueError: there is no network of this name.

    Example:
        >>> smallest_image("lenet5")
        12
    """
    return _class(name).smallest


def _class(name: str) -> type[DigitsNet] | type[LeNet5]:
    """The class of the network of this name."""
    if not isinstance(name, str) or name not in _MODELS:
        raise ValueError(f"name is {shown(name)}, and the networks are {', '.join(map(repr, names()))}.")
    return _MODELS[name]


def load_model(path: FilePath) -> Module:
    """A network from a file that `backlit.save` wrote, built from the name and arguments in the file.

    Nothing in a file is ever executed: its name is looked up in the table, its arguments are numbers.

    Args:
        path: the file.

    Returns:
        The network, in evaluation mode, of the dtype that was saved.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, does not say which network it holds, or holds another one than it
            says.

    Example:
        >>> import tempfile
        >>> from backlit import nn
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     nn.storage.save(DigitsNet(), folder + "/m.safetensors")
        ...     type(load_model(folder + "/m.safetensors")).__name__
        'DigitsNet'
    """
    arrays, metadata = read_tensors(path)
    config, shown_path = model_config(metadata), repr(os.fspath(path))
    if config is None:
        raise ValueError(
            f"file {shown_path} does not say which network it holds: make the network yourself and read the "
            f"file into it, backlit.load(model, path)."
        )
    room = sum(array.size for array in arrays.values())
    try:
        model = create(config["name"], **_modest(config["arguments"], room))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"file {shown_path} holds a network that cannot be made here: {error}") from error
    if any(array.dtype == np.float64 for array in arrays.values()):
        model.astype(np.float64)
    fill(model, path, arrays, metadata)
    return model.eval()


def _modest(arguments: dict[str, Any], room: int) -> dict[str, Any]:
    """The arguments, once no size in them is beyond the number of values in the file, as a lie would be."""
    for name, value in arguments.items():
        for size in value if isinstance(value, list) else [value]:
            if isinstance(size, (int, float)) and not abs(size) <= room:
                raise ValueError(
                    f"its argument {shown(name)} is {shown(value)}, and its arrays hold {room} values."
                )
    return arguments
