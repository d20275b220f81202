"""Checkpoints: all that a training run has to know to go on as if it had never stopped, in one safetensors file."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from backlit.files import write_atomic
from backlit.ops.arrays import Array
from backlit.sizes import shown

FORMAT = "backlit-training"  # the key of all metadata: safetensors writes several in random order
VERSION = 1

_CRC_BLOCK = 1 << 24  # bytes that are copied at a time


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a run at a batch boundary.

    Attributes:
        model: the model's state_dict, buffers included.
        optimizer: the arrays of the optimiser's state_dict.
        order: the order of the samples in the epoch that has begun; empty between two epochs.
        settings: what makes this run this run: its data, model and arguments, as text and numbers.
        progress: where it stands: epochs and steps done, the sums of the epoch so far, the rows of the history, the
            state of the random generator and the scalars of the optimiser; anything that JSON can hold.
    """

    model: dict[str, Array]
    optimizer: dict[str, Array]
    order: Array
    settings: dict[str, Any]
    progress: dict[str, Any]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write it so that a crash at any moment leaves the old file or the new one, whole.

        The same checkpoint gives the same bytes.

        Raises:
            OSError: it cannot be written; the message names it, and the file that was there is as it was.
        """
        from safetensors.numpy import save

        tensors = {f"model/{name}": array for name, array in self.model.items()}
        tensors |= {f"optimizer/{name}": array for name, array in self.optimizer.items()}
        tensors["order"] = self.order
        tensors = {name: np.asarray(array, order="C") for name, array in tensors.items()}
        run = json.dumps({"settings": self.settings, "progress": self.progress})
        about = {"version": VERSION, "crc32": _checksum(run, tensors), "run": run}
        try:
            write_atomic(path, save(tensors, {FORMAT: json.dumps(about)}))
        except OSError as error:
            problem = type(error)(
                f"checkpoint {os.fspath(path)!r} cannot be written ({error.strerror or error}): the one before, if "
                f"there was one, is as it was; make room or give another path, and resume."
            )
            problem.errno = error.errno
            raise problem from error

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Read what `write` wrote, and nothing else.

        Raises:
            ValueError: the file is damaged, or is no checkpoint of a training run; the message names it.
            OSError: it cannot be read.
        """
        from safetensors import SafetensorError, safe_open

        name = os.fspath(path)
        Path(path).open("rb").close()  # so that a file that cannot be read is an OSError
        try:
            with safe_open(name, framework="np") as file:
                metadata = file.metadata() or {}
                if FORMAT in metadata:
                    tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it has no __iter__
        except (SafetensorError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise damaged(name, str(error)) from error
        if FORMAT not in metadata:
            raise ValueError(
                f"checkpoint {name!r} is a safetensors file, but no checkpoint of a training run: "
                f"give another path, or resume=False to write over it."
            )
        about = _object(name, metadata[FORMAT], ())
        if about.get("version") != VERSION:
            raise ValueError(
                f"checkpoint {name!r} has version {shown(about.get('version'))}, and this backlit reads {VERSION}: "
                f"resume it with the backlit that wrote it, or begin anew with resume=False."
            )
        run = about.get("run")
        if not isinstance(run, str) or _checksum(run, tensors) != about.get("crc32"):
            raise damaged(name, "its content does not match its checksum")
        facts = _object(name, run, ("settings", "progress"))
        if "order" not in tensors:
            raise damaged(name, "it lacks the order of the samples")
        return cls(
            model=_under("model/", tensors),
            optimizer=_under("optimizer/", tensors),
            order=tensors["order"],
            settings=facts["settings"],
            progress=facts["progress"],
        )

    def require_same(self, settings: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
        """Raise a ValueError that says what differs, unless the run was begun with these settings."""
        differences = [
            _difference(name, self.settings.get(name), now)
            for name, now in json.loads(json.dumps(dict(settings))).items()
            if self.settings.get(name) != now
        ]
        if differences:
            raise ValueError(
                f"checkpoint {os.fspath(path)!r} belongs to another run: {'; '.join(differences)}. "
                f"Resume with what that run was begun with, or begin anew with resume=False, which writes over it."
            )


def damaged(path: str | os.PathLike[str], reason: str) -> ValueError:
    """The error of a file that is no checkpoint, or no longer one."""
    return ValueError(
        f"checkpoint {os.fspath(path)!r} is damaged or no checkpoint ({reason}): give another path, or begin anew "
        f"with resume=False, which writes over it."
    )


def data_fingerprint(x: Array, y: Array) -> str:
    """Text that differs for other data: dtypes, shapes and one CRC-32 over both arrays."""
    crc = _crc(y, _crc(x, 0))
    return f"x {x.dtype} {x.shape}, y {y.dtype} {y.shape}, crc32 {crc:08x}"


def model_fingerprint(model: object, state: Mapping[str, Array]) -> str:
    """Text that differs for another model: its repr, and name, dtype and shape of each of its arrays."""
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(model))
    return "\n".join([text, *(f"{name} {array.dtype} {array.shape}" for name, array in state.items())])


def _difference(name: str, before: Any, now: Any) -> str:
    """One sentence part that says what `name` was and is; of long texts, the first line that differs."""
    if isinstance(before, str) and isinstance(now, str) and "\n" in before + now:
        pairs = zip_longest(before.splitlines(), now.splitlines(), fillvalue="nothing")
        old, new = next((a, b) for a, b in pairs if a != b)
        return f"{name} had `{old.strip()}` where it now has `{new.strip()}`"
    return f"{name} was {before} and is now {now}"


def _object(name: str, text: str, parts: tuple[str, ...]) -> dict[str, Any]:
    """The JSON object in a text, with an object under each of the names `parts`."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(name, f"its metadata are no JSON: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(part), dict) for part in parts):
        raise damaged(name, "its metadata are not those of a checkpoint")
    return content


def _under(prefix: str, tensors: Mapping[str, Array]) -> dict[str, Array]:
    return {name[len(prefix) :]: array for name, array in tensors.items() if name.startswith(prefix)}


def _checksum(run: str, tensors: Mapping[str, Array]) -> str:
    """A CRC-32 over the facts and over name, dtype, shape and content of every array."""
    crc = zlib.crc32(run.encode())
    for name in sorted(tensors):
        array = tensors[name]
        crc = _crc(array, zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), crc))
    return f"{crc:08x}"


def _crc(array: Array, crc: int) -> int:
    """The CRC-32 of an array's elements in row-major order, whatever its strides, in bounded memory."""
    rows = np.atleast_1d(array)
    count = max(1, _CRC_BLOCK * len(rows) // max(rows.nbytes, 1))
    for start in range(0, len(rows), count):
        crc = zlib.crc32(rows[start : start + count].tobytes(), crc)
    return crc
