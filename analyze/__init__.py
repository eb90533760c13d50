"""When, in which layer and for which examples the gradients of a network agree.

``measure`` takes a model in memory, and ``concat`` what it gave along a training; ``run`` takes a
directory of checkpoints, which ``scan`` and ``check`` look at before, and ``status`` meanwhile.
``open_results`` reads what was written, as an ``xarray.DataTree``; ``show`` gives rows of it,
``examples`` ranks single ones, ``report`` writes a page, ``compare`` puts several side by side.
Every command is the function of its name. Importing this package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analyze.checkpoints.scan import scan
    from analyze.comparison import compare
    from analyze.errors import InputError
    from analyze.probes import ProbeSet
    from analyze.rankings.ranking import examples
    from analyze.reports.page import report
    from analyze.results.concatenation import concat
    from analyze.results.file import open_results
    from analyze.results.show import show
    from analyze.runs.check import check
    from analyze.runs.in_memory import measure
    from analyze.runs.pipeline import run
    from analyze.runs.status import status

__all__ = [
    "InputError", "ProbeSet", "check", "compare", "concat", "examples", "measure", "open_results",
    "report", "run", "scan", "show", "status",
]  # fmt: skip

_HOMES = {
    "InputError": "analyze.errors",
    "ProbeSet": "analyze.probes",
    "check": "analyze.runs.check",
    "compare": "analyze.comparison",
    "concat": "analyze.results.concatenation",
    "examples": "analyze.rankings.ranking",
    "measure": "analyze.runs.in_memory",
    "open_results": "analyze.results.file",
    "report": "analyze.reports.page",
    "run": "analyze.runs.pipeline",
    "scan": "analyze.checkpoints.scan",
    "show": "analyze.results.show",
    "status": "analyze.runs.status",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, torch with it only where it must be."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
