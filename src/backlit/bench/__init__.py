"""Benchmarks of convolutions: the three passes timed, held against the machine's peak, PyTorch and float64."""

from backlit.bench.cases import Case, cases, suite, suite_names
from backlit.bench.command import report_bench
from backlit.bench.results import Row, Timing, geometric_means, kind
from backlit.bench.run import Machine, machine, run_bench

__all__ = [
    "Case",
    "Machine",
    "Row",
    "Timing",
    "cases",
    "geometric_means",
    "kind",
    "machine",
    "report_bench",
    "run_bench",
    "suite",
    "suite_names",
]
