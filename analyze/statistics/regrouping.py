"""Other subsets and groups of layers, from the sums of results that are already there.

Cells add up to any union, parameters to any group of layers. A subset that splits a cell needs
another run, and is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from analyze.errors import InputError, like, listed, unknown
from analyze.probes.subsets import ALL
from analyze.statistics.labelled import Labelled

# The group with the labels of cells or probes, and the prefix of their names.
TABLES = {"cell": ("parameters", "cell_"), "probe": ("examples", "")}

# How parameters and layers add up: one that is never used has NaN and counts for nothing.
KNOWN: dict[str, Any] = {"skipna": True, "min_count": 1}

Table = TypeVar("Table", xr.Dataset, xr.DataArray)
Conditions = Mapping[str, str | int | Sequence[str | int]]


def coherence(
    results: xr.DataTree,
    *,
    layers: str | Mapping[str, Sequence[str]] = "network",
    subsets: Mapping[str, Conditions] | None = None,
) -> xr.Dataset:
    """Coherence of any groups of layers and any subsets that the cells can make.

    Args:
        results: The results tree.
        layers: ``network``, ``layers`` (a row for each), or by the name of a group its layers:
            paths, or patterns such as ``block1.*``.
        subsets: By the name of a subset the labels of its probes: ``{"cats": {"class": "cat"},
            "pets, wrong": {"class": ["cat", "dog"], "subset": "corrupted"}}``. Columns are
            ``subset`` and those of the run's ``--cells``. None: the subsets of the results.

    Returns:
        The variables of ``/network`` and ``/layers``, over ``checkpoint``, ``layer`` (but for the
        whole network) and ``subset``.

    Raises:
        InputError: a column that the cells do not tell apart, or a name or value that does not
            exist.

    Example:
        ``analyze.statistics.coherence(results, layers={"head": ["fc*"]})["m_coherence"]``

    Cost: a few milliseconds for each checkpoint and group; nothing is measured.
    """
    return grouped(results, layers, subsets).coherence()


def grouped(
    results: xr.DataTree,
    layers: str | Mapping[str, Sequence[str]],
    subsets: Mapping[str, Conditions] | None,
) -> Labelled:
    """The sufficient statistics of groups of layers and of subsets, named as for ``coherence``."""
    table = own_table(results, "parameters")
    groups = layer_groups(list(dict.fromkeys(table["layer"].values.astype(str))), layers)
    sums = table[["gradient_gram", "gradient_sqnorm"]]  # NaN in parameters that are never used
    sums = _summed(sums, "parameter", groups, **KNOWN, keep_attrs=True)
    sums = sums.assign(probe_count=table["probe_count"])
    members = cell_members(results, subsets)
    if "examples" not in results.children:
        return Labelled(sums, members)
    norms = results.children["examples"].to_dataset(inherit=False)["gradient_sqnorm"]
    norms = _summed(norms.astype(float), "layer", groups, **KNOWN)
    probes = probe_members(results, subsets)
    return Labelled(sums, members, norms, probes, _alignments(results, groups, probes))


def own_table(results: xr.DataTree, group: str) -> xr.Dataset:
    """A group by itself, with the checkpoints of its parent, and nothing else of it."""
    table = results.children[group].to_dataset(inherit=False)
    return table.assign_coords(checkpoint=results.to_dataset()["checkpoint"].values)


def example_table(results: xr.DataTree) -> xr.Dataset:
    """The group ``/examples`` by itself, with the checkpoints of its parent.

    In the tree the parent's index of subsets is handed down to it, where ``subset`` labels probes.
    """
    return own_table(results, "examples")


def grouped_examples(results: xr.DataTree, layers: str | Mapping[str, Sequence[str]]) -> xr.Dataset:
    """Squared norms and alignments of single examples in groups of layers, as for ``coherence``.

    ``gradient_sqnorm`` and ``alignment`` are summed over the layers of a group in float64,
    ``direction_norm`` is the root of the summed squares. The run measured directions.
    """
    table = example_table(results)
    groups = layer_groups(list(table["layer"].values.astype(str)), layers)
    summed = table[["gradient_sqnorm", "alignment"]].astype(float)
    summed["direction_norm"] = table["direction_norm"].astype(float) ** 2
    summed = _summed(summed, "layer", groups, **KNOWN)
    summed["direction_norm"] = summed["direction_norm"] ** 0.5
    return summed


def _alignments(
    results: xr.DataTree, groups: Mapping[str, Sequence[str]] | None, probes: xr.DataArray
) -> xr.DataArray | None:
    """Each example's alignment with the sum of its own subset, ``(..., subset, probe)``.

    NaN for subsets whose sum is none of the run's directions, nor made of some of them; None where
    that holds for all of them.
    """
    table = results.children["examples"].to_dataset(inherit=False)
    if "alignment" not in table:
        return None
    members = direction_members(results)
    parts = {
        str(s.values): parts_of(row.values, members)
        for s, row in zip(probes["subset"], probes, strict=True)
    }
    if not any(parts.values()):
        return None
    summed = _summed(table["alignment"].astype(float), "layer", groups, **KNOWN)
    summed = summed.drop_vars([n for n in summed.coords if summed[n].dims == ("probe",)])
    rows = [
        summed.sel(direction=names).sum("direction", skipna=False)
        if names
        else summed.isel(direction=0, drop=True) * np.nan
        for names in parts.values()
    ]
    return xr.concat(rows, xr.IndexVariable("subset", list(parts)))


def direction_members(results: xr.DataTree) -> dict[str, np.ndarray]:
    """The examples whose gradients add up to each direction, ``[N]``; none for movements.

    A direction is a subset, ``all`` (what is not held out), ``COLUMN=LABEL``, or a movement of
    the weights, ``update`` and ``weights``.
    """
    table = results.children["examples"].to_dataset(inherit=False)
    columns = {
        str(name): labels.values.astype(str)
        for name, labels in table.coords.items()
        if labels.dims == ("probe",) and name != "probe"
    }
    subset = columns["subset"]
    names = table["direction"].values.astype(str) if "direction" in table.coords else ()
    return {name: _members_of(name, subset, columns, held_out(results)) for name in names}


def _members_of(
    name: str, subset: np.ndarray, columns: Mapping[str, np.ndarray], held: list[str]
) -> np.ndarray:
    """The examples whose gradients add up to one direction, ``[N]``."""
    if name in subset:
        return subset == name
    if name == ALL:
        return ~np.isin(subset, held)
    for column, labels in columns.items():
        if name.startswith(f"{column}=") and column != "subset":
            return labels == name.removeprefix(f"{column}=")
    return np.zeros(len(subset), dtype=bool)


def parts_of(wanted: np.ndarray, members: Mapping[str, np.ndarray]) -> list[str]:
    """The directions without a common example that add up to a group's sum; empty where none do.

    One that is the group itself, else those of one column, or subsets, within it.
    """
    families: dict[str, list[str]] = {}
    for name, rows in members.items():
        if rows.any() and np.array_equal(rows, wanted):
            return [name]
        if rows.any() and not (rows & ~wanted).any():
            families.setdefault(name.partition("=")[0] if "=" in name else "", []).append(name)
    for names in families.values():
        if np.array_equal(np.sum([members[name] for name in names], axis=0), wanted.astype(int)):
            return names
    return []


def same_as_all(results: xr.DataTree) -> str | None:
    """The subset that is ``all`` by itself, with its probes and its values; None without one."""
    counts = results.to_dataset()["probe_count"]
    values = results["network"].to_dataset()["m_coherence"]
    for name in values["subset"].values:
        same = np.array_equal(values.sel(subset=name), values.sel(subset=ALL), equal_nan=True)
        if name != ALL and same and int(counts.sel(subset=name)) == int(counts.sel(subset=ALL)):
            return str(name)
    return None


def held_out(results: xr.DataTree) -> list[str]:
    """The subsets that training did not see."""
    return [str(name) for name in provenance(results).get("held_out") or []]


def provenance(results: xr.DataTree) -> dict[str, Any]:
    """The provenance of results or of a comparison; empty where there is none."""
    origin = json.loads(results.attrs.get("provenance", "{}"))
    return origin if isinstance(origin, dict) else {}


def cell_members(
    results: xr.DataTree, subsets: Mapping[str, Conditions] | None = None
) -> xr.DataArray:
    """The cells of each subset, ``(subset, cell)``; by default of the subsets of the results."""
    return _members(results, "cell", subsets)


def probe_members(
    results: xr.DataTree, subsets: Mapping[str, Conditions] | None = None
) -> xr.DataArray:
    """The examples of each subset, ``(subset, probe)``; by default of those of the results."""
    return _members(results, "probe", subsets)


def _members(
    results: xr.DataTree, dimension: str, subsets: Mapping[str, Conditions] | None
) -> xr.DataArray:
    """The cells or probes that meet the conditions of each subset, ``(subset, dimension)``."""
    group, prefix = TABLES[dimension]
    columns = {
        str(name).removeprefix(prefix): labels.values.astype(str)
        for name, labels in results.children[group].to_dataset(inherit=False).coords.items()
        if labels.dims == (dimension,) and name not in (dimension, "cell_fold")
    }
    if subsets is not None:
        rows = {name: _matching(columns, conditions) for name, conditions in subsets.items()}
    else:
        names = [str(name) for name in results.to_dataset()["subset"].values if name != ALL]
        rows = {name: columns["subset"] == name for name in names}
        rows[ALL] = ~np.isin(columns["subset"], held_out(results))
    return xr.DataArray(
        np.stack(list(rows.values())), dims=("subset", dimension), coords={"subset": list(rows)}
    )


def _summed(
    table: Table, dimension: str, groups: Mapping[str, Sequence[str]] | None, **how: Any
) -> Table:
    """A table summed over the parameters or layers of each group; over all without groups."""
    if groups is None:
        return table.sum(dimension, **how)
    layer = table["layer"].values.astype(str)
    parts = [
        table.isel({dimension: np.flatnonzero(np.isin(layer, names))}).sum(dimension, **how)
        for names in groups.values()
    ]
    names = xr.IndexVariable("layer", np.array(list(groups), dtype=object))
    joined = xr.concat(parts, names, coords="minimal", compat="override")
    return joined.transpose("checkpoint", "layer", ...)


def _matching(columns: Mapping[str, np.ndarray], conditions: Conditions) -> np.ndarray:
    """Whether each cell or probe meets all conditions."""
    if not isinstance(conditions, Mapping):
        raise _other_form("subsets", conditions, "for each subset the labels by column")
    fits = np.ones(len(columns["subset"]), dtype=bool)
    for column, wanted in conditions.items():
        values = [wanted] if isinstance(wanted, str | int) else list(wanted)
        fits &= np.isin(_column(columns, column, values), [str(value) for value in values])
    return fits


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
        fix = f"choose from the values of {name}"
        raise unknown("no probe has this label", f"{name} = {listed(missing)}", known, fix)
    return columns[name]


def layer_groups(
    names: list[str], layers: str | Mapping[str, Sequence[str]]
) -> dict[str, list[str]] | None:
    """The layers of each group; None for the whole network."""
    if layers == "network":
        return None
    if layers == "layers":
        return {name: [name] for name in names}
    if isinstance(layers, str):
        raise _no_layer(layers, ["network", "layers"], names)
    if not isinstance(layers, Mapping):
        raise _other_form("layers", layers, "network, layers, or patterns by the name of a group")
    groups = {}
    for group, given in layers.items():
        patterns = [given] if isinstance(given, str) else given
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise _no_layer(pattern, [*names, *_parents(names)], names)
        groups[group] = [n for n in names if any(fnmatchcase(n, p) for p in patterns)]
    return groups


EXAMPLE_OF = {"layers": '{"head": ["fc*"]}', "subsets": '{"cats": {"class": "cat"}}'}


def _other_form(keyword: str, given: object, expected: str) -> InputError:
    what, fix = f"these are no {keyword}", f"{keyword}={EXAMPLE_OF[keyword]}"
    return InputError(what, found=f"{keyword} with {given!r}", expected=expected, fix=fix)


def _parents(names: list[str]) -> list[str]:
    """Patterns of the modules that the layers are in: ``block1.*`` of ``block1.conv1``."""
    return list(dict.fromkeys(f"{n.rpartition('.')[0]}.*" for n in names if "." in n))


def _no_layer(wanted: str, candidates: list[str], names: list[str]) -> InputError:
    """The refusal of a name or pattern without a layer; the fix is the closest candidate."""
    close = [*like(wanted, candidates), names[0]][0]
    single = close in ("network", "layers")
    return InputError(
        "no such layer in the results",
        found=repr(wanted),
        expected=f"network, layers, or patterns that match some of {listed(names)}",
        fix=f'layers="{close}"' if single else f'layers={{"group": ["{close}"]}}',
    )
