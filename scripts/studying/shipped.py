"""Pages of the study as the package writes them: a report, and the configurations compared.

They are made from the results files with all layers, which are there where the study was measured.
"""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import analyze
from analyze.errors import listed
from analyze.files.whole import write_whole
from scripts.studying.design import NETWORKS, Training, trainings
from scripts.studying.store import BUILD, FOLDER

EXAMPLE = Training(NETWORKS["residual"], 50, 0)
COMPARED = (0, 50, 100)  # percent of the labels
COMPARED_SIZE = 160  # examples: the smallest subset of random labels, 27 clean ones, shows little
# Where the script and its temporary directories lay is of no use to a reader; results of the study
# name it that were measured before runs took relative paths and commands only their names.
PLACES_HERE = re.compile(r"(?:/[\w.-]+)*/(?=scripts/studying/)|/(?:[\w.-]+/)*tmp\w{8}/")
REPORT, COMPARISON = FOLDER / "report.html", FOLDER / "comparison.html"


def results_of(training: Training, build: Path = BUILD) -> Path:
    """The results file with all layers, of recomputed batch norm statistics."""
    return build / f"{training.name}_recomputed.h5"


def configurations() -> dict[str, list[Training]]:
    """The runs of each share of noise of the main network, by the name that the page has for it."""
    main = [t for t in trainings() if t.network is NETWORKS["residual"]]
    return {f"{noise} % noise": [t for t in main if t.noise == noise] for noise in COMPARED}


def missing(build: Path = BUILD) -> list[str]:
    """The trainings whose results files the pages need and do not find."""
    needed = [EXAMPLE, *(t for group in configurations().values() for t in group)]
    return sorted({t.name for t in needed if not results_of(t, build).exists()})


def written_pages(build: Path = BUILD) -> str:
    """Write both where all results files are there; what was done in a sentence."""
    if lacking := missing(build):
        return f"{REPORT.name} and {COMPARISON.name} stay: {build} has no {listed(lacking)}"
    groups = configurations()
    runs = {t.name: results_of(t, build) for group in groups.values() for t in group}
    names = {name: [t.name for t in group] for name, group in groups.items()}
    with TemporaryDirectory() as folder:
        report, comparison = Path(folder) / "report", Path(folder) / "comparison"
        analyze.report(results_of(EXAMPLE, build), output=report)
        # Each seed has images of its own.
        analyze.compare(
            runs, output=comparison, groups=names, different_probes=True, at_size=COMPARED_SIZE
        )
        # The figures beside a page are in it, and are not kept.
        for page, path in ((report, REPORT), (comparison, COMPARISON)):
            text = (page / "index.html").read_text(encoding="utf-8")
            write_whole(path, PLACES_HERE.sub("", text).encode())
    return f"{REPORT} and {COMPARISON} show {len(runs)} trainings with all layers"
