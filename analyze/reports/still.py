"""The still figures of the page: what each shows, and which are too large to be in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure

from analyze.pages.figures import inline_svg

LARGEST = 500_000  # characters; a larger figure is a file beside the page only

TITLES = {
    "training": "M-coherence over training",
    "layers": "M-coherence of layers",
    "loss": "M-coherence against the training loss",
    "between_subsets": "Cosines between subsets, and cross help",
    "clean_corrupted": "Clean against corrupted examples in every layer",
    "profile": "The layers at some checkpoints",
    "energy": "The layers' shares of the squared gradient norms",
    "layer_panels": "M-coherence over training, a panel for each layer",
}


@dataclass(frozen=True)
class Still:
    """A figure of the page; without ``svg`` it is in its file only."""

    name: str
    title: str
    svg: Markup | None


def still_figures(figures: Mapping[str, Figure]) -> dict[str, Still]:
    """The figures by name; those of the first view are always in the page."""
    found = {}
    for name, figure in figures.items():
        title = TITLES[name]
        svg = inline_svg(figure, name, title)
        kept = svg if name in ("training", "layers") or len(svg) <= LARGEST else None
        found[name] = Still(name, title, kept)
    return found
