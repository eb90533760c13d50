"""M-coherence of the network against the training loss, which falls from left to right."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from analyze.figures import coherence_over_training
from analyze.figures.entry import FigureEntry
from analyze.figures.panels import stacked
from analyze.probes.subsets import ALL


def figure(results: xr.DataTree, x: str | None = None) -> Figure:
    """One panel along the loss, whatever ``x`` is."""
    return stacked(results, [coherence_over_training.draw], "loss", [3.15])


def applies(results: xr.DataTree, x: str | None) -> bool:
    """Whether the loss is known; where it is the axis of all figures this one says nothing new."""
    loss = results.to_dataset()["loss"].sel(subset=ALL)
    return x != "loss" and bool(np.isfinite(loss).any())


FIGURE = FigureEntry(
    "loss", "M-coherence against the training loss",
    "The mean loss of all training probes falls from left to right; a line turns back where it "
    "rises again.",
    figure, applies, section="training",
)  # fmt: skip
