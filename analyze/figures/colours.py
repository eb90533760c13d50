"""The colours of figures and pages: one meaning each, for light paper and for a dark screen."""

from __future__ import annotations

INK = "#1f2430"
MUTED = "#596170"
LINE = "#8a92a0"
GRID = "#e3e6eb"
MISSING = "#eceef2"
SURFACE = "#ffffff"
WARNING = "#a8481c"
# Of hatches over cells: the same on every page, as the cells below them are.
ON_DARK, ON_LIGHT = "#fdfdfd", "#20242e"

# Of checkpoints from early to late: as in viridis, but none of its cells, whose colours stay on a
# dark page.
SEQUENCE = ("#440156", "#355f90", "#1e9c8c", "#4ec36e")

# The colour on a dark page in place of each. The third part are the lines of ``looks.py``, the
# fourth those of them that are too light for words on paper, darkened; the last the sequence.
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
    "#c978a6": "#b86297",
    "#a24734": "#b17b6a",
    "#695d85": "#8b81cd",
    "#3e7477": "#44bbc2",
    "#681f77": "#f5c4f6",
    "#503909": "#fdcd8c",
    "#7e9746": "#80912c",
    "#593332": "#fdcdc7",
    "#c05505": "#ff8b45",
    "#118561": "#2fc79a",
    "#9f6184": "#c472a5",
    "#687c3b": "#8d9e3e",
    "#440156": "#21918c",
    "#355f90": "#3bbb75",
    "#1e9c8c": "#9bd93c",
    "#4ec36e": "#fde725",
    "#15766b": "#9bd93c",
    "#27753a": "#fde725",
}
WORDS = {
    "#d55e00": "#c05505", "#009e73": "#118561", "#c978a6": "#9f6184", "#7e9746": "#687c3b",
    "#1e9c8c": "#15766b", "#4ec36e": "#27753a",
}  # fmt: skip


def of_words(colour: str) -> str:
    """The colour of words beside a line: its own, darker where it is too light to be read."""
    return WORDS.get(colour, colour)
