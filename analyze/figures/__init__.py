"""Figures: one file each, with ``draw(results, ax) -> Axes``; none of them imports torch.

A figure of the report or the comparison has a ``FIGURE`` in its file, and a line in
``figures.table``.
"""
