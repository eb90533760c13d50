"""Mean loss over training, a line for each subset."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from analyze.figures.lines import draw_lines, write_end_labels
from analyze.figures.names import figure_text
from analyze.figures.training import DECADES


def draw(results: xr.DataTree, ax: Axes, *, x: str | None = None) -> Axes:
    """Draw the mean loss of each subset over training, from 0 unless some loss is negative.

    Where losses span more than three decades the axis is logarithmic. ``x`` is the axis, as for
    ``training``.
    """
    loss = results.to_dataset()["loss"]
    labels = draw_lines(results, ax, loss, x=x)
    if spans_decades(loss.values):
        ax.set_yscale("log")
    elif not float(loss.min()) < 0:
        ax.set_ylim(0, 1.08 * (float(loss.fillna(0).max()) or 1.0))
    units = figure_text(loss.attrs.get("units", "nats"))
    ax.set_ylabel(f"mean loss ({units})")
    write_end_labels(ax, labels)
    return ax


def spans_decades(values: np.ndarray) -> bool:
    """Whether all known values are positive and their ends more than three decades apart."""
    known = values[np.isfinite(values)]
    return len(known) > 0 and known.min() > 0 and known.max() / known.min() > DECADES
