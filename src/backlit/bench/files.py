"""The rows of a benchmark as files: JSON with the machine, or CSV."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import backlit
from backlit.bench.results import Row
from backlit.bench.run import Machine
from backlit.files import as_path, write_atomic


def checked(name: str, path: str | os.PathLike[str] | None) -> Path | None:
    """The path of a file that is to be written once everything is measured; None stays None.

    Raises:
        TypeError, ValueError, OSError: it is no path, a folder, or in a folder that does not exist.
    """
    if path is None:
        return None
    target = as_path(name, path)
    if target.is_dir():
        raise IsADirectoryError(
            f"{name} {str(path)!r} is a folder, and a file is to be written: add a file name."
        )
    if not target.absolute().parent.is_dir():
        raise FileNotFoundError(
            f"{name} {str(path)!r} lies in a folder that does not exist: create it first."
        )
    return target


def write_json(path: Path, machine: Machine, rival: str, rows: Sequence[Row]) -> None:
    """The rows, as `Row.record` has them, with the machine and the versions of both sides."""
    content = {
        "backlit": backlit.__version__,
        "rival": rival or None,
        "machine": asdict(machine),
        "rows": [{name: _plain(value) for name, value in row.record().items()} for row in rows],
    }
    write_atomic(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """The rows, as `Row.record` has them, under the names; what is not known stays empty."""
    text = io.StringIO(newline="")
    if rows:
        writer = csv.DictWriter(text, list(rows[0].record()), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.record() for row in rows)
    write_atomic(path, text.getvalue().encode())


def _plain(value: Any) -> Any:
    """The value, or None for a number that JSON cannot hold."""
    return None if isinstance(value, float) and not isfinite(value) else value
