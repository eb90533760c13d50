"""When, in which layer and for which examples the gradients of a network agree.

``measure`` takes a model in memory, and ``concat`` what it gave along a training; ``run`` takes a
directory of checkpoints, which ``scan`` and ``check`` look at before, and ``status`` meanwhile.
``open_results`` reads what was written, as an ``xarray.DataTree``; ``show`` gives rows of it,
``to_csv`` writes them; ``plot`` draws a figure, ``report`` writes a page, ``compare`` puts several
side by side, ``examples`` ranks single ones. Every command is the function of its name.
``statistics`` derives more from results, ``probes`` reads and writes files of examples, ``figures``
names what can be drawn. Importing this package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analyze import figures as figures
    from analyze import probes as probes
    from analyze import statistics as statistics
    from analyze.checkpoints.scan import scan
    from analyze.comparison import compare
    from analyze.errors import InputError
    from analyze.figures import plot
    from analyze.probes import ProbeSet
    from analyze.rankings.ranking import examples
    from analyze.reports.page import report
    from analyze.results.concatenation import concat
    from analyze.results.file import open_results
    from analyze.results.show import show, to_csv
    from analyze.runs.check import check
    from analyze.runs.in_memory import measure
    from analyze.runs.pipeline import run
    from analyze.runs.starter_card import init
    from analyze.runs.status import status

__all__ = [
    "InputError", "ProbeSet", "check", "compare", "concat", "examples", "init", "measure",
    "open_results", "plot", "report", "run", "scan", "show", "status", "to_csv",
]  # fmt: skip

_HOMES = {
    "InputError": "analyze.errors",
    "ProbeSet": "analyze.probes",
    "check": "analyze.runs.check",
    "compare": "analyze.comparison",
    "concat": "analyze.results.concatenation",
    "examples": "analyze.rankings.ranking",
    "init": "analyze.runs.starter_card",
    "measure": "analyze.runs.in_memory",
    "open_results": "analyze.results.file",
    "plot": "analyze.figures.choice",
    "report": "analyze.reports.page",
    "run": "analyze.runs.pipeline",
    "scan": "analyze.checkpoints.scan",
    "show": "analyze.results.show",
    "status": "analyze.runs.status",
    "to_csv": "analyze.results.show",
}
_MODULES = ("figures", "probes", "statistics")


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, torch with it only where it must be."""
    if name == "__version__":
        from importlib.metadata import version  # takes longer than the rest of this file

        return version("gradient-coherence")
    if name in _MODULES:
        return import_module(f"analyze.{name}")
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message, name=name, obj=import_module(__name__))  # what is like it
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])
