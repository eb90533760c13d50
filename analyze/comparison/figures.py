"""Figures of a comparison: runs over training, groups of them, and ratios of layers."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from analyze.comparison.pairs import RATE
from analyze.comparison.rows import along
from analyze.figures.bands import MANY, alone, draw_interval
from analyze.figures.coherence_over_training import coherence_limits, set_coherence_ticks
from analyze.figures.colours import FURTHER, INK, LINE, MARKERS, ROLES, SURFACE
from analyze.figures.layer_heatmap import label_checkpoints, label_layers
from analyze.figures.lines import marked
from analyze.figures.names import figure_text, legend_label
from analyze.figures.signed_cells import add_signed_bar, draw_signed, ratio_scale
from analyze.figures.training import LABELS, Training, compact, set_training_axis

COLOURS = (ROLES["clean"], ROLES["corrupted"], ROLES["held_out"], *FURTHER, INK)
DASHES = ("-", "--", ":")  # after each round of the colours
PLACES = LABELS | {"training_loss": LABELS["loss"]}
LONGEST = 30  # characters of a run's name
FAINT = 0.35  # opacity of the runs of a group
MARGIN = 0.02  # of the axis, at either end


def draw_runs(comparison: xr.DataTree, ax: Axes, subset: str, *, layer: str | None = None) -> Axes:
    """Draw m-coherence over training, a line for each run, with 95 % bands of six runs or fewer.

    A line joins the checkpoints of its run across the places that only others have. The scale is
    that of all runs and subsets.

    Args:
        comparison: What ``compare`` gives.
        ax: Where to draw.
        subset: Whose gradients.
        layer: Its name; without it the whole network.
    """
    table = comparison["network" if layer is None else "layers"].to_dataset()
    _set_scale(ax, table)
    table = table.sel(subset=subset) if layer is None else table.sel(subset=subset, layer=layer)
    places, runs = training_of(comparison), [str(name) for name in table["run"].values]
    for k, run in enumerate(runs):
        one = table.isel(run=k)
        known = np.isfinite(one["m_coherence"].values)
        if not known.any():
            continue
        own = _only(places, known)
        _draw_line(ax, own, one["m_coherence"].values[known], k, legend_label(run, LONGEST),
                   markers=layer is None)  # fmt: skip
        if "m_coherence_lower" in one and len(runs) <= MANY:
            lower, upper = (one[f"m_coherence_{e}"].values[known] for e in ("lower", "upper"))
            draw_interval(ax, own, lower, upper, run_colour(k))
    _finish(comparison, ax, places)
    counts = comparison.to_dataset()["probe_count"].sel(subset=subset).values
    ax.set_title(figure_text(f"{subset} (m = {_sizes(counts)})"), loc="left")
    return ax


def draw_groups(comparison: xr.DataTree, ax: Axes, subset: str) -> Axes:
    """Draw the mean over the runs of each group, its 95 % band over seeds, and each run faintly.

    Runs of no group are lines of their own. All are at the size of the smallest run of the group.

    Args:
        comparison: What ``compare`` gives with groups.
        ax: Where to draw.
        subset: Whose gradients.
    """
    network = comparison["network"].to_dataset().sel(subset=subset)
    groups = comparison["groups/network"].to_dataset().sel(subset=subset)
    _set_scale(ax, comparison["network"].to_dataset())
    places = training_of(comparison)
    members = json.loads(comparison.attrs["provenance"])["groups"]
    for k, name in enumerate(members):
        one = groups.isel(group=k)
        size = float(one["compared_at"])
        for run in members[name]:
            value = 1 + (size - 1) * network["alpha_unbiased"].sel(run=run).values
            known = np.isfinite(value)
            ax.plot(places.values[known], value[known], color=run_colour(k), alpha=FAINT,
                    linewidth=0.7, label="_run")  # fmt: skip
        known = np.isfinite(one["m_coherence"].values)
        own = _only(places, known)
        label = legend_label(f"{name} ({len(members[name])} runs)", LONGEST)
        _draw_line(ax, own, one["m_coherence"].values[known], k, label)
        lower, upper = (one[f"m_coherence_{e}"].values[known] for e in ("lower", "upper"))
        draw_interval(ax, own, lower, upper, run_colour(k))
    grouped = {run for names in members.values() for run in names}
    rest = [str(run) for run in network["run"].values if str(run) not in grouped]
    for k, run in enumerate(rest, start=len(members)):
        value = network["m_coherence"].sel(run=run).values
        known = np.isfinite(value)
        if known.any():
            _draw_line(ax, _only(places, known), value[known], k, legend_label(run, LONGEST))
    _finish(comparison, ax, places)
    ax.set_title(figure_text(f"{subset} (m = {_sizes(groups['compared_at'].values)})"), loc="left")
    return ax


def draw_ratio(
    comparison: xr.DataTree,
    ax: Axes,
    pair: str,
    subset: str,
    *,
    names: bool = True,
    colourbar: bool = True,
) -> Axes:
    """Draw the log ratio of every layer and checkpoint; what is not significant is grey.

    The scale is that of all significant cells of the comparison.

    Args:
        comparison: What ``compare`` gives.
        ax: Where to draw.
        pair: ``B / A``.
        subset: Whose gradients.
        names: Whether to write the layers' names on the left.
        colourbar: Whether to put the scale at the right.
    """
    layers = comparison["pairs/layers"].to_dataset()
    found = layers["log_ratio"].where(layers["p_value_adjusted"] <= RATE).values
    one = layers.sel(pair=pair, subset=subset)
    table = one["log_ratio"].transpose("layer", "checkpoint").values
    significant = one["p_value_adjusted"].transpose("layer", "checkpoint").values <= RATE
    mesh = draw_signed(ax, table, significant, ratio_scale(found))
    label_checkpoints(ax, training_of(comparison))
    label_layers(ax, [str(name) for name in one["layer"].values], names=names)
    title = figure_text(f"{subset}, at m = {float(one['compared_at']):,.0f}")
    ax.set_title(title, loc="left")
    if colourbar:
        add_signed_bar(mesh, ax, "ratio of m-coherence", ratios=True)
    return ax


def training_of(comparison: xr.DataTree) -> Training:
    """The places of a comparison along training."""
    place = along(comparison)
    values = comparison["network"].to_dataset()[place].values.astype(float)
    falling = place == "training_loss"
    names = [f"{value:,.2g}" if falling else compact(value) for value in values]
    units = comparison.to_dataset()["loss"].attrs.get("units", "nats")
    label = f"{PLACES[place]} ({units})" if falling else PLACES[place]
    return Training(values, label, names, names, np.zeros(len(values), dtype=bool), 0, falling)


def run_colour(k: int) -> str:
    """The colour of the k-th run, or group."""
    return COLOURS[k % len(COLOURS)]


def _draw_line(
    ax: Axes, places: Training, values: np.ndarray, k: int, label: str, *, markers: bool = True
) -> None:
    ax.plot(
        places.values, values, color=run_colour(k), linestyle=DASHES[k // len(COLOURS) % 3],
        marker=MARKERS[k % len(MARKERS)], label=label, linewidth=1.4 if markers else 0.9,
        markevery=marked(values) if markers else np.flatnonzero(alone(values)).tolist(),
        markeredgecolor=SURFACE, markeredgewidth=0.5, markersize=4 if markers else 2, zorder=3,
    )  # fmt: skip


def _only(places: Training, known: np.ndarray) -> Training:
    """The places at which a run has values."""
    values, names = places.values[known], [n for n, k in zip(places.names, known, strict=True) if k]
    skipped = np.zeros(len(values), dtype=bool)
    # Levels of the loss fall one after the other: a band over them does not cross itself.
    return Training(values, places.label, names, names, skipped, 0, falling=False)


def _set_scale(ax: Axes, table: xr.Dataset) -> None:
    ax.set_yscale("log")
    ax.set_ylim(*coherence_limits(table["m_coherence"].values))


def _finish(comparison: xr.DataTree, ax: Axes, places: Training) -> None:
    """Guide, ticks and labels, the same in every panel."""
    ax.axhline(1.0, color=LINE, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1, label="_orthogonal")
    set_training_axis(ax, places, sparse=True)
    known = places.values[np.isfinite(places.values)]
    if len(known) > 1:
        scale = ax.xaxis.get_transform()
        low, high = scale.transform([known.min(), known.max()])
        room = MARGIN * (high - low)
        first, last = scale.inverted().transform([low - room, high + room])
        ax.set_xlim(*((last, first) if places.falling else (first, last)))
    set_coherence_ticks(ax)
    ax.set_ylabel("m-coherence (examples)")


def _sizes(counts: np.ndarray) -> str:
    return ", ".join(dict.fromkeys(f"{int(n):,}" for n in np.atleast_1d(counts) if n > 0))
