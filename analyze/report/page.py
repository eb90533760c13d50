"""The page: everything about one results file in one HTML file without references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import xarray as xr
from markupsafe import Markup
from matplotlib.figure import Figure

from analyze.errors import InputError
from analyze.figures.accuracy_over_training import has_accuracy
from analyze.figures.colours import DARK
from analyze.figures.intervals import fold_count
from analyze.figures.names import plain
from analyze.probes.subsets import ALL
from analyze.report import provenance, summary, text
from analyze.report.layout import report_figures
from analyze.report.render import inline_svg, save_figure, variable, write_whole
from analyze.statistics.warnings import describe

HERE = Path(__file__).parent
PAGE = "index.html"
GENERATOR = '<meta name="generator" content="analyze report">'


def write_report(results: xr.DataTree, directory: Path, x: str | None = None) -> Path:
    """Write ``index.html`` and ``figures/*.{svg,pdf,png}`` for a results tree.

    The page is one file: it refers to nothing and runs no script. It is written last and takes
    its place in one step, so that a page which is there is whole. Reports of the same results
    are the same, byte for byte.

    Args:
        results: As ``open_results``, ``run`` or ``measure`` give it.
        directory: Made if it is missing; an older report in it is replaced.
        x: What the figures show training along: ``step``, ``epoch`` or ``loss``; without it steps
            where they are known, else epochs, else the order of the checkpoints.

    Returns:
        The path of the page.

    Raises:
        InputError: the directory cannot be written to, or has another ``index.html``; ``x`` is
            not known of any checkpoint.
    """
    directory = Path(directory)
    page = directory / PAGE
    try:
        _refuse_foreign(page)
        figures = report_figures(results, x)
        (directory / "figures").mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            save_figure(figure, directory / "figures", name)
        write_whole(page, render_page(results, figures).encode(errors="replace"))
    except OSError as error:
        raise InputError(
            "the report cannot be written",
            found=f"{directory}: {error.strerror or error}",
            expected="a directory with write permission and enough space, or none yet",
            fix="--output DIR, another directory",
        ) from error
    return page


def render_page(results: xr.DataTree, figures: dict[str, Figure]) -> str:
    """The HTML; names from files are escaped wherever they appear."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": text.number, "rounded": text.rounded, "whole": text.whole, "share": text.share,
        "loss": text.loss, "with_error": text.with_error, "in_words": text.in_words,
        "cosine": text.cosine, "breakable": text.breakable,
        "marked": text.marked,
    }  # fmt: skip
    return environment.get_template("page.html").render(_contents(results, figures))


def _contents(results: xr.DataTree, figures: dict[str, Figure]) -> dict[str, Any]:
    origin = provenance.provenance(results)
    subsets = summary.subset_summaries(results)
    return {
        "generator": Markup(GENERATOR),
        "css": Markup(_colours() + (HERE / "page.css").read_text(encoding="utf-8")),
        "title": provenance.run_name(origin),
        "model": provenance.model_name(origin),
        "batch_norm": origin.get("batch_norm"),
        "held_out": bool(origin.get("held_out")),
        "subsets": subsets,
        "all": summary.subset_summary(results, ALL, ALL),
        "folds": fold_count(results, ALL),
        "highest": summary.highest_layer(results),
        "last_place": summary.last_place(results),
        "checkpoints": results.sizes["checkpoint"],
        "warnings": [*provenance.warnings(origin), *map(plain, describe(results))],
        "meanings": summary.marks_shown(results),
        "chance": "null_upper" in results["network"].to_dataset(),
        "accuracy": has_accuracy(results),
        "skipped": (skipped := summary.skipped_checkpoints(results)),
        "measured": results.sizes["checkpoint"] - len(skipped),
        "layers": summary.layer_summaries(results, list(subsets)),
        "parameters": int(results["layers"].to_dataset()["parameter_count"].sum()),
        "cosines": summary.last_cosines(results),
        "loss_units": results.to_dataset()["loss"].attrs.get("units", ""),
        "facts": provenance.facts(origin),
        "proof": provenance.proof_facts(origin),
        "readings": provenance.readings(results, origin),
        "figures": {
            "training": inline_svg(figures["training"], "training", "M-coherence over training"),
            "layers": inline_svg(figures["layers"], "layers", "M-coherence of layers"),
        },
    }


def _colours() -> str:
    """The colours of the figures as variables of the page, for light and for dark."""
    light = "".join(f"{variable(colour)}:{colour};" for colour in DARK)
    dark = "".join(f"{variable(colour)}:{other};" for colour, other in DARK.items())
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def _refuse_foreign(page: Path) -> None:
    """Not to replace a page that is something else."""
    if page.exists() and GENERATOR not in page.read_text(encoding="utf-8", errors="replace"):
        raise InputError(
            "the report would replace another page",
            found=f"{page}, which analyze report did not write",
            expected="an empty directory, one that does not exist, or an older report",
            fix="--output DIR, another directory",
        )
