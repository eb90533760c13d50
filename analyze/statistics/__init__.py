"""Sufficient statistics to coherence, errors and warnings: plain arrays first, labels second.

``docs/statistics.md`` explains every quantity.
"""

from analyze.statistics.estimates import difference, estimate
from analyze.statistics.grouping import group_by
from analyze.statistics.labelled_examples import examples, tracin
from analyze.statistics.ratios import contrast
from analyze.statistics.regrouping import coherence
from analyze.statistics.warnings import describe

__all__ = [
    "coherence", "contrast", "describe", "difference", "estimate", "examples", "group_by", "tracin",
]  # fmt: skip
