"""The report of a training run: one offline HTML file that a person reads to understand what happened."""

from backlit.report.document import write_report

__all__ = ["write_report"]
