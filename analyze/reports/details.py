"""The data from which the page draws the layer, subset and checkpoint that a reader chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from analyze.figures.bands import with_interval
from analyze.figures.looks import subset_looks
from analyze.figures.names import plain
from analyze.figures.training import SCALES, scale_of_training, training
from analyze.pages.embedding import packed
from analyze.pages.sizes import offered
from analyze.probes.subsets import ALL
from analyze.results.subsets import shown_subsets
from analyze.results.tree import OK
from analyze.statistics.significance import cancel, within_chance
from analyze.statistics.sizes import CHOICES
from analyze.statistics.warnings import FLAGS, KINDS

NETWORK = "whole network"
GROUPS = ("network", "layers")  # in the order of the rows


def details(results: xr.DataTree, x: str | None = None) -> dict[str, Any]:
    """The data of the page's script, along the axis ``x``, as for ``training``.

    Arrays are [row, subset, checkpoint], with the network as the first row and the layers in
    forward order after it: in float32 ``m_coherence``, the ends of its 95 % interval and of the
    band of chance, each as of the subset's own m, which the page brings to one size; in one byte
    the bits of ``warning_flags``, and whether by the rule of ``statistics.significance`` the value
    cannot be told from chance, or gradients cancel.
    """
    labels = shown_subsets(results)
    subsets = list(labels)
    network, layers = (with_interval(results, name).sel(subset=subsets) for name in GROUPS)

    def rows(values: Callable[[xr.Dataset], xr.DataArray], kind: str = "float32") -> dict[str, Any]:
        """The network, then the layers, as an array of [row, subset, checkpoint]."""
        both = [values(network).expand_dims("layer"), values(layers)]
        order = ("layer", "subset", "checkpoint")
        return packed(np.concatenate([v.transpose(*order).values for v in both]), kind)

    return {
        "training": _training(results, x),
        "rows": _rows(layers),
        "subsets": _subsets(results, labels),
        "kinds": [[2**bit, kind.mark, kind.text] for bit, kind in enumerate(KINDS) if kind.mark],
        "start": _start(results, subsets),
        "m_coherence": rows(lambda group: group["m_coherence"]),
        "lower": rows(lambda group: group["m_coherence_lower"]),
        "upper": rows(lambda group: group["m_coherence_upper"]),
        "null_lower": rows(lambda group: _known(group, "null_lower")),
        "null_upper": rows(lambda group: _known(group, "null_upper")),
        "chance": rows(within_chance, "uint8"),
        "sizes": offered(results, CHOICES),
        "cancels": rows(cancel, "uint8"),
        "flags": rows(lambda group: _known(group, FLAGS).fillna(0), "uint8"),
    }


def _known(group: xr.Dataset, name: str) -> xr.DataArray:
    """A variable; NaN where results of an older version do not have it."""
    return group[name] if name in group else xr.full_like(group["m_coherence"], np.nan)


def _training(results: xr.DataTree, x: str | None) -> dict[str, Any]:
    along = training(results, x)
    return {
        "label": along.label,
        "values": [float(v) if np.isfinite(v) else None for v in along.values],
        "names": along.names,
        "ticks": along.ticks,
        "skipped": along.skipped.tolist(),
        "falling": along.falling,
    }


def _rows(layers: xr.Dataset) -> list[list[str]]:
    names = [plain(str(name)) for name in layers["layer"].values]
    types = [plain(str(name)) for name in layers["layer_type"].values]
    return [[NETWORK, ""], *([name, kind] for name, kind in zip(names, types, strict=True))]


def _subsets(results: xr.DataTree, labels: dict[str, str]) -> list[dict[str, Any]]:
    """Each subset's label, look and size."""
    counts = results.to_dataset()["probe_count"]
    looks = subset_looks(results["network"].to_dataset()["subset"].values)
    return [
        {"name": label, **looks[name].data, "m": int(counts.sel(subset=name))}
        for name, label in labels.items()
    ]


def _start(results: xr.DataTree, subsets: list[str]) -> dict[str, int]:
    """The first choice of the page: ``all``, or the first subset, at the network's peak.

    ``along`` is the scale of training, by its place among ``SCALES``, which the page lists.
    """
    subset = subsets.index(ALL) if ALL in subsets else 0
    values = results["network"].to_dataset()["m_coherence"].sel(subset=subsets[subset]).values
    measured = np.flatnonzero(results.to_dataset()["status"].values.astype(str) == OK)
    peak = int(np.nanargmax(values)) if np.isfinite(values).any() else int(measured[:1].sum())
    return {"subset": subset, "checkpoint": peak, "along": SCALES.index(scale_of_training())}
