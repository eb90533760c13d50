"""Comparisons with invented numbers, in the layout that ``compare`` gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analyze.comparison import page as comparison_page
from tests.trees import pictures


def make_comparison(
    *,
    runs: Sequence[str] = ("first", "second"),
    steps: Sequence[float] = (0, 4, 16, 64, 256),
    layers: Sequence[str] = ("conv1", "bn1", "fc"),
    subsets: Sequence[str] = ("clean", "corrupted", "all"),
    lacking: dict[str, str] | None = None,
    settings: dict[str, list[str]] | None = None,
    groups: dict[str, list[str]] | None = None,
) -> xr.DataTree:
    """Significant are the ratios above 1.5 or below its inverse.

    Args:
        runs: Their names.
        steps: Of the checkpoints, the same in all runs.
        layers: Of all runs.
        subsets: Of all runs.
        lacking: Run and layer that it does not have.
        settings: Those that differ.
        groups: Runs that are seeds of one configuration.
    """
    runs, layers, subsets = list(runs), list(layers), list(subsets)
    random = np.random.default_rng(0)
    along = {
        "checkpoint": np.array([f"step {step:g}" for step in steps], dtype=object),
        "step": ("checkpoint", np.array(steps, dtype=float)),
        "epoch": ("checkpoint", np.full(len(steps), np.nan)),
    }
    names = {"run": np.array(runs, dtype=object), "subset": np.array(subsets, dtype=object)}
    rows = {"layer": np.array(layers, dtype=object)}
    two = list(combinations(range(len(runs)), 2))
    pair = {"pair": np.array([f"{runs[b]} / {runs[a]}" for a, b in two], dtype=object)}

    def measured(*dims: str, shape: tuple[int, ...] = ()) -> xr.Dataset:
        drawn = np.exp(random.normal(2.0, 0.6, (len(runs), len(steps), *shape, len(subsets))))
        value = xr.DataArray(drawn, dims=("run", "checkpoint", *dims, "subset"))
        coordinates = {**along, **names, **(rows if dims else {})}
        return xr.Dataset(
            {
                "m_coherence": value,
                "m_coherence_stderr": 0.1 * value,
                "m_coherence_lower": 0.8 * value,
                "m_coherence_upper": 1.2 * value,
            },
            coordinates,
        )

    def ratios(group: xr.Dataset) -> xr.Dataset:
        value = np.log(group["m_coherence"])
        found = [value.isel(run=b, drop=True) - value.isel(run=a, drop=True) for a, b in two]
        ratio = xr.concat(found, xr.DataArray(pair["pair"], dims="pair", name="pair"))
        return xr.Dataset(
            {
                "log_ratio": ratio,
                "log_ratio_lower": ratio - 0.2,
                "log_ratio_upper": ratio + 0.2,
                "p_value_adjusted": xr.where(abs(ratio) > np.log(1.5), 0.01, 0.5).where(
                    ratio.notnull()
                ),
                "compared_at": 500,
                "paired": ("pair", np.ones(len(two), dtype=bool)),
                "over_seeds": ("pair", np.zeros(len(two), dtype=bool)),
            }
        )

    network, of_layers = measured(), measured("layer", shape=(len(layers),))
    present = xr.DataArray(np.ones((len(runs), len(layers))), dims=("run", "layer"))
    of_layers["present"] = present
    for run, layer in (lacking or {}).items():
        for name in of_layers:
            of_layers[name].loc[{"run": run, "layer": layer}] = np.nan
    shape = (len(runs), len(steps))
    root = xr.Dataset(
        {
            "status": (("run", "checkpoint"), np.full(shape, "ok", dtype=object)),
            "probe_count": (("run", "subset"), np.full((len(runs), len(subsets)), 500)),
            "probes": ("run", np.full(len(runs), "hash of the inputs", dtype=object)),
            "loss": (("run", "checkpoint", "subset"), np.ones((*shape, len(subsets)))),
        },
        {**along, **names},
    )
    of_pairs = ratios(network)
    peak = network.isel(checkpoint=network["m_coherence"].argmax("checkpoint"))
    first = of_pairs["step"].where(of_pairs["p_value_adjusted"] <= 0.05).min("checkpoint")
    events = xr.Dataset(
        {
            "peak": peak["m_coherence"].drop_vars(["checkpoint", "step", "epoch"]),
            "peak_stderr": peak["m_coherence_stderr"].drop_vars(["checkpoint", "step", "epoch"]),
            "peak_step": peak["step"].drop_vars(["checkpoint", "epoch"]),
            "first_significant_step": first,
            "compared_at": 500,
        }
    )
    tables = {"/": root, "/network": network, "/layers": of_layers, "/pairs/network": of_pairs}
    tables |= {"/pairs/layers": ratios(of_layers), "/events": events.drop_vars("step")}
    if groups:
        for name, table in (("network", network), ("layers", of_layers)):
            tables[f"/groups/{name}"] = _means(table["m_coherence"], groups)
    tree = xr.DataTree.from_dict(tables)
    provenance = _provenance(runs, settings) | {"groups": groups or {}}
    tree.attrs = {"schema_version": 1, "provenance": json.dumps(provenance)}
    return tree


def _means(value: xr.DataArray, groups: dict[str, list[str]]) -> xr.Dataset:
    means = [value.sel(run=names).mean("run") for names in groups.values()]
    label = xr.DataArray(np.array(list(groups), dtype=object), dims="group", name="group")
    mean = xr.concat(means, label)
    number = xr.concat([value.sel(run=n).notnull().sum("run") for n in groups.values()], label)
    values = {"m_coherence": mean, "m_coherence_upper": 1.5 * mean, "compared_at": 500}
    values |= {"runs": number}
    return xr.Dataset(values)


def _provenance(runs: Sequence[str], settings: dict[str, list[str]] | None) -> dict[str, Any]:
    one = {"run": {"path": "runs/one"}, "command": "analyze run runs/one", "loss": "cross_entropy"}
    return {
        "runs": dict.fromkeys(runs, one),
        "align": "step",
        "renamed": {},
        "differing_settings": settings or {},
    }


def write_comparison(folder: Path, tree: xr.DataTree) -> Path:
    """The page alone, with empty figures."""
    path = folder / "comparison.html"
    html = comparison_page.render_page(tree, pictures("training"))
    path.write_text(html, encoding="utf-8")
    return path
