"""When, in which layer and for which examples the gradients of a network agree.

``measure`` takes a model in memory, ``run`` a directory of checkpoints, ``open_results`` reads
what was written, ``compare`` puts several side by side; all give an ``xarray.DataTree``.
Importing this package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analyze.comparison import compare
    from analyze.errors import InputError
    from analyze.probes import ProbeSet
    from analyze.results.file import open_results
    from analyze.runs.pipeline import measure, run

__all__ = ["InputError", "ProbeSet", "compare", "measure", "open_results", "run"]

_HOMES = {
    "InputError": "analyze.errors",
    "ProbeSet": "analyze.probes",
    "compare": "analyze.comparison",
    "measure": "analyze.runs.pipeline",
    "open_results": "analyze.results.file",
    "run": "analyze.runs.pipeline",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, torch with it only where it must be."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
