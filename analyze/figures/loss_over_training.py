"""Mean loss over training, a line for each subset."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes

from analyze.figures.lines import draw_lines, write_end_labels


def draw(results: xr.DataTree, ax: Axes) -> Axes:
    """Draw the mean loss of each subset over training, from 0 unless some loss is negative."""
    loss = results.to_dataset()["loss"]
    labels = draw_lines(results, ax, loss)
    if not float(loss.min()) < 0:
        ax.set_ylim(0, 1.08 * (float(loss.fillna(0).max()) or 1.0))
    units = loss.attrs.get("units", "nats")
    ax.set_ylabel(f"mean loss ({units})")
    write_end_labels(ax, labels)
    return ax
