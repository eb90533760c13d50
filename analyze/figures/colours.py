"""The colours of figures and pages: one meaning each, and safe for colour-blind readers."""

from __future__ import annotations

from collections.abc import Iterable

INK = "#1f2430"
MUTED = "#596170"
LINE = "#8a92a0"
GRID = "#e3e6eb"
MISSING = "#eceef2"
SURFACE = "#ffffff"
WARNING = "#a8481c"

# From Okabe and Ito; `all`, the subset of the headline, is ink.
ROLES = {"clean": "#0072b2", "corrupted": "#d55e00", "held_out": "#009e73", "all": INK}
# Three more from Okabe and Ito, and three of Tol's muted colours.
FURTHER = ("#cc79a7", "#e69f00", "#56b4e9", "#332288", "#882255", "#999933")
DASHES = ("-", "--", ":")  # after each round of the colours
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# The colour on a dark page in place of each.
DARK = {
    INK: "#e6e9ef",
    MUTED: "#a3abb9",
    LINE: "#727b8a",
    GRID: "#2c323c",
    MISSING: "#262b34",
    SURFACE: "#15181e",
    WARNING: "#f0a878",
    "#0072b2": "#52a9e8",
    "#d55e00": "#ff8b45",
    "#009e73": "#2fc79a",
    "#cc79a7": "#e6a3c8",
    "#e69f00": "#f2bd4b",
    "#56b4e9": "#a5dcff",
    "#332288": "#9d8cff",
    "#882255": "#e0709f",
    "#999933": "#cfcf62",
}


def subset_colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each subset: fixed for the known roles, by alphabet for further names."""
    names = [str(name) for name in names]
    further = sorted(set(names) - set(ROLES))
    colours = {name: FURTHER[k % len(FURTHER)] for k, name in enumerate(further)}
    return {name: ROLES.get(name) or colours[name] for name in names}


def subset_dashes(names: Iterable[str]) -> dict[str, str]:
    """A line style for each subset: solid, and another one where a colour is used again."""
    names = [str(name) for name in names]
    further = sorted(set(names) - set(ROLES))
    rounds = {name: k // len(FURTHER) for k, name in enumerate(further)}
    return {name: DASHES[rounds.get(name, 0) % len(DASHES)] for name in names}


def subset_markers(names: Iterable[str]) -> dict[str, str]:
    """A marker for each subset, so that lines differ in print without colour too."""
    names = [str(name) for name in names]
    order = [*ROLES, *sorted(set(names) - set(ROLES))]
    return {name: MARKERS[order.index(name) % len(MARKERS)] for name in names}
