"""The subsets that stand side by side, in words."""

from __future__ import annotations

import xarray as xr

from analyze.probes.subsets import ALL
from analyze.statistics.regrouping import same_as_all
from analyze.text import shown_name


def shown_subsets(results: xr.DataTree) -> dict[str, str]:
    """The label of each subset; where ``all`` is a subset alone, one label: ``clean = all``."""
    names = results["network"].to_dataset()["subset"].values
    labels = {str(name): shown_name(str(name)) for name in names}
    if (same := same_as_all(results)) is not None:
        labels[same] += " = all"
        del labels[ALL]
    return labels
