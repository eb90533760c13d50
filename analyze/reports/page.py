"""The report: everything about one results file in one HTML file without references."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import xarray as xr

from analyze.errors import listed
from analyze.figures.bands import fold_count
from analyze.figures.numbers import of_network
from analyze.figures.style import of_width
from analyze.figures.table import OF_A_RUN, run_figures
from analyze.figures.training import on_scale, training
from analyze.pages import facts
from analyze.pages.figures import still_figures
from analyze.pages.numbers import table_of
from analyze.pages.skeleton import render
from analyze.pages.writing import write_page
from analyze.probes import ProbeSet
from analyze.probes.subsets import ALL
from analyze.rankings.probe_file import probes_of
from analyze.reports import summary
from analyze.reports.cosines import Cosines, cosines
from analyze.reports.details import GROUPS, details
from analyze.reports.examples import section
from analyze.results.carried import carrying
from analyze.results.file import tree_of
from analyze.results.findings import findings, said
from analyze.results.summary import warning_sentences
from analyze.statistics.grouping import group_by
from analyze.statistics.labelled_examples import has_directions
from analyze.statistics.regrouping import held_out, provenance
from analyze.statistics.significance import cancel
from analyze.statistics.sizes import SMALLEST, shown_at, shown_size
from analyze.text import shown_name

HERE = Path(__file__).parent
COMMAND = "report"
Found = tuple[ProbeSet | None, str]  # the probes, or why there are none


def report(
    results: str | Path | xr.DataTree,
    *,
    output: str | Path | None = None,
    by: str = "layer",
    x: str | None = None,
    x_scale: str = "automatic",
    probes: str | Path | None = None,
    figure_width: str | float = "page",
    at_size: str | int = SMALLEST,
) -> Path:
    """Write a page with figures: ``OUTPUT/index.html`` and ``OUTPUT/figures``.

    Args:
        results: The results file, or the tree of one.
        output: The directory; without it the name of the file, or of a tree's run, with
            ``_report``, in the current one.
        by: Rows for ``layer``, ``block`` or ``parameter``; nothing is measured again.
        x: What the figures show training along: ``step``, ``epoch`` or ``loss``; without it steps
            where they are known, else epochs, else the order of the checkpoints.
        x_scale: The axis of training, of the figures and at first on the page: ``linear``, ``log``
            (linear up to the first place beyond 0), or ``automatic``: log where half of the
            checkpoints lie in the first quarter of a range of over a decade.
        probes: The probe file, for the pictures of examples in runs with directions; None: where
            the run read it, if it is there and holds the same examples.
        figure_width: The figures' width in print: ``column`` of a journal (3.3 inches), ``page``
            (6.9), or inches from 3 to 20. Their text has at least 7 points at that width.
        at_size: The size at which subsets stand side by side: ``smallest``, the number of probes of
            the smallest; ``own``, each as measured; ``alpha``, unbiased alpha; or a number.

    Returns:
        The path of the page.

    Raises:
        InputError: no results file, other probes, a directory that cannot be written to or has
            another ``index.html``, no such grouping, scale, width or size, or ``x`` is not known of
            any checkpoint.

    Example:
        ``analyze.report("half_noise.h5", output="half_noise_report")``
    """
    if isinstance(results, xr.DataTree):
        opened, near = tree_of(results), Path()
        stem = re.sub(r"\W+", "_", facts.run_name(provenance(opened)))
    else:
        opened = tree_of(results)
        near, stem = Path(results).parent, Path(results).stem
    tree = shown_at(group_by(opened, by), at_size)
    directory = f"{stem}_report" if output is None else output
    pictured = has_directions(opened) or probes is not None
    found = probes_of(opened, probes, near) if pictured else (None, "")
    with of_width(figure_width), on_scale(x_scale):
        return write_report(tree, Path(directory), x, found)


def write_report(
    results: xr.DataTree, directory: Path, x: str | None = None, probes: Found = (None, "")
) -> Path:
    """Write the page and the figures of a results tree into a directory, which is made if missing.

    The page is one file that refers to nothing; without scripts its figures and numbers are there
    all the same. It is written last and in one step, so that it is always whole. Reports of the
    same results are the same, byte for byte. ``probes`` are those of the results, and a sentence
    where there are none. Errors are those of ``report``.
    """
    tree = carrying(results)
    return write_page(
        directory,
        COMMAND,
        lambda: run_figures(tree, x),
        lambda pictures: render_page(tree, pictures, x, probes),
    )


def render_page(
    results: xr.DataTree,
    pictures: dict[str, bytes],
    x: str | None = None,
    probes: Found = (None, ""),
) -> str:
    """The HTML of the report; ``x`` is the axis of its interactive views.

    ``pictures`` are the contents of the figures' SVG files, by their names.
    """
    examples, of_examples = section(results, *probes, x)
    between = cosines(results)
    further = {"cosines": between.data if between else None, "examples": of_examples}
    data = details(results, x) | {name: part for name, part in further.items() if part}
    scripts = ["profile.js", "cosines.js", "page.js", *(["examples.js"] if of_examples else [])]
    return render(
        HERE / "page.html",
        _contents(results, pictures, data, between) | {"examples": examples},
        command=COMMAND,
        data=data,
        scripts=[HERE / name for name in scripts],
    )


def _contents(
    results: xr.DataTree,
    pictures: dict[str, bytes],
    data: dict[str, Any],
    between: Cosines | None,
) -> dict[str, Any]:
    origin = provenance(results)
    if not facts.has_batch_norm(results):
        origin.pop("batch_norm", None)
    subsets = summary.subset_summaries(results)
    last = summary.last_measured(results)
    return {
        "title": facts.run_name(origin),
        "model": facts.model_name(origin),
        "batch_norm": origin.get("batch_norm"),
        "subsets": subsets,
        "all": summary.subset_summary(results, ALL, ALL),
        "left_out": listed([shown_name(name) for name in held_out(results)]),
        "folds": fold_count(results, ALL),
        "lead": [text for _, text in said(findings(results))],
        "size": (size := shown_size(results)),
        "shown_of": f"of {size.size:,} examples, " if size.size else "",
        "last_place": summary.last_place(results),
        "unfinished": last is not None and last < results.sizes["checkpoint"] - 1,
        "checkpoints": results.sizes["checkpoint"],
        "warnings": warning_sentences(results),
        "meanings": summary.marks_shown(results),
        "chance": "null_upper" in results["network"].to_dataset(),
        "cancelling": any(cancel(results[name].to_dataset()).any() for name in GROUPS),
        "skipped": (skipped := summary.skipped_checkpoints(results)),
        "measured": results.sizes["checkpoint"] - len(skipped),
        "sizes": [size["name"] for size in data["sizes"]],
        "help_rows": data.get("examples", {}).get("help", {}).get("rows", []),
        "layers": summary.layer_summaries(results, list(subsets)),
        "parameters": int(results["layers"].to_dataset()["parameter_count"].sum()),
        "cosines": between,
        "cosine_rows": between.rows(last) if between and last is not None else [],
        "loss_units": results.to_dataset()["loss"].attrs.get("units", ""),
        "facts": facts.facts(origin),
        "proof": facts.proof_facts(origin),
        "readings": facts.checkpoint_facts(results, origin),
        "figures": still_figures(OF_A_RUN, results, pictures, places := training(results).names),
        "network_table": table_of(of_network(results), places, most=None),
    }
