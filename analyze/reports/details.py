"""What the page draws when the reader chooses a layer, a subset and a checkpoint."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import xarray as xr

from analyze.figures.colours import subset_colours
from analyze.figures.intervals import fold_count, t_quantile
from analyze.figures.layer_heatmap import RATE
from analyze.figures.lines import shown_subsets
from analyze.figures.names import plain
from analyze.figures.training import training
from analyze.pages.embedding import packed
from analyze.pages.values import DASHES
from analyze.probes.subsets import ALL
from analyze.results.tree import OK
from analyze.statistics.warnings import FLAGS, KINDS, flagged

NETWORK = "whole network"


def details(results: xr.DataTree, x: str | None = None) -> dict[str, Any]:
    """The data of the page's script, along ``x`` as ``training`` has it.

    Arrays are [row, subset, checkpoint] in float32, the network as the first row and the layers
    in forward order after it: ``m_coherence``, half its 95 % interval and the band of chance, and
    as one byte each the bits of ``warning_flags`` and whether the value cannot be told from chance:
    for the network where it lies inside its band, for layers where the p-value, adjusted for the
    false discovery rate, says so, as in the figures.
    """
    labels = shown_subsets(results)
    groups = [results[name].to_dataset() for name in ("network", "layers")]
    rows = [_Row(results, group, list(labels)) for group in groups]
    return {
        "training": _training(results, x),
        "rows": _rows(groups[1]),
        "subsets": _subsets(results, labels),
        "kinds": [[2**bit, kind.mark, kind.text] for bit, kind in enumerate(KINDS) if kind.mark],
        "start": _start(results, list(labels)),
        "m_coherence": packed(np.concatenate([row.array("m_coherence") for row in rows])),
        "half_width": packed(np.concatenate([row.half_width() for row in rows])),
        "null_lower": packed(np.concatenate([row.array("null_lower") for row in rows])),
        "null_upper": packed(np.concatenate([row.array("null_upper") for row in rows])),
        "chance": packed(np.concatenate([row.chance() for row in rows]), "uint8"),
        "flags": packed(np.concatenate([row.flags() for row in rows]), "uint8"),
    }


class _Row:
    """The network or the layers, as arrays of [row, subset, checkpoint]."""

    def __init__(self, results: xr.DataTree, group: xr.Dataset, subsets: list[str]) -> None:
        self.results, self.subsets = results, subsets
        self.group = group.sel(subset=subsets)

    def array(self, name: str) -> np.ndarray:
        """A variable; NaN where results of an older version do not have it."""
        if name not in self.group:
            return np.full_like(self.array("m_coherence"), np.nan)
        return self._ordered(self.group[name])

    def half_width(self) -> np.ndarray:
        """Half the 95 % interval, which lies evenly around the value."""
        if "m_coherence_upper" in self.group:
            return self.array("m_coherence_upper") - self.array("m_coherence")
        degrees = [fold_count(self.results, name) - 1.0 for name in self.subsets]
        quantile = np.asarray(t_quantile(np.array(degrees)))
        return quantile[:, None] * self.array("m_coherence_stderr")

    def chance(self) -> np.ndarray:
        """1 where the value cannot be told from chance."""
        if "p_value_adjusted" in self.group and "layer" in self.group.dims:
            return self._ordered(self.group["p_value_adjusted"] > RATE).astype(np.uint8)
        if FLAGS not in self.group:
            return np.zeros_like(self.array("m_coherence"), dtype=np.uint8)
        return self._ordered(flagged(self.group, "inside_null_band")).astype(np.uint8)

    def flags(self) -> np.ndarray:
        """The bits of the warnings; 0 where there is no value."""
        return np.nan_to_num(self.array(FLAGS)).astype(np.uint8)

    def _ordered(self, values: xr.DataArray) -> np.ndarray:
        if "layer" not in values.dims:
            values = values.expand_dims("layer")
        return values.transpose("layer", "subset", "checkpoint").values


def _training(results: xr.DataTree, x: str | None) -> dict[str, Any]:
    along = training(results, x)
    known = [float(v) if np.isfinite(v) else None for v in along.values]
    skipped = [bool(s) for s in along.skipped]
    names, ticks = list(along.names), list(along.ticks)
    return {"label": along.label, "values": known, "names": names, "ticks": ticks,
            "skipped": skipped, "falling": along.falling}  # fmt: skip


def _rows(layers: xr.Dataset) -> list[list[str]]:
    names = [plain(str(name)) for name in layers["layer"].values]
    types = [plain(str(name)) for name in layers["layer_type"].values]
    return [[NETWORK, ""], *([name, kind] for name, kind in zip(names, types, strict=True))]


def _subsets(results: xr.DataTree, labels: dict[str, str]) -> list[dict[str, Any]]:
    """Each subset's label, size, colour, and a dash where others before it have the same colour."""
    counts = results.to_dataset()["probe_count"]
    colours = subset_colours(results["network"].to_dataset()["subset"].values)
    used: Counter[str] = Counter()
    subsets = []
    for name, label in labels.items():
        colour = colours[name]
        dash = DASHES[used[colour] % len(DASHES)]
        subsets.append(
            {"name": label, "colour": colour, "dash": dash, "m": int(counts.sel(subset=name))}
        )
        used[colour] += 1
    return subsets


def _start(results: xr.DataTree, subsets: list[str]) -> dict[str, int]:
    """What is chosen when the page opens: ``all`` at the network's peak, else the first."""
    subset = subsets.index(ALL) if ALL in subsets else 0
    values = results["network"].to_dataset()["m_coherence"].sel(subset=subsets[subset]).values
    measured = np.flatnonzero(results.to_dataset()["status"].values.astype(str) == OK)
    peak = int(np.nanargmax(values)) if np.isfinite(values).any() else int(measured[:1].sum())
    return {"subset": subset, "checkpoint": peak}
