"""Figures: one file each, with ``draw(results, ax) -> Axes``; none of them imports torch.

What report and comparison write has a ``FIGURE`` in its file, and a line in ``figures.table``.
"""
