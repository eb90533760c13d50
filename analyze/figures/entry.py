"""Entries of the table of figures: all that report, comparison, gallery and pages know of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import xarray as xr
from matplotlib.figure import Figure

from analyze.statistics.sizes import shown_size

T = TypeVar("T")


def always(tree: xr.DataTree) -> bool:
    """True, for figures that every tree has the numbers for."""
    return True


@dataclass(frozen=True)
class FigureEntry:
    """A figure of a run or of a comparison, as it is written to files and shown on a page.

    Args:
        name: The name of its files; where there are several figures a number follows.
        title: The content of the figure in one line.
        caption: The meaning of its marks, or a function of the tree that returns it.
        draw: ``draw(tree, choice) -> Figure``. The choice of a run is its axis, ``x`` as for
            ``training``; the choice of a comparison is one that ``each`` returns.
        applies: Whether a tree has the numbers for it.
        each: ``each(tree, asked)``, a choice by the name of each file; without it one figure.
        section: The section of the page that shows it; empty for files only.
        leading: Whether its section begins with it: it has no title, and is shown however large.
        sized: Whether it shows m-coherence of subsets at one size, which its title then says.
    """

    name: str
    title: str
    caption: str | Callable[[xr.DataTree], str]
    draw: Callable[[xr.DataTree, Any], Figure]
    applies: Callable[[xr.DataTree], bool] = always
    each: Callable[[xr.DataTree, Any], Mapping[str, Any]] | None = None
    section: str = ""
    leading: bool = False
    sized: bool = False

    def title_of(self, tree: xr.DataTree) -> str:
        """The title of the figure of a tree, with the size at which m-coherence is shown."""
        return f"{self.title}, {shown_size(tree).words}" if self.sized else self.title

    def caption_of(self, tree: xr.DataTree) -> str:
        """The caption below the figure of a tree."""
        return self.caption if isinstance(self.caption, str) else self.caption(tree)

    def choices(self, tree: xr.DataTree, asked: Any) -> Mapping[str, Any]:
        """The choices by the names of the files; asked is ``x`` of a run, or pairs."""
        if not self.applies(tree):
            return {}
        return {self.name: asked} if self.each is None else self.each(tree, asked)

    def figures(self, tree: xr.DataTree, asked: Any) -> dict[str, Figure]:
        """Draw the figures, by the names of their files."""
        return {n: self.draw(tree, choice) for n, choice in self.choices(tree, asked).items()}

    def drawn(self, figures: Mapping[str, T]) -> dict[str, T]:
        """The figures that this entry has drawn, or what was made of them, out of all."""
        numbered = f"{self.name}_"
        return {n: f for n, f in figures.items() if n == self.name or n.startswith(numbered)}
