"""The page of a comparison: everything about several runs in one HTML file without references."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from analyze.comparison import examples, rows
from analyze.comparison.cards import cards
from analyze.comparison.details import details
from analyze.comparison.runs import grouped
from analyze.comparison.sentences import lead
from analyze.errors import InputError
from analyze.figures import pair_ratio
from analyze.figures.names import plain
from analyze.figures.run_lines import words_of_gaps, words_of_seeds
from analyze.figures.table import OF_A_COMPARISON, comparison_figures
from analyze.pages.facts import facts
from analyze.pages.figures import still_figures
from analyze.pages.skeleton import render
from analyze.pages.writing import check_directory, write_page
from analyze.results.file import file_content, has_group
from analyze.results.tree import OK
from analyze.statistics.regrouping import provenance
from analyze.statistics.significance import RATE
from analyze.statistics.sizes import shown_size

HERE = Path(__file__).parent
COMMAND = "compare"
FILE = "comparison.h5"
IN_TITLE = 3  # runs that the title names
MOST_STILL = 3  # figures of pairs in the page at most


def write_comparison(comparison: xr.DataTree, directory: Path, ratios: Iterable[str] = ()) -> Path:
    """Write ``figures/*.{svg,pdf,png}``, ``comparison.h5`` and, last, ``index.html``.

    Returns the path of ``comparison.h5``.

    ``ratios`` are pairs, ``B / A``, with a figure besides those that have one anyway. Pages of the
    same comparison are the same, byte for byte.

    Raises:
        InputError: as ``check_output``, or there is no such pair.
    """
    check_output(directory)
    page = write_page(
        directory,
        COMMAND,
        lambda: comparison_figures(comparison, ratios),
        lambda pictures: render_page(comparison, pictures),
        lambda: {FILE: file_content(comparison)},
    )
    return page.with_name(FILE)


def check_output(directory: Path) -> None:
    """Check before the work that a comparison can be written to a directory.

    Raises:
        InputError: it cannot be written to, or has another ``index.html`` or ``comparison.h5``.
    """
    check_directory(directory, COMMAND, FILE)
    file = directory / FILE
    if file.exists() and not has_group(file, "pairs"):
        raise InputError(
            "the comparison would replace another file",
            found=f"{file}, which is no comparison: perhaps the results of a run",
            expected="an empty directory, one that does not exist, or an older one of its own",
            fix="--output DIR, another directory",
        )


def render_page(comparison: xr.DataTree, pictures: Mapping[str, bytes]) -> str:
    """The HTML of the page, with some of the figures.

    ``pictures`` are the contents of the SVG files of ``comparison_figures``, by their names.
    """
    data = details(comparison)
    return render(
        HERE / "page.html",
        _contents(comparison, pictures, data),
        command=COMMAND,
        data=data,
        scripts=[HERE / "page.js"],
    )


def _contents(
    comparison: xr.DataTree, pictures: Mapping[str, bytes], data: dict[str, Any]
) -> dict[str, Any]:
    origin = provenance(comparison)
    subset = rows.headline_subset(comparison)
    status = comparison.to_dataset()["status"].values.astype(str)
    every = comparison["pairs/network"].sizes["pair"]
    runs = [run["name"] for run in data["runs"]]
    return {
        "title": _title(data["sides"]),
        "runs": runs,
        "sides": data["sides"],
        "grouped": any(side["group"] is not None for side in data["sides"]),
        "size": shown_size(comparison),
        "compared_at": data["size"],
        "sizes": [size["name"] for size in data["sizes"]],
        "subset": plain(subset),
        "lead": [plain(sentence) for sentence in lead(comparison, subset)],
        "cards": cards(comparison, data["sides"], subset),
        "subsets": data["subsets"],
        "rows": data["rows"],
        "pairs": [pair["name"] for pair in data["pairs"]],
        "pairs_left_out": every - len(data["pairs"]),
        "training": [name for name in ("loss", "accuracy") if name in data],
        "checkpoints": comparison.sizes["checkpoint"],
        "shared": int((status == OK).all(axis=0).sum()),
        "align": origin["align"],
        "gaps": words_of_gaps(comparison) + words_of_seeds(comparison),
        "renamed": {plain(old): plain(new) for old, new in origin["renamed"].items()},
        "remarks": [plain(remark) for remark in rows.remarks(comparison)],
        "lacking": [(plain(r), n) for r, n in rows.lacking_layers(comparison).items()],
        "rate": RATE,
        "events": rows.event_tables(comparison),
        "settings": grouped(origin["differing_settings"]),
        "facts": [(plain(name), facts(run)) for name, run in origin["runs"].items()],
        **examples.contents(comparison),
        "figures": still_figures(
            OF_A_COMPARISON, comparison, _still(pictures), data["along"]["names"]
        ),
    }


def _still(pictures: Mapping[str, bytes]) -> dict[str, bytes]:
    """All figures but those of further pairs."""
    further = list(pair_ratio.FIGURE.drawn(pictures))[MOST_STILL:]
    return {name: picture for name, picture in pictures.items() if name not in further}


def _title(sides: list[dict[str, Any]]) -> str:
    """The names of few sides; of many their number, and what they are."""
    names = [side["label"] for side in sides]
    if len(names) <= IN_TITLE:
        return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    kinds = {side["group"] is not None for side in sides}
    what = {False: "runs", True: "configurations"}
    return f"{len(names)} {' and '.join(what[kind] for kind in sorted(kinds))} side by side"
