"""The groups of the results that follow from what was measured, and what older files lack."""

from __future__ import annotations

import json

import xarray as xr

from analyze.errors import listed
from analyze.statistics import regrouping, warnings
from analyze.statistics.variables import OF_EXAMPLES, OF_LAYERS, VARIABLES

OLDER = "the file is of an older version of the program"


def derived(results: xr.DataTree) -> dict[str, xr.Dataset]:
    """The groups ``network`` and ``layers`` from the sufficient statistics, with warnings.

    Args:
        results: A tree that has ``/``, ``/parameters``, and ``/examples`` where they were kept.
    """
    network = regrouping.coherence(results, layers="network")
    layers = regrouping.coherence(results, layers="layers")
    energy = "mean_squared_gradient_norm"
    share = layers[energy] / network[energy].where(network[energy] > 0)
    layers["energy_share"] = share.transpose(*layers[energy].dims)
    layers["energy_share"].attrs = VARIABLES["energy_share"].attributes
    groups = {"network": network, "layers": layers}
    return {name: warnings.flag_group(results, group) for name, group in groups.items()}


def lacking(results: xr.DataTree) -> dict[str, list[str]]:
    """The derived variables that a file does not have, by group; none in a file of this version."""
    expected = {*VARIABLES, warnings.FLAGS}
    if "examples" not in results.children:
        expected -= OF_EXAMPLES
    wanted = {"network": expected - OF_LAYERS, "layers": expected}
    absent = {name: sorted(wanted[name] - set(results[name].data_vars)) for name in wanted}
    return {name: names for name, names in absent.items() if names}


def completed(results: xr.DataTree) -> xr.DataTree:
    """The results with what their file lacks derived from its sums; what it has stays as it is.

    Says so among the warnings in the provenance. Results that have everything are returned as they
    are.

    Cost: that of deriving everything again, where something is missing.
    """
    missing = lacking(results)
    if not missing:
        return results
    again = derived(results)
    whole = results.copy()
    for name, names in missing.items():
        group = whole.children[name]
        anew = {n: again[name][n].drop_vars(["step", "epoch"], errors="ignore") for n in names}
        group.dataset = group.to_dataset(inherit=False).assign(anew)
    names = sorted({n for group in missing.values() for n in group})
    provenance = regrouping.provenance_of(results)
    said = f"{OLDER} and lacks {listed(names, 3)}: derived from its sums when it was opened"
    provenance["warnings"] = [*provenance.get("warnings", []), said]
    whole.attrs = results.attrs | {"provenance": json.dumps(provenance)}
    return whole
