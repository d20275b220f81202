"""Paths as arguments give them, and files written whole or not at all, whatever happens while one is written."""

from __future__ import annotations

import glob
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from backlit.sizes import shown


def as_path(name: str, value: Any) -> Path:
    """The argument `name` as a path, checked before the work whose result it is for.

    Args:
        name: what the argument is called, for the messages.
        value: a str or a path-like object that gives one.

    Raises:
        TypeError: it is something else, bytes among them.
        ValueError: it holds a NUL character, or another that names of files cannot hold here.

    Example:
        >>> as_path("out", "runs/first").name
        'first'
        >>> as_path("out", None)
        Traceback (most recent call last):
        TypeError: out is None, and a path is needed: a str or a pathlib.Path.
    """
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else value
    if not isinstance(text, str):
        raise TypeError(f"{name} is {shown(value)}, and a path is needed: a str or a pathlib.Path.")
    if "\0" in text:
        raise ValueError(f"{name} is {shown(text)}, and a path holds no NUL character: leave it out.")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(f"{name} is {shown(text)}, which this system cannot name a file.") from None
    return Path(text)


def write_atomic(path: str | os.PathLike[str], content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write a file so that a crash at any moment leaves the old content or the new, never a part of either.

    The content goes to a temporary file in the same folder, is flushed and synced, renamed over `path`, and the
    folder is synced too.

    Args:
        path: the file to write; its folder must exist.
        content: the bytes, or a function that writes them to the open binary file it is given.

    Raises:
        TypeError, ValueError: path is no name of a file.
        OSError: the folder does not exist or cannot be written to, or path is a folder, a device or a pipe; then it is
            as it was.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomic(pathlib.Path(folder, "note.txt"), b"whole")
        ...     print(pathlib.Path(folder, "note.txt").read_text())
        whole
    """
    path = _target(path)
    old = path.stat() if path.exists() else None
    prefix = f".{os.fsencode(path.name)[:200].decode(errors='ignore')}."  # a name has at most 255 bytes
    temporary = path.with_name(f"{prefix}{os.getpid()}-{secrets.token_hex(6)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(temporary, flags, 0o666 if old is None else stat.S_IMODE(old.st_mode))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"path {str(path)!r} lies in a folder that does not exist: create it first."
        ) from error
    _remove_orphans(path.parent, prefix)
    try:
        with os.fdopen(handle, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _target(path: str | os.PathLike[str]) -> Path:
    """The file that a path names, links followed, once it is known to be one that can be replaced."""
    target = Path(os.path.realpath(as_path("path", path)))
    if target.is_dir():
        raise IsADirectoryError(
            f"path {str(target)!r} is a folder, and a file is to be written: add a file name."
        )
    if target.exists() and not target.is_file():
        raise OSError(
            f"path {str(target)!r} is a device or a pipe, and a file is to be written: give another path."
        )
    return target


def _remove_orphans(folder: Path, prefix: str) -> None:
    """Remove what processes that were killed while they wrote the same file have left."""
    if os.name != "posix":  # elsewhere there is no asking whether a process lives
        return
    for orphan in folder.glob(f"{glob.escape(prefix)}*.part"):
        writer = orphan.name[len(prefix) :].partition("-")[0]
        try:
            if writer.isdecimal():
                os.kill(int(writer), 0)  # signal 0 only asks
        except ProcessLookupError:
            orphan.unlink(missing_ok=True)
        except (PermissionError, OverflowError):  # it lives, or it is no process of ours
            continue


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable, where the system can sync a folder."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
