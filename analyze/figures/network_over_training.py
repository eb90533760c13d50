"""The whole network over training: m-coherence, and below on the same axis loss and accuracy."""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.errors import listed
from analyze.figures import accuracy_over_training, coherence_over_training, loss_over_training
from analyze.figures.accuracy_over_training import has_accuracy
from analyze.figures.bands import fold_count
from analyze.figures.entry import FigureEntry
from analyze.figures.panels import stacked
from analyze.probes.subsets import ALL
from analyze.results.subsets import shown_subsets
from analyze.results.tree import OK
from analyze.statistics.regrouping import held_out
from analyze.statistics.significance import within_chance
from analyze.statistics.sizes import OWN, shown_size
from analyze.text import shown_name

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
    size = shown_size(results)
    text = f"The whole network: {size.quantity} (above), and {below} (below), by subset."
    left_out = held_out(results)
    if left_out and ALL in shown_subsets(results):
        text += f" All: the training probes, without {listed([shown_name(n) for n in left_out])}."
    if size.choice != OWN:
        text += (
            " M-coherence grows with the number of examples where gradients agree, so every subset "
            "is shown at one size, whatever it was measured at."
        )
    if folds > 1:
        text += (
            f" Bands are 95 % intervals: Student's t with {folds - 1} degrees of freedom"
            f"{', with fewer where single examples stand out' * chance}, on the scale of the root."
        )
    if chance:
        text += (
            " Hatched: 95 % of what comes by chance where the mean gradient of all training probes "
            "is zero."
        )
    if bool(within_chance(results["network"].to_dataset()).any()):
        text += (
            " Open markers: cannot be told from chance, at a false discovery rate of 5 % over the "
            "checkpoints of a subset."
        )
    if (results.to_dataset()["status"].values.astype(str) != OK).any():
        text += " Skipped checkpoints leave a gap and a cross on the axis."
    return text


FIGURE = FigureEntry(
    "training",
    "M-coherence over training",
    caption,
    figure,
    section="training",
    leading=True,
    sized=True,
)
