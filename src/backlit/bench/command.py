"""`backlit bench` as one call: what to measure in, a table and files out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from backlit import engines
from backlit.bench import files
from backlit.bench.cases import cases
from backlit.bench.results import Row
from backlit.bench.run import Machine, run_bench
from backlit.bench.table import Table
from backlit.sizes import LAYOUTS, integer
from backlit.trial import PASSES

MOST_THREADS = 1024


def report_bench(
    descriptors: Sequence[str] = (),
    *,
    suites: Sequence[str] = (),
    family: str | None = None,
    against: str | None = None,
    threads: int | None = None,
    layout: str | None = None,
    passes: Sequence[str] = PASSES,
    seconds: float = 0.2,
    markdown: bool = False,
    json: str | os.PathLike[str] | None = None,
    csv: str | os.PathLike[str] | None = None,
    write: Callable[[str], Any] | None = None,
) -> list[Row]:
    """Measure problems, show a table of them as they are measured, and keep the rows.

    Args:
        descriptors, suites, family: as `cases` has them.
        against, passes, seconds: as `run_bench` has them.
        threads: how many either side may use, here from now on; None for `engines.get_num_threads()`.
        layout: ours; None for the faster one.
        markdown: show a Markdown table.
        json, csv: files for the rows. They are written even where Ctrl-C ends it all.
        write: takes each line; None writes to stdout.

    Returns:
        The rows. Those whose `trouble` is not empty have wrong results.

    Raises:
        TypeError, ValueError, ImportError, OSError: an argument is wrong, or PyTorch is not installed.

    Example:
        >>> rows = report_bench(["conv1d:n1,c1-1,i8,k3"], seconds=0.001, write=lambda line: None)
        >>> [row.name for row in rows]
        ['forward', 'dx', 'dw']
    """
    wanted = cases(descriptors, suites, family)
    if threads is not None:
        if integer("threads", threads, 1) > MOST_THREADS:
            raise ValueError(f"threads is {threads}, and it has to be at most {MOST_THREADS}.")
        engines.set_num_threads(threads)
    json_path, csv_path = files.checked("json", json), files.checked("csv", csv)
    table = Table(
        rival=against is not None,
        width=max(len(str(case.geometry)) for case in wanted),
        markdown=markdown,
        write=write,
    )
    begun: list[tuple[Machine, str]] = []

    def begin(machine: Machine, rival: str) -> None:
        begun.append((machine, rival))
        table.head(str(machine), rival, machine.warning)

    rows: list[Row] = []
    layouts = LAYOUTS if layout is None else (layout,)
    try:
        for row in run_bench(
            wanted, against=against, layouts=layouts, passes=passes, seconds=seconds, begin=begin
        ):
            rows.append(row)
            table.row(row)
    finally:
        if rows and json_path:
            files.write_json(json_path, *begun[0], rows)
        if rows and csv_path:
            files.write_csv(csv_path, rows)
    table.foot(rows)
    return rows
