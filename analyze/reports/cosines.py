"""The table of cosines between subsets: at the last checkpoint, and for scripts at every one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from analyze.figures.lines import shown_subsets
from analyze.figures.names import plain
from analyze.pages.text import cosine
from analyze.probes.subsets import ALL
from analyze.results.carried import between
from analyze.statistics.between_subsets import apart, has_sums


@dataclass(frozen=True)
class Cell:
    """A cosine, its standard error (NaN where unknown), and whether chance may have made it."""

    value: float
    error: float
    chance: bool

    @property
    def text(self) -> str:
        """``+0.12``."""
        return cosine(self.value)

    @property
    def spread(self) -> str:
        """``± 0.03``; empty where unknown."""
        if not math.isfinite(self.error):
            return ""
        shown = f"{self.error:.2f}" if self.error >= 0.005 else "<0.01"
        return f"\N{PLUS-MINUS SIGN} {shown}"


@dataclass(frozen=True)
class Cosines:
    """Cosines between the subsets' mean gradients, ``[checkpoint, subset, subset]``."""

    labels: list[str]
    values: np.ndarray
    errors: np.ndarray
    chance: np.ndarray  # tested, and not beyond chance

    @property
    def tested(self) -> bool:
        """Whether any cell is marked."""
        return bool(self.chance.any())

    def rows(self, checkpoint: int) -> list[list[Cell]]:
        """The cells of a checkpoint's table."""
        tables = (self.values, self.errors, self.chance)
        number = range(len(self.labels))
        return [[Cell(*(table[checkpoint, a, b] for table in tables)) for b in number]
                for a in number]  # fmt: skip

    @property
    def data(self) -> list[list[list[Any]]]:
        """The same for the page's script: of each checkpoint text, spread and chance of each cell.

        The table is symmetric: the cells are those on and above the diagonal, row by row.
        """
        number = range(len(self.labels))
        tables = (self.rows(checkpoint) for checkpoint in range(len(self.values)))
        return [
            [[c.text, c.spread, int(c.chance)] for a in number for c in table[a][a:]]
            for table in tables
        ]


def cosines(results: xr.DataTree) -> Cosines | None:
    """Of the subsets other than ``all``; None for fewer than two, or where no cosine is known.

    Errors and tests are those of ``statistics.between_subsets``. The diagonal is 1 without error.
    """
    names = [name for name in shown_subsets(results) if name != ALL]
    network = results["network"].to_dataset()
    if len(names) < 2 or "gradient_cosine" not in network:
        return None
    known = has_sums(results)
    table = between(results) if known else network[["gradient_cosine"]]
    table = table.sel(subset=names, subset_other=names)
    table = table.transpose("checkpoint", "subset", "subset_other")
    values = table["gradient_cosine"].values
    errors = table["gradient_cosine_stderr"].values if known else np.full(values.shape, np.nan)
    chance = apart(table).values if known else np.zeros(values.shape, dtype=bool)
    if not np.isfinite(values).any():
        return None
    own = np.eye(len(names), dtype=bool)
    labels = [plain(name) for name in names]
    return Cosines(labels, values, np.where(own, np.nan, errors), chance)
