"""The benchmark: which problems it takes, how it takes turns, what it shows, and that both sides compute the same."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import backlit as bl
from backlit import trial
from backlit.bench import (
    Machine,
    Row,
    Timing,
    cases,
    geometric_means,
    kind,
    report_bench,
    run_bench,
    suite,
    suite_names,
)
from backlit.bench import ours as our_side
from backlit.bench import rival as rival_side
from backlit.bench.results import operations
from backlit.bench.rival import Rival, RivalError
from backlit.bench.table import COLUMNS, LEGEND, Table, number
from backlit.bench.turns import ROUNDS, Contender, take_turns
from backlit.cli import main
from backlit.engines import module
from tolerance import assert_close, tolerance

TINY = "conv2d:n2,c3-4,i6x5,k3x2,p1"
WITHOUT = {"rival": False, "width": 30}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run side by side already."""
    monkeypatch.setenv("BACKLIT_NUM_THREADS", "1")


def row(
    descriptor: str = TINY,
    name: str = "forward",
    *,
    family: str = "",
    ours: float = 1e-3,
    called: float | None = None,
    kept: float | None = None,
    **rest: Any,
) -> Row:
    """A row with the given seconds."""
    return Row(
        bl.ConvGeometry.parse(descriptor),
        family,
        name,
        threads=1,
        ours=Timing(ours, "channels_last"),
        algorithm="gemm im2col",
        peak=rest.pop("peak", 100.0),
        error=rest.pop("error", 2e-7),
        called=None if called is None else Timing(called, "contiguous"),
        kept=None if kept is None else Timing(kept, "channels_last"),
        **rest,
    )


def shown(rows: Sequence[Row], **options: Any) -> list[str]:
    """The lines of a table of rows."""
    lines: list[str] = []
    table = Table(**{"rival": True, "width": 30, "write": lines.append, **options})
    table.head("a machine", "PyTorch")
    for one in rows:
        table.row(one)
    table.foot(rows)
    return lines


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that ends as a usage error."""
    assert main(arguments) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.count("\n") == 1
    return errors


# What is measured


@pytest.mark.parametrize("name", suite_names())
def test_suite_has_each_of_its_layers_once(name: str) -> None:
    geometries = [case.geometry for case in suite(name)]
    assert len(set(geometries)) == len(geometries) > 0


@pytest.mark.parametrize("name", suite_names())
def test_suite_names_a_family_for_each_layer(name: str) -> None:
    assert all(case.family for case in suite(name))


def test_suite_all_holds_every_other() -> None:
    everything = {case.geometry for case in suite("all")}
    assert everything == {case.geometry for name in suite_names()[1:] for case in suite(name)}


def test_cases_of_a_family_are_those_whose_name_contains_it() -> None:
    found = cases(suites=["layers"], family="VGG-16")
    assert {case.family for case in found} == {"VGG-16 N=4"}
    assert len(found) == 9


def test_cases_come_once_however_often_they_are_asked_for() -> None:
    assert len(cases([TINY, TINY], ["quick", "quick"])) == 1 + len(suite("quick"))


@pytest.mark.parametrize(
    ("descriptor", "expected"),
    [
        ("conv2d:n1,c1-1,i3x3,k2x2", "tiny"),
        ("conv2d:n8,c64-64,i7x7,k3x3,p1", "3x3, 64+ channels"),
        ("conv2d:n64,c64-64,i4x4,k3x3,p1", "3x3 on small images"),
        ("conv2d:n128,c16-16,i32x32,k3x3,p1", "3x3, fewer channels"),
        ("conv2d:n128,c32-64,i16x16,k3x3,s2,p1", "strided"),
        ("conv2d:n128,c32-64,i16x16,k1x1,s2", "1x1 strided"),
        ("conv2d:n128,c32-64,i16x16,k1x1", "1x1"),
        ("conv2d:n64,c3-64,i32x32,k3x3,p1", "first layer"),
        ("conv2d:n64,c64-64,g64,i32x32,k3x3,p1", "depthwise"),
        ("conv2d:n64,c64-64,g4,i32x32,k3x3,p1", "grouped"),
        ("conv2d:n64,c64-64,i32x32,k5x5,p2", "other"),
        ("conv1d:n8,c64-64,i4096,k3,p1", "1-D"),
        ("conv3d:n2,c64-64,i8x28x28,k3x3x3", "3-D"),
        ("convT2d:n8,c64-64,i28x28,k2x2,s2", "transposed"),
    ],
)
def test_kind_of(descriptor: str, expected: str) -> None:
    assert kind(bl.ConvGeometry.parse(descriptor)) == expected


# Numbers


@pytest.mark.parametrize(
    ("descriptor", "expected"),
    [
        ("conv2d:n1,c1-1,i3x3,k2x2", 2 * 4 * 4),
        ("conv2d:n3,c4-6,g2,i5x5,k3x3,s2,p1", 2 * 3 * 9 * 6 * 2 * 9),
        ("convT1d:n2,c3-5,i4,k3,s2", 2 * 2 * 4 * 3 * 5 * 3),  # every input meets every tap
    ],
)
def test_operations_count_the_whole_kernel(descriptor: str, expected: int) -> None:
    assert operations(bl.ConvGeometry.parse(descriptor)) == expected


def test_row_ratios_tell_how_many_times_as_fast() -> None:
    one = row(ours=2e-3, called=6e-3, kept=1e-3)
    assert (one.ratio("called"), one.ratio("kept")) == (3.0, 0.5)


def test_row_share_is_of_the_peak() -> None:
    one = row("conv2d:n1,c1-1,i3x3,k2x2", ours=32e-9, peak=2.0)  # 32 operations in 32 ns
    assert_close([one.gflops, one.share], [1.0, 0.5], 4)
    assert row(peak=None).share is None


def test_geometric_means_are_by_key_and_pass() -> None:
    rows = [
        row(family="a", called=2e-3, kept=1e-3),
        row(family="a", called=8e-3, kept=1e-3),
        row(name="dx", family="a", called=3e-3, kept=1e-3),
        row(family="b", called=5e-3, kept=1e-3),
        row(family="c"),
    ]
    means = geometric_means(rows, lambda r: r.family, "called")
    assert {key: list(found) for key, found in means.items()} == {"a": ["forward", "dx"], "b": ["forward"]}
    assert_close([means["a"]["forward"], means["a"]["dx"], means["b"]["forward"]], [4.0, 3.0, 5.0], 8)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.99951, "1.00"),
        (0.0012345, "0.00123"),
        (99.96, "100"),
        (12345.6, "12346"),
        (0.0, "0.00"),
        (None, "-"),
    ],
)
def test_number_has_three_digits_and_no_exponent(value: float | None, text: str) -> None:
    assert number(value) == text


# Taking turns


class Clocked:
    """A contender that notes when it is asked, and takes what it is told."""

    def __init__(self, log: list[Any], side: str, layout: str, seconds: Sequence[float]) -> None:
        self._log, self._name, self._seconds = log, f"{side} {layout}", iter(seconds)
        first = seconds[0]
        self.contender = Contender(side, layout, lambda: (first, 1), self._samples)

    def _samples(self, calls: int, count: int, limit: float) -> list[float]:
        self._log.append(self._name)
        return [next(self._seconds)] * count


def test_turns_alternate_between_sides_with_a_pause_before_each() -> None:
    log: list[Any] = []
    contenders = [Clocked(log, side, "a", [1.0] * ROUNDS).contender for side in ("ours", "theirs")]
    take_turns(contenders, 0.1, sleep=lambda seconds: log.append(None))
    assert (
        log[2:] == [None, "ours a", None, "theirs a"] * 3
    )  # one call takes longer than there is: three rounds


def test_turns_go_on_for_as_long_as_is_asked_for() -> None:
    log: list[Any] = []
    contender = Clocked(log, "ours", "a", [0.01] * ROUNDS).contender
    take_turns([contender], 0.14, sleep=lambda seconds: None)
    assert len(log) == ROUNDS
    assert len(contender.taken) == 2 * ROUNDS


def test_turns_result_is_the_median_of_all_samples() -> None:
    contender = Clocked([], "ours", "a", [1.0, 9.0, 2.0]).contender
    assert take_turns([contender], 0.1, sleep=lambda seconds: None)["ours"].seconds == 2.0


def test_turns_keep_the_faster_layout_and_give_up_the_slower() -> None:
    log: list[Any] = []
    slow = Clocked(log, "ours", "slow", [2.0] * ROUNDS).contender
    fast = Clocked(log, "ours", "fast", [1.0] * ROUNDS).contender
    assert take_turns([slow, fast], 0.1, sleep=lambda seconds: None)["ours"].layout == "fast"
    assert log.count("ours slow") == 2
    assert log.count("ours fast") == 3


def test_samples_leave_the_first_series_out() -> None:
    calls = []
    taken = trial.samples(lambda: calls.append(0), calls=4, count=3, limit=math.inf)
    assert (len(taken), len(calls)) == (3, 16)


def test_samples_end_with_the_time_but_not_without_one() -> None:
    assert len(trial.samples(lambda: None, calls=1, count=1000, limit=0)) == 1


def test_one_call_asks_for_as_many_calls_as_last_long_enough() -> None:
    seconds, calls = trial.one_call(lambda: sum(range(1000)), shortest=1e-3)
    assert seconds > 0
    assert calls > 1


# Our side


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize(
    "descriptor", [TINY, "conv1d:n2,c4-6,g2,i9,k3,s2", "convT2d:n2,c4-6,g2,i4x3,k3x2,s2,o1"]
)
@pytest.mark.parametrize("name", trial.PASSES)
def test_ours_gives_the_same_result_in_every_layout(name: str, descriptor: str, layout: str) -> None:
    geometry = bl.ConvGeometry.parse(descriptor)
    expected = our_side.exact(geometry)(name)
    actual = our_side.Convolution(geometry, layout).result(name)
    assert_close(actual, expected.astype(np.float32), 2 * 9 * 6 * 2)


def test_relative_error_is_infinite_for_another_shape() -> None:
    assert our_side.relative_error(np.ones(2), np.ones(3)) == math.inf


def test_relative_error_of_nothing_is_zero_only_for_nothing() -> None:
    assert our_side.relative_error(np.zeros(2), np.zeros(2)) == 0
    assert our_side.relative_error(np.ones(2), np.zeros(2)) == math.inf


# The whole of it


def test_bench_measures_every_pass_with_rounding_errors_alone() -> None:
    rows = list(run_bench(cases([TINY, "convT1d:n2,c3-4,i7,k3,s2,o1"]), seconds=1e-3))
    assert [one.name for one in rows] == [*trial.PASSES] * 2
    for one in rows:
        assert one.ours.seconds > 0
        assert 0 < one.error < tolerance("float32", 100)
        assert (one.called, one.kept, one.note, one.trouble) == (None, None, "", "")


def test_bench_measures_only_the_passes_and_the_layout_that_are_asked_for() -> None:
    rows = list(run_bench(cases([TINY]), passes=["dw", "forward"], layouts=["channels_last"], seconds=1e-3))
    assert [(one.name, one.ours.layout) for one in rows] == [
        ("forward", "channels_last"),
        ("dw", "channels_last"),
    ]


def test_bench_names_the_algorithm_that_is_forced() -> None:
    with bl.engines.use("loops"):
        rows = list(run_bench(cases(["conv1d:n1,c1-1,i5,k3"]), passes=["dx"], seconds=1e-3))
    assert [one.algorithm for one in rows] == ["loops definition"]


def test_bench_calls_a_wrong_result_an_error_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = our_side.Convolution.result

    def spoilt(self: Any, name: str) -> Any:
        array = result(self, name)
        if array.dtype == np.float32:
            array.flat[0] += 1
        return array

    monkeypatch.setattr(our_side.Convolution, "result", spoilt)
    assert main(["bench", TINY, "--passes", "dx", "--seconds", "0.001"]) == 1
    assert (
        "  ERROR: The results disagree with float64: ours in channels_first is off by "
        in capsys.readouterr().out
    )


def test_bench_counts_nan_as_a_wrong_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(our_side, "relative_error", lambda array, expected: math.nan)
    (one,) = run_bench(cases([TINY]), passes=["dx"], seconds=1e-3)
    assert "off by nan" in one.trouble


def test_bench_measures_the_machine_with_the_native_module() -> None:
    peaks: list[float | None] = []
    list(
        run_bench(
            cases([TINY]), passes=["dx"], seconds=1e-3, begin=lambda here, rival: peaks.append(here.peak)
        )
    )
    assert (peaks[0] is not None) == module.available()


@pytest.mark.parametrize(("granted", "warned"), [(None, False), (1.0, False), (0.95, False), (0.5, True)])
def test_machine_warns_where_other_programs_run(granted: float | None, warned: bool) -> None:
    warning = Machine("a processor", 4, 400.0, 50.0, granted).warning
    assert bool(warning) == warned
    assert not warned or "threads got 50 % of the processor time that they asked for" in warning


@pytest.mark.native
def test_bench_peak_of_float32_is_above_that_of_float64() -> None:
    single, double = module.peak(1, "float32", 0.1), module.peak(1, "float64", 0.1)
    assert single is not None
    assert double is not None
    assert single > double > 0


@pytest.mark.native
def test_bench_bandwidth_is_measured() -> None:
    bandwidth = module.bandwidth(1, 0.01)
    assert bandwidth is not None
    assert bandwidth > 0


def test_bench_without_the_native_module_knows_no_peak(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_load", lambda: (None, "it was not built"))
    with bl.engines.use("gemm"):
        assert main(["bench", TINY, "--passes", "dx", "--seconds", "0.001"]) == 0
    title, line = (
        line for line in capsys.readouterr().out.splitlines() if line.startswith(("layer", "conv2d"))
    )
    assert line[title.index("peak") : title.index("peak") + 4].strip() == "-"


# What is shown


def test_table_has_every_column_against_torch() -> None:
    line = next(line for line in shown([]) if line.startswith("layer"))
    assert line.split() == ["layer", *(column.title for column in COLUMNS)]


def test_table_leaves_out_what_only_a_rival_has() -> None:
    line = next(line for line in shown([row()], rival=False) if line.startswith("layer"))
    assert line.split() == ["layer", "pass", "ms", "GFLOP/s", "peak", "error", "ours", "algorithm"]


def test_table_row_shows_the_ratios_and_the_layouts() -> None:
    line = shown([row("conv2d:n1,c1-1,i3x3,k2x2", ours=32e-9, called=96e-9, kept=16e-9, peak=2.0)])[4]
    assert line.split() == [
        "conv2d:n1,c1-1,i3x3,k2x2,s1,p0", "forward", "0.0000320", "1.00", "50", "%", "3.00", "0.500", "2.0e-07",
        "last", "first/last", "gemm", "im2col",
    ]  # fmt: skip


def test_table_ends_with_the_means_by_kind_and_family() -> None:
    rows = [
        row("conv2d:n8,c64-64,i28x28,k3x3,p1", family="x", called=2e-3, kept=1e-3),
        row("conv2d:n8,c64-64,i14x14,k3x3,p1", family="y", called=8e-3, kept=4e-3),
        row("conv2d:n8,c64-64,i14x14,k1x1", "dx", family="y", called=8e-3, kept=3e-3),
    ]
    lines = [" ".join(line.split()) for line in shown(rows)]
    assert "3x3, 64+ channels 2 4.00 / 2.00 (1.00) -" in lines
    assert "1x1 1 - 8.00 / 3.00 (3.00)" in lines
    assert "y 2 8.00 / 4.00 (4.00) 8.00 / 3.00 (3.00)" in lines


def test_table_says_why_pytorch_was_not_timed() -> None:
    lines = shown([row(note="PyTorch never crops."), row(name="dx", note="PyTorch never crops.")])
    assert lines.count(f"{row().geometry}: PyTorch never crops. It was not timed there.") == 1


def test_table_as_markdown_has_as_many_cells_in_every_line() -> None:
    lines = [line for line in shown([row(called=1e-3, kept=1e-3)], markdown=True) if line.startswith("|")]
    tables = [lines[:3], lines[3:]]
    for head, rule, *body in tables:
        assert len({line.count("|") for line in (head, rule, *body)}) == 1
        assert set(rule) <= set("|-: ")
        assert body


def test_table_in_a_terminal_has_a_heading_for_each_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    console = Console(record=True, force_terminal=True, width=60, file=open_nothing())
    monkeypatch.setattr("backlit.bench.table._terminal", lambda: console)
    table = Table(rival=True)
    for name in trial.PASSES:
        table.row(row(name=name, family="a network", called=2e-3, kept=0.5e-3))
    lines = console.export_text().splitlines()
    assert lines[0] == f"{row().geometry}  a network"
    assert [line.split()[0] for line in lines[1:]] == [*trial.PASSES]


def open_nothing() -> Any:
    import io

    return io.StringIO()


def test_table_legend_explains_the_columns() -> None:
    assert [line for line in shown([row(called=1.0, kept=1.0)]) if line in LEGEND] == [*LEGEND]


# Files


def test_bench_keeps_its_rows_as_json_and_csv(tmp_path: Path) -> None:
    paths = {"json": tmp_path / "rows.json", "csv": tmp_path / "rows.csv"}
    rows = report_bench([TINY], passes=["dx"], seconds=1e-3, write=lambda line: None, **paths)
    content = json.loads(paths["json"].read_text())
    assert content["rows"] == [one.record() for one in rows]
    assert content["machine"]["threads"] == bl.get_num_threads()
    (record,) = csv.DictReader(paths["csv"].read_text().splitlines())
    assert (record["descriptor"], record["pass"], record["torch_called_ms"]) == (
        str(row().geometry),
        "dx",
        "",
    )
    assert float(record["ms"]) == 1e3 * rows[0].ours.seconds


def test_bench_keeps_the_rows_of_a_run_that_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, begin: Any, **options: Any) -> Any:
        from backlit.bench import machine

        begin(machine(), "")
        yield row()
        raise KeyboardInterrupt

    monkeypatch.setattr("backlit.bench.command.run_bench", interrupted)
    assert main(["bench", TINY, "--csv", str(tmp_path / "rows.csv")]) == 130
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 2


# Errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there is nothing to measure: give descriptors such as conv2d:"),
        (["conv2d:n1,c1-1,i3x3"], "descriptor 'conv2d:n1,c1-1,i3x3' "),
        (["conv2d:n0,c1-1,i3x3,k2x2"], "has a batch of 0, which takes no time: use n1 or more."),
        (
            ["--suite", "layer"],
            "suite is 'layer', and the suites are all, layers, quick, transposed (did you mean ",
        ),
        (
            ["--suite", "quick", "--family", "xyz"],
            "family is 'xyz', and the families are CIFAR ResNet-20 N=128, ",
        ),
        ([TINY, "--passes", "forward,db"], "passes has 'db', and the passes are forward, dx, dw."),
        ([TINY, "--layout", "nchw"], "layout is 'nchw'"),
        ([TINY, "--seconds", "0"], "seconds is 0.0, and a number above 0 is needed"),
        ([TINY, "--seconds", "inf"], "seconds is inf, and a number above 0 is needed"),
        ([TINY, "--threads", "0"], "threads is 0, and it has to be at least 1"),
        ([TINY, "--against", "jax"], "against is 'jax', and it has to be torch."),
        ([TINY, "--csv", "nowhere/rows.csv"], "csv 'nowhere/rows.csv' lies in a folder that does not exist"),
        ([TINY, "--json", "."], "json '.' is a folder, and a file is to be written"),
    ],
)
def test_bench_argument_that_is_wrong_is_an_error(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in fails(["bench", *words], capsys)


def test_bench_without_pytorch_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rival_side.importlib.util, "find_spec", lambda name: None)
    assert fails(["bench", TINY, "--against", "torch"], capsys) == (
        "backlit bench: error: to measure against torch, PyTorch has to be installed, and it is not: "
        "pip install torch==2.13.0.\n"
    )


def test_bench_with_a_pytorch_that_does_not_load_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so is missing')\n")
    monkeypatch.syspath_prepend(tmp_path)
    message = fails(["bench", TINY, "--against", "torch"], capsys)
    assert message == "backlit bench: error: PyTorch cannot be imported: libtorch.so is missing.\n"


# Against PyTorch


@pytest.mark.torch
@pytest.mark.parametrize(
    "descriptor",
    [
        TINY,
        "conv1d:n2,c4-6,g2,i9,k3,s2,d2",
        "conv3d:n1,c2-3,i4x4x4,k2x2x2,p1",
        "convT2d:n2,c4-6,g2,i4x3,k3x2,s2,p1,o1",
    ],
)
def test_bench_times_pytorch_on_the_same_problem(descriptor: str) -> None:
    rows = list(run_bench(cases([descriptor]), against="torch", seconds=1e-3))
    assert [one.trouble for one in rows] == [""] * 3
    for one in rows:
        assert one.torch_error is not None
        assert one.torch_error < tolerance("float32", 100)
        assert (one.ratio("called") or 0) > 0
        assert (one.ratio("kept") or 0) > 0


@pytest.mark.torch
def test_bench_leaves_pytorch_out_where_it_has_no_such_padding() -> None:
    (one,) = run_bench(cases(["conv1d:n1,c1-1,i5,k3,p1:0"]), against="torch", passes=["dx"], seconds=1e-3)
    assert one.note == "PyTorch pads both ends of an axis alike, and never crops."
    assert one.called is None
    assert one.ours.seconds > 0


@pytest.mark.torch
def test_rival_that_was_killed_says_so_and_starts_again() -> None:
    rival = Rival("kept", 1)
    try:
        geometry = bl.ConvGeometry.parse(TINY)
        rival.open(geometry)
        assert rival._process is not None
        rival._process.kill()
        with pytest.raises(RivalError, match="PyTorch's process ended with signal 9"):
            rival.result("forward", "contiguous")
        assert rival.open(geometry) == ["contiguous", "channels_last"]
    finally:
        rival.close()


@pytest.mark.torch
def test_rival_answers_what_pytorch_cannot_do_with_its_own_words() -> None:
    rival = Rival("called", 1)
    try:
        rival.open(bl.ConvGeometry.parse(TINY))
        with pytest.raises(RivalError, match="KeyError"):
            rival.one_call("forward", "sideways")
    finally:
        rival.close()


@pytest.mark.parametrize(
    ("threads", "message"),
    [
        (0, "threads is 0, and it has to be at least 1."),
        (2**40, f"threads is {2**40}, and it has to be at most 1024."),
    ],
)
def test_numbers_of_threads_out_of_range_are_refused_by_their_name(threads: int, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        report_bench(["conv1d:n1,c1-1,i8,k3"], threads=threads)


def test_a_family_without_a_suite_is_told_to_name_one() -> None:
    with pytest.raises(ValueError, match="only the layers of a suite have one: name a suite too"):
        report_bench(["conv1d:n1,c1-1,i8,k3"], family="resnet")
