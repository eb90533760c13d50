"""The whole network over training: m-coherence, and below on the same axis loss and accuracy."""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.figures import accuracy_over_training, coherence_over_training, loss_over_training
from analyze.figures.accuracy_over_training import has_accuracy
from analyze.figures.bands import fold_count
from analyze.figures.entry import FigureEntry
from analyze.figures.panels import stacked
from analyze.probes.subsets import ALL
from analyze.results.tree import OK

INCHES = (3.6, 1.5, 1.5)  # heights of the panels


def figure(results: xr.DataTree, x: str | None = None) -> Figure:
    """The figure: a panel each for m-coherence, loss and, where it is known, accuracy."""
    panels: list[Callable[..., Axes]] = [coherence_over_training.draw, loss_over_training.draw]
    if has_accuracy(results):
        panels.append(accuracy_over_training.draw)
    return stacked(results, panels, x, INCHES[: len(panels)])


def caption(results: xr.DataTree) -> str:
    """The caption: the meaning of lines, bands and markers that the results have."""
    chance, folds = "null_upper" in results["network"].to_dataset(), fold_count(results, ALL)
    below = "mean loss and accuracy" if has_accuracy(results) else "mean loss"
    text = f"M-coherence of the whole network (above), and {below} (below), by subset."
    if folds > 1:
        text += (
            f" Bands are 95 % intervals: Student's t with {folds - 1} degrees of freedom times the "
            f"standard error{', with fewer where single examples stand out' * chance}."
        )
    if chance:
        text += (
            " Hatched: 95 % of what comes by chance where the mean gradient of all is zero. Open "
            "markers: inside that band of their own subset."
        )
    if (results.to_dataset()["status"].values.astype(str) != OK).any():
        text += " Skipped checkpoints leave a gap and a cross on the axis."
    return text


FIGURE = FigureEntry(
    "training", "M-coherence over training", caption, figure, section="training", leading=True
)
