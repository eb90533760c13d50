"""Unions, parts and groups: other subsets and layers of results that are already there.

Cells add up to any union and split into whatever they were summed by; parameters add up to any
group of layers. What is finer than the cells needs another run, and is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import xarray as xr

from analyze.errors import InputError, listed
from analyze.probes.subsets import ALL
from analyze.statistics import labelled

PREFIX = "cell_"
NO_COLUMN = ("cell_other", "cell_fold")  # coordinates that are not labels of the probes

Conditions = Mapping[str, str | int | Sequence[str | int]]


@dataclass(frozen=True)
class Grouped:
    """Sufficient statistics as a question wants them.

    Args:
        parameters: Summed over the layers of each group; with ``layer``, or without for the whole
            network.
        members: ``(subset, cell)``.
        examples: What ``labelled.of_examples`` gives; None where the results have no norms.
    """

    parameters: xr.Dataset
    members: xr.DataArray
    examples: xr.Dataset | None

    @property
    def coherence(self) -> xr.Dataset:
        """Every coherence variable of these groups."""
        return labelled.coherence(self.parameters, self.members, self.examples)


def coherence(
    results: xr.DataTree,
    *,
    layers: str | Mapping[str, Sequence[str]] = "network",
    subsets: Mapping[str, Conditions] | None = None,
) -> xr.Dataset:
    """Coherence of any groups of layers and any subsets that the cells can make.

    Args:
        results: The results tree.
        layers: ``network``, ``layers`` (each for itself), or for each group's name the layers in
            it: paths, or patterns such as ``block1.*``.
        subsets: For each subset's name what its probes must have: ``{"cats": {"class": "cat"},
            "pets, wrong": {"class": ["cat", "dog"], "subset": "corrupted"}}``. Columns are
            ``subset`` and what the run was given with ``--cells``. None: those of the results.

    Returns:
        The variables of the results' groups ``/network`` and ``/layers``, over ``checkpoint``,
        ``layer`` (unless the whole network is asked for) and ``subset``.

    Raises:
        InputError: a column that the cells do not tell apart, or a name or value that does not
            exist.

    Cost: a few milliseconds for each checkpoint and group; nothing is measured.
    """
    return grouped(results, layers, subsets).coherence


def grouped(
    results: xr.DataTree,
    layers: str | Mapping[str, Sequence[str]],
    subsets: Mapping[str, Conditions] | None,
) -> Grouped:
    """The sufficient statistics for ``coherence`` and its relatives; see there."""
    table = results.children["parameters"].to_dataset(inherit=False)
    of_cell = {
        str(name).removeprefix(PREFIX): table[name].values.astype(str)
        for name in table.coords
        if str(name).startswith(PREFIX) and name not in NO_COLUMN
    }
    members = cell_members(results) if subsets is None else _matching("cell", of_cell, subsets)
    chosen = _layer_groups(list(dict.fromkeys(table["layer"].values.astype(str))), layers)
    sums = _summed(table, chosen)
    return Grouped(sums, members, _examples(results, chosen, subsets))


def held_out(results: xr.DataTree) -> list[str]:
    """The subsets that training did not see."""
    found = json.loads(results.attrs.get("provenance", "{}")).get("held_out")
    return [str(name) for name in found or []]


def subset_names(results: xr.DataTree) -> list[str]:
    """The subsets but ``all``."""
    return [str(name) for name in results.to_dataset()["subset"].values if name != ALL]


def cell_members(results: xr.DataTree) -> xr.DataArray:
    """Which cells each subset of the results is made of, ``(subset, cell)``."""
    subset = results["parameters"].to_dataset()["cell_subset"].values
    return labelled.subset_members(subset, subset_names(results), held_out(results))


def probe_members(results: xr.DataTree) -> xr.DataArray:
    """Which probes of ``/examples`` each subset of the results has, ``(subset, probe)``."""
    subset = results.children["examples"].to_dataset(inherit=False)["subset"].values
    members = labelled.subset_members(subset, subset_names(results), held_out(results))
    return members.rename(cell="probe")


def _summed(table: xr.Dataset, groups: dict[str, list[str]] | None) -> xr.Dataset:
    """Over the parameters of each group; over all where there are none."""
    needed = table[["gradient_gram", "gradient_sqnorm", "probe_count"]]
    if groups is None:
        return labelled.summed(needed)
    parts = []
    for names in groups.values():
        inside = np.flatnonzero(np.isin(table["layer"].values.astype(str), names))
        parts.append(labelled.summed(needed.isel(parameter=inside)))
    sums = [part.drop_vars("probe_count") for part in parts]
    joined = xr.concat(sums, _named(groups), coords="minimal", compat="override")
    return joined.transpose("checkpoint", "layer", ...).assign(probe_count=table["probe_count"])


def _named(groups: dict[str, list[str]]) -> xr.IndexVariable:
    return xr.IndexVariable("layer", np.array(list(groups), dtype=object))


def _examples(
    results: xr.DataTree,
    groups: dict[str, list[str]] | None,
    subsets: Mapping[str, Conditions] | None,
) -> xr.Dataset | None:
    """Of the examples' norms, where the results have them."""
    if "examples" not in results.children:
        return None
    table = results.children["examples"].to_dataset(inherit=False)
    norms = table["gradient_sqnorm"].astype(float)
    if groups is None:
        norms = norms.sum("layer", skipna=False)
    else:
        parts = [norms.sel(layer=which).sum("layer", skipna=False) for which in groups.values()]
        norms = xr.concat(parts, _named(groups), coords="minimal", compat="override")
    if subsets is None:
        members = probe_members(results)
    else:
        labels = {
            str(name): table[name].values.astype(str)
            for name in table.coords
            if table[name].dims == ("probe",) and name != "probe"
        }
        members = _matching("probe", labels, subsets)
    return labelled.of_examples(norms, members)


def _matching(
    dimension: str, columns: Mapping[str, np.ndarray], subsets: Mapping[str, Conditions]
) -> xr.DataArray:
    """Which cells or probes meet the conditions of each subset, ``(subset, cell or probe)``."""
    rows = []
    for conditions in subsets.values():
        row = np.ones(len(columns["subset"]), dtype=bool)
        for column, wanted in conditions.items():
            values = [wanted] if isinstance(wanted, str | int) else list(wanted)
            row &= np.isin(_column(columns, column, values), [str(value) for value in values])
        rows.append(row)
    return xr.DataArray(
        np.stack(rows), dims=("subset", dimension), coords={"subset": list(subsets)}
    )


def _column(
    columns: Mapping[str, np.ndarray], name: str, wanted: Sequence[str | int]
) -> np.ndarray:
    if name not in columns:
        raise InputError(
            "the cells are too coarse for this question",
            found=f"a subset by {name}; cells by {listed(sorted(columns))} and fold",
            expected="a column by which the run summed its gradients: nothing finer can be told "
            "apart afterwards",
            fix=f"measure again with the column of the probe file: analyze run RUN --cells {name}",
        )
    known = list(dict.fromkeys(columns[name].tolist()))
    missing = [str(value) for value in wanted if str(value) not in known]
    if missing:
        raise InputError(
            "no probe has this label",
            found=f"{name} = {listed(missing)}",
            expected=f"one of {listed(known)}",
            fix=f"choose from the values of {name}",
        )
    return columns[name]


def _layer_groups(
    names: list[str], layers: str | Mapping[str, Sequence[str]]
) -> dict[str, list[str]] | None:
    """The layers of each group; None for the whole network."""
    if layers == "network":
        return None
    if layers == "layers":
        return {name: [name] for name in names}
    if isinstance(layers, str):
        raise _no_layer(layers, names)
    groups = {}
    for group, patterns in layers.items():
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise _no_layer(pattern, names)
        groups[group] = [n for n in names if any(fnmatchcase(n, p) for p in patterns)]
    return groups


def _no_layer(found: str, names: list[str]) -> InputError:
    return InputError(
        "no such layer in the results",
        found=repr(found),
        expected=f"network, layers, or patterns that match some of {listed(names)}",
        fix='layers={"group": ["block1.*"]}',
    )
