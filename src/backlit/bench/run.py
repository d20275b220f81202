"""A benchmark from beginning to end: problem by problem and pass by pass, checked first and timed then."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any

from backlit import engines
from backlit.bench import ours
from backlit.bench.cases import Case
from backlit.bench.results import AGREEMENT, Row, Timing
from backlit.bench.rival import SIDES, Rival, RivalError, need_torch
from backlit.bench.turns import Contender, take_turns
from backlit.engines import module
from backlit.sizes import LAYOUTS, check_layout, shown
from backlit.trial import PASSES, one_call, samples

_FRAMEWORKS = ("torch",)
_OURS = "ours"
_GRANTED = 0.9  # of the processor time: what is missing otherwise is the clock's and the measurement's own


@dataclass(frozen=True)
class Machine:
    """Where a benchmark runs.

    Args:
        processor: its name.
        threads: how many each side may use.
        peak: GFLOP/s in float32 of so many threads, measured; None without the native module.
        bandwidth: GB/s between the memory and so many threads, measured; None likewise.
        granted: the share of the processor time that so many threads asked for and got while the peak was measured;
            None likewise. Far below 1, other programs were running.
    """

    processor: str
    threads: int
    peak: float | None
    bandwidth: float | None
    granted: float | None

    def __str__(self) -> str:
        facts = [self.processor, f"{self.threads} thread{'s' * (self.threads > 1)}"]
        if self.peak is not None:
            facts.append(f"peak {self.peak:.0f} GFLOP/s in float32")
        if self.bandwidth is not None:
            facts.append(f"memory {self.bandwidth:.0f} GB/s")
        return ", ".join(facts)

    @property
    def warning(self) -> str:
        """A sentence where other programs take so much that no time can be trusted; else ""."""
        if self.granted is None or self.granted >= _GRANTED:
            return ""
        return (
            f"Other programs are running: threads got {100 * self.granted:.0f} % of the processor time that they asked "
            f"for. Times are too long, and ratios uncertain."
        )


def machine() -> Machine:
    """The machine, with what it can do at most on as many threads as computations use; takes half a second.

    Example:
        >>> machine().threads == engines.get_num_threads()
        True
    """
    threads = engines.get_num_threads()
    start, used = time.perf_counter(), time.process_time()
    peak = module.peak(threads)
    asked = threads * (time.perf_counter() - start)
    granted = None if peak is None else (time.process_time() - used) / asked
    try:
        bandwidth = module.bandwidth(threads)
    except MemoryError:
        bandwidth = None
    return Machine(engines.processor().name, threads, peak, bandwidth, granted)


def run_bench(
    cases: Sequence[Case],
    *,
    against: str | None = None,
    layouts: Sequence[str] = LAYOUTS,
    passes: Collection[str] = PASSES,
    seconds: float = 0.2,
    begin: Callable[[Machine, str], Any] = lambda machine, rival: None,
) -> Iterator[Row]:
    """Measure the passes of each problem, one row at a time.

    Each pass is timed in every layout, and the faster one counts; so it is with PyTorch's memory formats. All of them
    take turns, and what counts is the median of the calls of each.

    Args:
        cases: the problems.
        against: "torch" to time PyTorch beside; None for ours alone.
        layouts: our layouts to try.
        passes: of "forward", "dx" and "dw" those to measure.
        seconds: how long to measure each side in each layout, for each pass.
        begin: called first, with the machine and the name and version of the rival, "" without one.

    Raises:
        ValueError: no such framework, pass or layout; seconds is not above 0.
        ImportError: PyTorch is not installed.

    Example:
        >>> from backlit.bench.cases import cases
        >>> rows = run_bench(cases(["conv1d:n1,c1-1,i8,k3"]), passes=["forward"], seconds=0.001)
        >>> [(row.name, row.error < 1e-6) for row in rows]
        [('forward', True)]
    """
    _check(against, layouts, passes, seconds)
    return _measured(cases, against, layouts, [name for name in PASSES if name in passes], seconds, begin)


def _measured(
    cases: Sequence[Case],
    against: str | None,
    layouts: Sequence[str],
    passes: Sequence[str],
    seconds: float,
    begin: Callable[[Machine, str], Any],
) -> Iterator[Row]:
    here = machine()
    with ExitStack() as stack:
        rivals = [Rival(side, here.threads) for side in SIDES] if against else []
        for rival in rivals:
            stack.callback(rival.close)
            try:
                rival.start()
            except RivalError as error:
                raise ImportError(f"{error}.") from error
        begin(here, f"PyTorch {rivals[0].version}" if rivals else "")
        for case in cases:
            yield from _rows(case, rivals, layouts, passes, seconds, here)


def _rows(
    case: Case,
    rivals: Sequence[Rival],
    layouts: Sequence[str],
    passes: Sequence[str],
    seconds: float,
    here: Machine,
) -> Iterator[Row]:
    """The rows of one problem. Where PyTorch fails, ours are timed alone from there on, and the rows say so."""
    problems = {layout: ours.Convolution(case.geometry, layout) for layout in layouts}
    exact = ours.exact(case.geometry)
    formats: list[str] = []
    note = ""
    try:
        for rival in rivals:
            formats = rival.open(case.geometry)
    except RivalError as error:
        note = f"{error}."
    for name in passes:
        expected = exact(name)
        errors = {layout: ours.relative_error(p.result(name), expected) for layout, p in problems.items()}
        best, torch_error = {}, None
        if formats and not note:
            try:
                torch_error = max(ours.relative_error(rivals[0].result(name, f), expected) for f in formats)
                best = take_turns([*_ours(problems, name), *_theirs(rivals, formats, name)], seconds)
            except RivalError as error:
                note = f"{error}."
        best = best or take_turns(_ours(problems, name), seconds)
        times = {
            side: Timing(winner.seconds, winner.layout, min(winner.taken)) for side, winner in best.items()
        }
        layout = times[_OURS].layout
        yield Row(
            geometry=case.geometry,
            family=case.family,
            name=name,
            threads=here.threads,
            ours=times[_OURS],
            algorithm=problems[layout].algorithm(name),
            peak=here.peak,
            error=errors[layout],
            called=times.get("called"),
            kept=times.get("kept"),
            torch_error=torch_error,
            note=note,
            trouble=_disagreement(errors, torch_error),
        )


def _ours(problems: dict[str, ours.Convolution], name: str) -> list[Contender]:
    """Our ways to compute a pass."""
    runs = [(layout, problem.run(name)) for layout, problem in problems.items()]
    return [Contender(_OURS, layout, partial(one_call, run), partial(samples, run)) for layout, run in runs]


def _theirs(rivals: Sequence[Rival], formats: Sequence[str], name: str) -> list[Contender]:
    """PyTorch's ways to compute a pass."""
    return [
        Contender(r.side, f, partial(r.one_call, name, f), partial(r.samples, name, f))
        for r in rivals
        for f in formats
    ]


def _disagreement(errors: dict[str, float], torch_error: float | None) -> str:
    """A sentence where a result is further from the one in float64 than rounding explains; else ""."""
    sides = {f"ours in {layout}": error for layout, error in errors.items()}
    if torch_error is not None:
        sides["PyTorch's"] = torch_error
    wrong = [
        f"{side} is off by {error:.1e} of the RMS" for side, error in sides.items() if not error <= AGREEMENT
    ]
    return f"The results disagree with float64: {', '.join(wrong)}." if wrong else ""


def _check(against: str | None, layouts: Sequence[str], passes: Collection[str], seconds: float) -> None:
    """Raise where an argument is wrong, before anything is measured."""
    if against not in (None, *_FRAMEWORKS):
        raise ValueError(f"against is {shown(against)}, and it has to be {' or '.join(_FRAMEWORKS)}.")
    for layout in layouts:
        check_layout(layout)
    for name in passes:
        if name not in PASSES:
            raise ValueError(f"passes has {shown(name)}, and the passes are {', '.join(PASSES)}.")
    if not layouts or not passes:
        raise ValueError("passes and layouts need at least one each: leave them out for all.")
    if not (isfinite(seconds) and seconds > 0):
        raise ValueError(f"seconds is {seconds}, and a number above 0 is needed, such as 0.2.")
    if against:
        need_torch()
