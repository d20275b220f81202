"""NPZ files: arrays read only once their sizes fit the file, and nothing unpickled."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from math import prod
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from backlit.data.images import as_images, as_labels, check_images
from backlit.data.split import Parts, split
from backlit.files import as_path
from backlit.ops.arrays import Array
from backlit.sizes import integer

FilePath = str | os.PathLike[str]
_PARTS = ("x_train", "y_train", "x_test", "y_test")
_ROOM = 1 << 28  # bytes that a file may always unfold to: 256 MiB
_RATIO = 100  # and beyond that, how many times its own size
_CHUNK = 1 << 20  # bytes read at once
_HEADER = 4096  # bytes of a .npy header; that of plain numbers takes about a hundred
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)


def load_npz(
    path: FilePath,
    x: str = "x",
    y: str = "y",
    *,
    test_every: int = 5,
    dtype: Any = np.float32,
    max_bytes: int | None = None,
) -> Parts:
    """Read labelled images from an npz file, as np.savez and np.savez_compressed write it.

    A file with the arrays x_train, y_train, x_test and y_test has its own split; any other is split here,
    every fifth image of each class to the test part.

    Args:
        path: the file.
        x, y: names of the images and labels, where the file has no split of its own. Images are (N, C, H, W),
            or (N, H, W) for one channel, of uint8 from 0 to 255, or of floats, taken as they are. Labels are
            (N,), integers from 0 on.
        test_every: as `backlit.data.split`; 0 leaves the test part empty.
        dtype: np.float32 or np.float64, of the images.
        max_bytes: how much the images and labels that are returned may take in memory. None allows 256 MiB or
            100 times the size of the file, whichever is more: what goes beyond is a decompression bomb rather
            than images.

    Returns:
        (x_train, y_train), (x_test, y_test): x (N, C, H, W) of `dtype`, where bytes 0 to 255 have become 0 to
        1; y int64 (N,).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, lacks an array, or holds what cannot be images and labels.
        TypeError: dtype or test_every is of the wrong kind.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(folder + "/a.npz", x=np.full((10, 28, 28), 255, np.uint8), y=np.zeros(10, np.uint8))
        ...     (x_train, y_train), (x_test, y_test) = load_npz(folder + "/a.npz")
        >>> x_train.shape, x_test.shape, float(x_train.max())
        ((8, 1, 28, 28), (2, 1, 28, 28), 1.0)
    """
    wanted = np.dtype(dtype)
    if wanted not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"dtype is {wanted}, and networks compute in np.float32 or np.float64.")
    there = set(array_names(path))
    own_split = not {x, y} <= there and set(_PARTS) <= there
    names = _PARTS if own_split else (x, y)
    becomes = {name: np.dtype(np.int64) if i % 2 else wanted for i, name in enumerate(names)}
    arrays = read_arrays(path, becomes, max_bytes=max_bytes)

    def labelled(images: str, labels: str) -> tuple[Array, Array]:
        where = f"file {os.fspath(path)!r}"
        samples = arrays.pop(images)
        check_images(f"{images!r} of {where}", samples, wanted)
        return samples, as_labels(f"{labels!r} of {where}", arrays.pop(labels), len(samples))

    def converted(part: tuple[Array, Array]) -> tuple[Array, Array]:
        return as_images(part[0], wanted), part[1]

    if not own_split:
        train, test = split(*labelled(x, y), test_every=test_every)  # of what was stored, which is smaller
        return converted(train), converted(test)
    train, test = converted(labelled("x_train", "y_train")), converted(labelled("x_test", "y_test"))
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ValueError(
            f"file {os.fspath(path)!r} has x_train of shape {train[0].shape} and x_test of shape "
            f"{test[0].shape}, and images of one size are needed."
        )
    return train, test


def array_names(path: FilePath) -> list[str]:
    """The names of the arrays in an npz file.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is no npz file.
    """
    with _opened(path) as archive:
        return _names(archive)


def read_arrays(
    path: FilePath, becomes: Mapping[str, np.dtype[Any]], *, max_bytes: int | None = None
) -> dict[str, Array]:
    """Read arrays of numbers from an npz file.

    Args:
        path: the file.
        becomes: name -> dtype: the arrays that are wanted, and what each will be converted to, which counts
            where that is larger than what is stored.
        max_bytes: as `load_npz` has it.

    Returns:
        name -> array, as it is stored.

    Raises:
        FileNotFoundError, ValueError: as `load_npz`; the message names the file, the array and the byte where
            it is.
    """
    file = as_path("path", path)
    room = max(_ROOM, _RATIO * file.stat().st_size) if file.is_file() else _ROOM
    if max_bytes is not None:
        room = integer("max_bytes", max_bytes, 1)
    arrays: dict[str, Array] = {}
    with _opened(path) as archive:
        there = _names(archive)
        missing = [name for name in becomes if name not in there]
        if missing:
            raise ValueError(
                f"file {os.fspath(path)!r} lacks {', '.join(map(repr, missing))}: it has "
                f"{', '.join(map(repr, there[:20])) or 'no arrays'}."
            )
        for name, dtype in becomes.items():
            member = archive.getinfo(name + ".npy")
            try:
                with archive.open(member) as content:
                    arrays[name] = _array(content, member.file_size, room, dtype.itemsize)
            except (MemoryError, FileNotFoundError):
                raise
            except (*_DAMAGE, OSError) as error:
                raise ValueError(
                    f"file {os.fspath(path)!r}, array {name!r} at byte {member.header_offset}: "
                    f"{error or 'it ends early'}."
                ) from error
            room -= arrays[name].size * max(arrays[name].itemsize, dtype.itemsize)
    return arrays


def _opened(path: FilePath) -> zipfile.ZipFile:
    """The archive, open for reading."""
    file = as_path("path", path)
    name = os.fspath(path)
    try:
        return zipfile.ZipFile(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"file {name!r} does not exist: check the path.") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"path {name!r} is a folder, and an npz file is needed.") from None
    except _DAMAGE as error:
        size = file.stat().st_size
        raise ValueError(
            f"file {name!r} of {size} bytes is truncated or no npz file: {error}. "
            f"np.savez(path, x=images, y=labels) writes one."
        ) from error


def _names(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _array(file: Any, size: int, room: int, itemsize: int) -> Array:
    """The array in a .npy member of `size` bytes, once its header promises these and `room` holds what becomes of them.

    Args:
        file: the member, from which nothing has been read yet.
        size, room: in bytes.
        itemsize: bytes that a number will have at least, once it is converted.
    """
    shape, fortran, dtype = _header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read: save plain arrays of numbers")
    if dtype.kind not in "biuf":
        raise ValueError(f"it holds {dtype}, and numbers are needed")
    promised = prod(shape) * dtype.itemsize
    if file.tell() + promised != size:
        raise ValueError(
            f"its header describes shape {shape} of {dtype}, {promised} bytes, and {size - file.tell()} are "
            f"there"
        )
    unfolded = prod(shape) * max(dtype.itemsize, itemsize)
    if unfolded > room:
        raise ValueError(
            f"it unfolds to {unfolded} bytes, and {room} are allowed for a file of this size: if that is "
            f"right, pass a larger max_bytes"
        )
    values = np.empty(prod(shape), dtype)
    target, filled = values.view(np.uint8), 0
    while filled < promised:
        chunk = file.read(min(_CHUNK, promised - filled))
        if not chunk:
            raise ValueError(f"it ends after {filled} of {promised} bytes")
        target[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    if file.read(1):  # to the end, where the checksum is compared
        raise ValueError("it goes on after its last byte")
    native = values.astype(dtype.newbyteorder("="), copy=False)
    return native.reshape(shape[::-1]).T if fortran else native.reshape(shape)


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype of a .npy file, from which nothing has been read yet."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"it is of version {version} of the npy format, and 1.0 and 2.0 are known")
    read, width = (npy.read_array_header_1_0, 2) if version == (1, 0) else (npy.read_array_header_2_0, 4)
    prefix = file.read(width)  # the number of bytes of the header
    length = int.from_bytes(prefix, "little")
    if length > _HEADER:
        raise ValueError(
            f"its header has {length} bytes, and that of an array of numbers has at most {_HEADER}"
        )
    try:
        shape, fortran, dtype = read(io.BytesIO(prefix + file.read(length)))
    except (
        TokenError,
        SyntaxError,
        RecursionError,
        MemoryError,
    ) as error:  # the header is parsed as Python's
        raise ValueError("its header is no description of an array") from error
    if any(n < 0 for n in shape):
        raise ValueError(f"its header has the shape {shape}")
    return shape, fortran, dtype
