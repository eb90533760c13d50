"""The report: one self-contained HTML page and its figures; no torch."""

from analyze.reports.page import write_report

__all__ = ["write_report"]
