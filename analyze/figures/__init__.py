"""Figures: one file each, with ``draw(results, ax) -> Axes``; none of them imports torch."""
