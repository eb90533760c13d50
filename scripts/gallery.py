"""Measure the sample runs and draw the pictures of docs/gallery.md and of the README."""

from __future__ import annotations

import io
from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

import analyze
from analyze.figures import network_over_training, runs_over_training
from analyze.figures.coherence_over_training import set_coherence_ticks
from analyze.figures.entry import FigureEntry
from analyze.figures.style import WIDTHS, style
from analyze.figures.table import OF_A_COMPARISON, OF_A_RUN

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "sample_checkpoints"
RESULTS = ROOT / "build" / "gallery"
IMAGES = ROOT / "docs" / "images"
RUNS = ("real_labels", "half_noise", "random_labels")
DOTS = 150  # an inch: sharp on a page, and under 200 kB
GROUPS = {"labels with noise": ("half_noise", "random_labels")}  # no seeds, for the picture only
CHOICES = {"ratio": "half_noise / real_labels", "layers": "all"}  # of the entries with several


def main() -> None:
    """Measure what is not measured yet, then draw."""
    measured = {
        mode: {name: result(name, mode) for name in RUNS} for mode in ("recomputed", "saved")
    }
    for name, figure in pictures(measured).items():
        save(figure, name)


def result(name: str, batch_norm: str) -> xr.DataTree:
    """A sample run's results; what an earlier call has measured is taken over."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    output = RESULTS / f"{name}_{batch_norm}.h5"
    print(f"measuring {name}, batch norm {batch_norm}", flush=True)
    analyze.run(SAMPLES / name, output=output, batch_norm=batch_norm, device="cpu")
    return analyze.open_results(output)


def pictures(measured: dict[str, dict[str, xr.DataTree]]) -> dict[str, Figure]:
    """The figures by the names of their files: every one of the table, and some more."""
    runs = measured["recomputed"]
    drawn = {file_name("half_noise", e): e.draw(runs["half_noise"], None) for e in OF_A_RUN}
    drawn["random_labels"] = network_over_training.figure(runs["random_labels"])
    steps, grouped = analyze.compare(runs), analyze.compare(runs, groups=GROUPS)
    for entry in OF_A_COMPARISON:
        tree = steps if entry.applies(steps) else grouped
        drawn[file_name("runs", entry)] = entry.draw(tree, CHOICES.get(entry.name))
    at_equal_loss = analyze.compare(runs, align="loss")
    drawn["runs_at_equal_loss"] = runs_over_training.figure(at_equal_loss)
    drawn["batch_norm"] = batch_norm_figure(measured)
    return drawn


def file_name(of: str, entry: FigureEntry) -> str:
    """The name of the picture of an entry; the first figure of a page has that of its runs."""
    return of if entry.name == "training" else f"{of}_{entry.name}"


def batch_norm_figure(measured: dict[str, dict[str, xr.DataTree]]) -> Figure:
    """All training probes of each run, with recomputed and with saved statistics."""
    with style():
        figure = Figure(figsize=(WIDTHS["page"], 2.6))
        grid = figure.subplots(1, len(RUNS))
        for ax, name in zip(grid, RUNS, strict=True):
            both = {mode: trees[name] for mode, trees in measured.items()}
            runs_over_training.draw(analyze.compare(both), ax, "all")
            ax.set_title(name, loc="left")
            ax.set_ylabel(ax.get_ylabel() if ax is grid[0] else "")
        highest = max(ax.get_ylim()[1] for ax in grid)
        for ax in grid:
            ax.set_ylim(0.5, highest)
            set_coherence_ticks(ax)
            ax.tick_params(labelleft=ax is grid[0])
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def save(figure: Figure, name: str) -> None:
    """As a PNG of 256 colours, a third of the size of one with all of them."""
    content = io.BytesIO()
    with style():
        figure.savefig(content, dpi=DOTS)
    image = Image.open(content).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(IMAGES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
