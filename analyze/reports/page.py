"""The page: everything about one results file in one HTML file without references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from analyze.errors import InputError
from analyze.figures.accuracy_over_training import has_accuracy
from analyze.figures.intervals import fold_count
from analyze.figures.names import plain
from analyze.files.whole import drop_parts_in
from analyze.pages import provenance
from analyze.pages.figures import save_figure
from analyze.pages.skeleton import render
from analyze.pages.writing import PAGE, refuse_foreign, write_page
from analyze.probes.subsets import ALL
from analyze.reports import summary
from analyze.reports.details import details
from analyze.reports.layout import report_figures
from analyze.reports.still import still_figures
from analyze.statistics.warnings import describe

HERE = Path(__file__).parent
COMMAND = "report"


def write_report(results: xr.DataTree, directory: Path, x: str | None = None) -> Path:
    """Write ``index.html`` and ``figures/*.{svg,pdf,png}`` for a results tree.

    The page is one file that refers to nothing; without scripts its figures and numbers are
    there all the same. It is written last and takes its place in one step, so that a page which
    is there is whole. Reports of the same results are the same, byte for byte.

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
        refuse_foreign(page, COMMAND)
        figures = report_figures(results, x)
        (directory / "figures").mkdir(parents=True, exist_ok=True)
        for place in (directory, directory / "figures"):
            drop_parts_in(place)
        for name, figure in figures.items():
            save_figure(figure, directory / "figures", name)
        write_page(page, render_page(results, figures, x))
    except OSError as error:
        raise InputError(
            "the report cannot be written",
            found=f"{directory}: {error.strerror or error}",
            expected="a directory with write permission and enough space, or none yet",
            fix="--output DIR, another directory",
        ) from error
    return page


def render_page(results: xr.DataTree, figures: dict[str, Figure], x: str | None = None) -> str:
    """The HTML; names from files are escaped wherever they appear.

    Args:
        results: The results tree.
        figures: As ``report_figures`` gives them.
        x: What the page's own views show training along.
    """
    data = details(results, x)
    return render(
        HERE / "page.html",
        _contents(results, figures, data),
        command=COMMAND,
        data=data,
        scripts=[HERE / "profile.js", HERE / "page.js"],
    )


def _contents(
    results: xr.DataTree, figures: dict[str, Figure], data: dict[str, Any]
) -> dict[str, Any]:
    origin = provenance.provenance(results)
    subsets = summary.subset_summaries(results)
    return {
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
        "rows": [name for name, _ in data["rows"]],
        "layers": summary.layer_summaries(results, list(subsets)),
        "parameters": int(results["layers"].to_dataset()["parameter_count"].sum()),
        "cosines": summary.last_cosines(results),
        "loss_units": results.to_dataset()["loss"].attrs.get("units", ""),
        "facts": provenance.facts(origin),
        "proof": provenance.proof_facts(origin),
        "readings": provenance.readings(results, origin),
        "figures": still_figures(figures),
    }
