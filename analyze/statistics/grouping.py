"""Results regrouped by blocks of layers or by single parameters."""

from __future__ import annotations

import glob
from collections.abc import Sequence

import numpy as np
import xarray as xr

from analyze.errors import unknown
from analyze.statistics import regrouping, warnings
from analyze.statistics.labelled import Labelled

GROUPINGS = ("layer", "block", "parameter")


def group_by(results: xr.DataTree, by: str) -> xr.DataTree:
    """Another tree with a row for each layer, block or parameter in ``/layers``.

    Everything is derived again from the sufficient statistics; nothing is measured. Single
    parameters lack the variables from ``/examples``, which are kept per layer: the ceiling, the
    effective sample size and the share without gradient.

    Args:
        results: The results tree.
        by: ``layer``, ``block`` (see ``block_of``) or ``parameter``; names the rows in the
            coordinate ``layer``, with the types of their layers in ``layer_type``.

    Raises:
        InputError: no such grouping.

    Example:
        ``analyze.statistics.group_by(results, "block")["layers"]["m_coherence"]``
    """
    if by not in GROUPINGS:
        fix = "--group-by block"
        raise unknown("there is no such grouping", f"group by {by!r}", GROUPINGS, fix)
    if by == "layer":
        return results
    rows = _blocks(results) if by == "block" else _parameters(results)
    old = results["layers"].to_dataset()
    steps = {name: old[name] for name in ("step", "epoch") if name in old.coords}
    grouped = results.copy()
    grouped["layers"] = xr.DataTree(warnings.flag_group(results, rows.assign_coords(steps)))
    return grouped


def block_of(layer: str) -> str:
    """The block that a layer belongs to, by its path.

    A block's path ends with its first part that ends in a digit, and the numbers right after it:
    ``layer1.0`` of ``layer1.0.conv1``, ``encoder.layers.3`` of ``encoder.layers.3.mlp.fc1``,
    ``encoder_layer_2`` of ``encoder_layer_2.ln``. A path without such a part: its first.
    """
    parts = layer.split(".")
    numbered = [k for k, part in enumerate(parts) if part[-1:].isdigit()]
    if not numbered:
        return parts[0]
    last = numbered[0]
    while last + 1 < len(parts) and parts[last + 1].isdigit():
        last += 1
    return ".".join(parts[: last + 1])


def with_rows(tree: xr.DataTree, rows: Sequence[str]) -> xr.DataTree:
    """The tree whose sums of parameters are named by the rows of ``group_by``, to be grouped so.

    ``rows`` are those of ``/layers``: layers, blocks or parameters; blocks and parameters leave out
    ``/examples``, which are by layers.
    """
    table = tree.children["parameters"].to_dataset(inherit=False)
    layers = [str(layer) for layer in table["layer"].values]
    if list(rows) == list(dict.fromkeys(layers)):
        return tree
    names = [str(name) for name in table["parameter"].values]
    if set(rows) != set(names):
        names = [block_of(layer) for layer in layers]
    parameters = table.assign_coords(layer=("parameter", np.array(names, dtype=object)))
    result = tree.copy()
    result["parameters"] = xr.DataTree(parameters)
    if "examples" in result.children:  # which are by layers
        del result["examples"]
    return result


def _blocks(results: xr.DataTree) -> xr.Dataset:
    layers = results["layers"].to_dataset()
    names = [str(name) for name in layers["layer"].values]
    blocks: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        blocks.setdefault(block_of(name), []).append(place)
    patterns = {b: [glob.escape(names[k]) for k in inside] for b, inside in blocks.items()}
    types, sizes = layers["layer_type"].values, layers["parameter_count"].values
    return _with_rows(
        regrouping.coherence(results, layers=patterns),
        [", ".join(dict.fromkeys(str(types[k]) for k in inside)) for inside in blocks.values()],
        [int(sizes[inside].sum()) for inside in blocks.values()],
    )


def _parameters(results: xr.DataTree) -> xr.Dataset:
    table = results["parameters"].to_dataset()
    layers = results["layers"].to_dataset()
    type_of = dict(zip(layers["layer"].values, layers["layer_type"].values, strict=True))
    sums = table[["gradient_gram", "gradient_sqnorm", "probe_count"]]
    sums = sums.drop_vars("layer").rename(parameter="layer")
    return _with_rows(
        Labelled(sums, regrouping.cell_members(results)).coherence(),
        [str(type_of[layer]) for layer in table["layer"].values],
        [int(size) for size in table["parameter_count"].values],
    )


def _with_rows(rows: xr.Dataset, types: Sequence[str], sizes: Sequence[int]) -> xr.Dataset:
    return rows.assign_coords(
        layer_type=("layer", np.array(types, dtype=object)),
        parameter_count=("layer", np.array(sizes)),
    )
