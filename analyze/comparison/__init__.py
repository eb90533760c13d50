"""Several runs side by side: from results files to one tree with a dimension ``run``; no torch."""

from analyze.comparison.side_by_side import compare

__all__ = ["compare"]
