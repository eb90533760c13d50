"""Figures of a comparison: runs over training, and ratios of layers."""

from __future__ import annotations

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from analyze.comparison.pairs import RATE
from analyze.comparison.rows import along
from analyze.figures.colours import FURTHER, INK, LINE, MARKERS, MISSING, ROLES
from analyze.figures.names import figure_text
from analyze.figures.style import style
from analyze.figures.training import Training, compact, set_training_axis

COLOURS = (ROLES["clean"], ROLES["corrupted"], ROLES["held_out"], *FURTHER, INK)
LABELS = {"step": "optimizer step", "epoch": "epoch"}
MOST_ROWS = 60  # layers beyond which not every one is named


def draw_runs(comparison: xr.DataTree, ax: Axes, subset: str) -> Axes:
    """Draw m-coherence of the network over training, a line with 95 % band for each run.

    Args:
        comparison: What ``compare`` gives.
        ax: Where to draw.
        subset: Whose gradients.
    """
    network = comparison["network"].to_dataset().sel(subset=subset)
    place = along(comparison)
    for k, run in enumerate(network["run"].values):
        one = network.sel(run=run)
        value = one["m_coherence"].values
        known = np.isfinite(value)
        if not known.any():
            continue
        colour, x = COLOURS[k % len(COLOURS)], one[place].values[known]
        ax.plot(x, value[known], color=colour, marker=MARKERS[k % len(MARKERS)],
                linestyle=("-", "--", ":")[k // len(COLOURS) % 3],
                label=figure_text(str(run), 30))  # fmt: skip
        if "m_coherence_lower" in one:
            ends = [one[f"m_coherence_{end}"].values[known] for end in ("lower", "upper")]
            low = np.maximum(ends[0], 0.1)
            ax.fill_between(x, low, ends[1], color=colour, alpha=0.15, linewidth=0)
    ax.axhline(1.0, color=LINE, linewidth=0.7, label="_orthogonal")
    ax.set_yscale("log")
    values = network[place].values
    names = [compact(value) for value in values]
    skipped = np.zeros(len(values), dtype=bool)
    set_training_axis(ax, Training(values, LABELS[place], names, names, skipped))
    ax.set_ylabel("m-coherence (examples)")
    counts = comparison.to_dataset()["probe_count"].sel(subset=subset).values
    sizes = ", ".join(dict.fromkeys(f"{int(n):,}" for n in counts if n))
    ax.set_title(figure_text(f"{subset} (m = {sizes})"), loc="left")
    return ax


def draw_ratio(comparison: xr.DataTree, ax: Axes, pair: str, subset: str) -> Axes:
    """Draw the log ratio of every layer and checkpoint; what is not significant is grey.

    Args:
        comparison: What ``compare`` gives.
        ax: Where to draw.
        pair: ``B / A``.
        subset: Whose gradients.
    """
    layers = comparison["pairs/layers"].to_dataset()
    limit = float(np.nanmax(np.abs(layers["log_ratio"].values), initial=np.log(2.0)))
    one = layers.sel(pair=pair, subset=subset)
    table = one["log_ratio"].transpose("layer", "checkpoint").values
    chance = ~(one["p_value_adjusted"].transpose("layer", "checkpoint").values <= RATE)
    ax.set_facecolor(MISSING)
    if np.isnan(table).any():
        ax.patch.set(hatch="//////", edgecolor=LINE, linewidth=0)
    grey = np.ma.masked_where(~chance | np.isnan(table), np.zeros_like(table))
    ax.pcolormesh(grey, cmap="Greys", vmin=-1, vmax=3, rasterized=True)
    mesh = ax.pcolormesh(np.ma.masked_where(chance, table), cmap="PuOr_r", rasterized=True,
                         norm=TwoSlopeNorm(0.0, -limit, limit))  # fmt: skip
    ax.invert_yaxis()
    ax.grid(False)
    every = max(1, -(-table.shape[0] // MOST_ROWS))
    rows = np.arange(0, table.shape[0], every)
    ax.set_yticks(rows + 0.5, [figure_text(str(one["layer"].values[r]), 30) for r in rows],
                  fontsize=6)  # fmt: skip
    columns = np.arange(0, table.shape[1], max(1, -(-table.shape[1] // 7)))
    ax.set_xticks(columns + 0.5, [compact(v) for v in one[along(comparison)].values[columns]])
    ax.set_xlabel(LABELS[along(comparison)])
    ax.set_title(figure_text(f"{subset}, at m = {float(one['compared_at']):,.0f}"), loc="left")
    bar = ax.figure.colorbar(mesh, ax=ax)
    bar.set_label("log ratio; grey: not significant")
    return ax


def training_figure(comparison: xr.DataTree) -> Figure:
    """A panel of the runs for each subset."""
    subsets = [str(name) for name in comparison["network"].to_dataset()["subset"].values]
    with style():
        figure, axes = _panels(len(subsets), 2.6)
        for ax, subset in zip(axes, subsets, strict=True):
            draw_runs(comparison, ax, subset)
        named: dict[str, Artist] = {}
        for ax in axes:
            handles, names = ax.get_legend_handles_labels()
            named |= {str(n): h for n, h in zip(names, handles, strict=True)}
        figure.legend(
            handles=list(named.values()), labels=list(named), loc="outside lower center", ncols=4
        )
    return figure


def ratio_figure(comparison: xr.DataTree, pair: str) -> Figure:
    """A panel of one pair's ratios for each subset that both have."""
    layers = comparison["pairs/layers"].to_dataset()
    known = layers["log_ratio"].sel(pair=pair).notnull().any(("checkpoint", "layer"))
    subsets = [str(name) for name in layers["subset"].values[known.values]]
    with style():
        rows = min(layers.sizes["layer"], MOST_ROWS)
        figure, axes = _panels(len(subsets), max(2.0, 0.11 * rows + 0.9))
        for ax, subset in zip(axes, subsets, strict=True):
            draw_ratio(comparison, ax, pair, subset)
        figure.suptitle(figure_text(f"{pair}: m-coherence of the layers"))
    return figure


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """Panels in two columns."""
    rows = max(1, -(-count // 2))
    columns = 2 if count > 1 else 1
    with matplotlib.rc_context({"figure.constrained_layout.use": True}):
        figure = Figure(figsize=(4.2 * columns, height * rows), layout="constrained")
        axes = [figure.add_subplot(rows, columns, k + 1) for k in range(count)]
    return figure, axes
