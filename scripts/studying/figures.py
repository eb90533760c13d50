"""The figures of the page: thin lines are seeds, thick ones their mean."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from PIL import Image

from analyze.figures.style import WIDTHS, style
from scripts.studying import courses
from scripts.studying.design import NETWORKS, PLACES, STEPS
from scripts.studying.store import FOLDER, Measured, Study

DOTS = 150
COLOURS = {0: "#0072b2", 25: "#56b4e9", 50: "#009e73", 75: "#e69f00", 100: "#d55e00"}
OTHERS = ("#0072b2", "#d55e00", "#009e73", "#7f7f7f")
LINEAR = 8  # steps up to here are drawn at equal distances, those after it logarithmically
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")
TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100)


def draw_all(study: Study) -> None:
    """Draw every figure into the folder of the page."""
    for name, figure in FIGURES.items():
        with style():
            save(figure(study), name)


def save(figure: Figure, name: str) -> None:
    """As a PNG of 128 colours."""
    content = io.BytesIO()
    figure.savefig(content, dpi=DOTS)
    image = Image.open(content).convert("RGB")
    image.quantize(128, dither=Image.Dither.NONE).save(FOLDER / f"{name}.png", optimize=True)


def draw_group(
    ax: Axes,
    group: Sequence[Measured],
    label: str,
    colour: str,
    values: Callable[[Measured], np.ndarray],
    *,
    is_log: bool = True,
    dashed: bool = False,
) -> None:
    """Each seed thin, their mean thick: the geometric mean where ``values`` are logarithms."""
    if not group:
        return
    series = np.array([values(m) for m in group])
    shown = np.exp if is_log else np.asarray
    line = "--" if dashed else "-"
    for one in series:
        known = np.isfinite(one)
        ax.plot(group[0].steps[known], shown(one[known]), line, color=colour, lw=0.6, alpha=0.45)
    known = np.isfinite(series).any(0)
    mean = np.nanmean(series[:, known], 0)
    ax.plot(group[0].steps[known], shown(mean), line, color=colour, lw=1.7, label=label)


def training(study: Study) -> Figure:
    """M-coherence, loss and accuracy of all training probes, a colour for each share of noise."""
    figure = Figure(figsize=(WIDTHS["page"], 5.4))
    axes = figure.subplots(3, 1, sharex=True, height_ratios=[2.4, 1, 1])
    for noise in study.noises():
        group, colour = study.of(noise=noise), COLOURS[noise]
        draw_group(axes[0], group, f"{noise} %", colour, courses.log_coherence)
        for ax, name in zip(axes[1:], ("loss", "accuracy"), strict=True):
            draw_group(ax, group, "", colour, _of(name), is_log=False)
    set_coherence(axes[0], "m-coherence, all training probes")
    _legend(figure, axes[0], "labels redrawn")
    axes[1].set_ylabel("loss (nats)")
    axes[2].set_ylabel("accuracy")
    set_steps(axes)
    return figure


def _of(variable: str, **choice: Any) -> Callable[[Measured], np.ndarray]:
    return lambda m: m.values(variable, **choice)


def _log_of(**choice: Any) -> Callable[[Measured], np.ndarray]:
    return lambda m: courses.log_coherence(m, **choice)


def batch_norm(study: Study) -> Figure:
    """Saved and recomputed statistics, a panel for each share of noise that has three seeds."""
    return _panels(
        study,
        (0, 50, 100),
        [
            ("as saved", _log_of(mode="saved"), OTHERS[1]),
            ("recomputed", _log_of(), OTHERS[0]),
        ],
    )


def layers(study: Study) -> Figure:
    """The network and three layers."""
    lines = [(place, _log_of(place=place), c) for place, c in zip(PLACES, OTHERS, strict=True)]
    return _panels(study, (0, 50, 100), lines)


def sizes(study: Study) -> Figure:
    """The sample and the first half of it."""
    return _panels(
        study,
        (0, 50, 100),
        [
            ("2m = 320 probes", _log_of(), OTHERS[0]),
            ("m, about 160", _log_of(size="m"), OTHERS[1]),
        ],
    )


def subsets(study: Study) -> Figure:
    """Clean, corrupted and held-out probes at one size, and their losses."""
    noises = [n for n in study.noises() if n not in (0, 100)]
    figure = Figure(figsize=(WIDTHS["page"], 4.2))
    grid = figure.subplots(2, len(noises), sharex=True, sharey="row", squeeze=False,
                           height_ratios=[1.7, 1])  # fmt: skip
    for column, noise in zip(grid.T, noises, strict=True):
        for name, colour in zip(("clean", "corrupted", "held_out"), OTHERS, strict=False):
            group = study.of(noise=noise)
            words = name.replace("_", " ")
            draw_group(column[0], group, words, colour, _at_hundred(name))
            draw_group(column[1], group, "", colour, _of("loss", subset=name), is_log=False)
        set_coherence(column[0], "m-coherence of 100" if column[0] is grid[0, 0] else "")
        column[0].set_title(f"{noise} % of labels redrawn", loc="left")
        set_steps(column)
    grid[1, 0].set_ylabel("loss (nats)")
    _legend(figure, grid[0, 0])
    return figure


def _at_hundred(subset: str) -> Callable[[Measured], np.ndarray]:
    def values(measured: Measured) -> np.ndarray:
        found = courses.at_size(measured, subset, 100)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(found > 0, np.log(found), np.nan)

    return values


def clock(study: Study) -> Figure:
    """M-coherence against the loss of the training probes."""
    figure = Figure(figsize=(WIDTHS["page"], 3.0))
    ax = figure.subplots()
    grid = np.geomspace(2.2, 0.01, 60)
    for noise in study.noises():
        series = np.array([courses.at_losses(m, grid) for m in study.of(noise=noise)])
        for one in series:
            ax.plot(grid, np.exp(one), color=COLOURS[noise], lw=0.6, alpha=0.45)
        known = np.isfinite(series).any(0)
        mean = np.exp(np.nanmean(series[:, known], 0))
        ax.plot(grid[known], mean, color=COLOURS[noise], lw=1.7, label=f"{noise} %")
    ax.set_xscale("log")
    ax.invert_xaxis()
    set_coherence(ax, "m-coherence, all training probes")
    ax.set_xlabel("mean loss of all training probes (nats), falling to the right")
    ax.xaxis.set_major_formatter(PLAIN)
    _legend(figure, ax, "labels redrawn")
    return figure


def networks(study: Study) -> Figure:
    """All training probes, a panel for each network."""
    names = [name for name in NETWORKS if study.of(name)]
    figure = Figure(figsize=(WIDTHS["page"], 2.6))
    axes = figure.subplots(1, len(names), sharex=True, sharey=True, squeeze=False)[0]
    for ax, name in zip(axes, names, strict=True):
        for noise in (0, 50, 100):
            draw_group(
                ax, study.of(name, noise), f"{noise} %", COLOURS[noise], courses.log_coherence
            )
        set_coherence(ax, "m-coherence" if ax is axes[0] else "")
        ax.set_title(NETWORKS[name].words, loc="left", fontsize=7)
        set_steps([ax])
    _legend(figure, axes[0])
    return figure


def _panels(
    study: Study,
    noises: Sequence[int],
    lines: Sequence[tuple[str, Callable[[Measured], np.ndarray], str]],
) -> Figure:
    """A panel for each share of noise, with some lines."""
    figure = Figure(figsize=(WIDTHS["page"], 2.7))
    axes = figure.subplots(1, len(noises), sharex=True, sharey=True)
    for ax, noise in zip(axes, noises, strict=True):
        for label, values, colour in lines:
            draw_group(ax, study.of(noise=noise), label, colour, values)
        set_coherence(ax, "m-coherence" if ax is axes[0] else "")
        ax.set_title(f"{noise} % of labels redrawn", loc="left")
        set_steps([ax])
    _legend(figure, axes[0])
    return figure


def _legend(figure: Figure, ax: Axes, title: str | None = None) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False,
                  title=title)  # fmt: skip


def set_coherence(ax: Axes, label: str) -> None:
    """A logarithmic axis with a guide at 1."""
    ax.set_yscale("log")
    ax.axhline(1, color="#888888", lw=0.7, zorder=0)
    ax.yaxis.set_major_locator(FixedLocator(TICKS))
    ax.yaxis.set_major_formatter(PLAIN)
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylabel(label)


def set_steps(axes: Sequence[Axes]) -> None:
    """Steps: equally far apart at first, then logarithmic; named below the last of the axes."""
    for ax in axes:
        ax.set_xscale("symlog", linthresh=LINEAR, linscale=0.8)
        ax.set_xticks([0, 4, 10, 100, 1000], ["0", "4", "10", "100", "1,000"])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlim(-0.4, 1.1 * STEPS)
    axes[-1].set_xlabel("step")


FIGURES: dict[str, Callable[[Study], Figure]] = {
    "training": training, "batch_norm": batch_norm, "layers": layers, "subsets": subsets,
    "sizes": sizes, "clock": clock, "networks": networks,
}  # fmt: skip
