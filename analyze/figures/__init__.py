"""Figures: one file each, with ``draw(results, ax) -> Axes``; none of them imports torch.

A figure of the report or the comparison has a ``FIGURE`` in its file, and a line in
``figures.table``. ``titles`` lists those of some results, and ``plot`` draws one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analyze.figures.choice import plot, titles

__all__ = ["plot", "titles"]


def __getattr__(name: str) -> Any:
    """Import what draws all figures when it is first used, as each of them is in this folder."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from analyze.figures import choice

    return getattr(choice, name)


def __dir__() -> list[str]:
    return __all__
