"""The look of a line: colour, dash and marker, by which a subset, a run or a group is known.

There is one table, for figures and pages, for light and dark. The twelve looks of the table have
twelve markers; two that share a dash differ by their colour also in grey and to readers without
green-sensitive cones (``tests/test_looks.py``), so that each of them needs no colour to be known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from analyze.figures.colours import INK

# Lengths of line and gap, in widths of the line: solid, dashed, dotted, dash and dot.
DASHES: tuple[tuple[float, ...], ...] = ((), (4.2, 1.8), (1.1, 1.4), (5.2, 1.5, 1.1, 1.5))


@dataclass(frozen=True)
class Marker:
    """A marker: its name in matplotlib, and in d3 as a symbol turned by some degrees."""

    name: str | tuple[int, int, int]
    symbol: str
    turn: int = 0


MARKERS = (
    Marker("D", "square", 45), Marker("o", "circle"), Marker("s", "square"),
    Marker("^", "triangle"), Marker("P", "cross"), Marker("v", "triangle", 180),
    Marker("X", "cross", 45), Marker("*", "star"), Marker("<", "triangle", -90),
    Marker(">", "triangle", 90), Marker("d", "diamond"), Marker((3, 1, 0), "wye", 180),
)  # fmt: skip

# The colour of each look and the place of its dash; its marker is the one at the same place.
TABLE = (
    (INK, 0), ("#0072b2", 0), ("#d55e00", 1), ("#009e73", 2),  # blue, vermilion, bluish green
    ("#c978a6", 0), ("#a24734", 1), ("#695d85", 2), ("#3e7477", 3),  # pink, rust, purple, teal
    ("#681f77", 1), ("#503909", 2), ("#7e9746", 3), ("#593332", 3),  # violet, brown, olive, wine
)  # fmt: skip
COUNT = len(DASHES) * len(TABLE)  # looks that differ
ROLES = {"all": 0, "clean": 1, "corrupted": 2, "held_out": 3}
FURTHER = 4  # the first look of subsets without such a role


@dataclass(frozen=True)
class Look:
    """Colour, lengths of the dash in widths of the line (none: solid), and marker."""

    colour: str
    dash: tuple[float, ...]
    marker: Marker

    @property
    def line(self) -> dict[str, Any]:
        """Colour, line style and marker as matplotlib takes them."""
        return {
            "color": self.colour, "linestyle": (0, self.dash) if self.dash else "-",
            "marker": self.marker.name,
        }  # fmt: skip

    @property
    def data(self) -> dict[str, Any]:
        """The look for a page's scripts: ``colour``, ``dash``, ``symbol`` and its ``turn``."""
        return {
            "colour": self.colour, "dash": list(self.dash),
            "symbol": self.marker.symbol, "turn": self.marker.turn,
        }  # fmt: skip


def look(k: int) -> Look:
    """The k-th look: that of the table; in further rounds its markers have other dashes.

    So ``COUNT`` looks have as many pairs of dash and marker.
    """
    turn, row = divmod(k, len(TABLE))
    colour, dash = TABLE[row]
    return Look(colour, DASHES[(dash + turn) % len(DASHES)], MARKERS[row])


def run_look(k: int) -> Look:
    """The look of the k-th run or group of a comparison; ink comes after the other colours."""
    return look(k + 1)


def subset_looks(names: Iterable[str]) -> dict[str, Look]:
    """The look of each subset: fixed for the known roles, by their order for further names.

    ``names`` are those of the results, so that a subset looks the same wherever it is shown. The
    ink of ``all`` is for no further name.
    """
    every = list(dict.fromkeys(str(name) for name in names))
    free = (k for k in range(FURTHER, FURTHER + 2 * len(every)) if k % len(TABLE) != ROLES["all"])
    return {name: look(ROLES[name] if name in ROLES else next(free)) for name in every}


def further_look(k: int) -> Look:
    """The look of the k-th line that stands for something else than a subset or a run."""
    return look(FURTHER + k)
