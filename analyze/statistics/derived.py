"""The groups of the results that are derived from the sums, also for files of older versions."""

from __future__ import annotations

import json

import xarray as xr

from analyze.errors import listed
from analyze.statistics import regrouping, warnings
from analyze.statistics.variables import OF_EXAMPLES, OF_LAYERS, VARIABLES

OLDER = "the file is of an older version of the program"


def derived(results: xr.DataTree) -> dict[str, xr.Dataset]:
    """The groups ``network`` and ``layers``, with warnings, from the measured groups."""
    network = regrouping.coherence(results, layers="network")
    layers = regrouping.coherence(results, layers="layers")
    energy = "mean_squared_gradient_norm"
    share = layers[energy] / network[energy].where(network[energy] > 0)
    layers["energy_share"] = share.transpose(*layers[energy].dims)
    layers["energy_share"].attrs = VARIABLES["energy_share"].attributes
    groups = {"network": network, "layers": layers}
    return {name: warnings.flag_group(results, group) for name, group in groups.items()}


def lacking(results: xr.DataTree) -> dict[str, list[str]]:
    """The derived variables that a file of an older version lacks, by group.

    One of another formula counts as lacking: its meaning in words, or those of the flags, are
    not today's.
    """
    expected = {*VARIABLES, warnings.FLAGS}
    if "examples" not in results.children:
        expected -= OF_EXAMPLES
    wanted = {"network": expected - OF_LAYERS, "layers": expected}
    absent = {
        name: sorted(n for n in wanted[name] if not _of_today(results[name].to_dataset(), n))
        for name in wanted
    }
    return {name: names for name, names in absent.items() if names}


def _of_today(group: xr.Dataset, name: str) -> bool:
    """Whether a group has a variable by the formula of today."""
    if name not in group:
        return False
    attributes = group[name].attrs
    if name == warnings.FLAGS:
        return bool(attributes.get("flag_meanings", warnings.MEANINGS) == warnings.MEANINGS)
    meaning = VARIABLES[name].long_name
    return bool(attributes.get("long_name", meaning) == meaning)


def completed(results: xr.DataTree) -> xr.DataTree:
    """The results with every variable that their file lacks derived from its sums.

    A warning in the provenance says so. Complete results are returned as they are.
    """
    missing = lacking(results)
    if not missing:
        return results
    groups = derived(results)
    complete = results.copy()
    for name, names in missing.items():
        group = complete.children[name]
        added = groups[name][names].drop_vars(["step", "epoch"], errors="ignore")
        group.dataset = group.to_dataset(inherit=False).assign(added)
    names = sorted({n for group in missing.values() for n in group})
    origin = regrouping.provenance(results)
    warning = f"{OLDER} and lacks {listed(names, 3)}: derived from its sums when it was opened"
    origin["warnings"] = [*origin.get("warnings", []), warning]
    complete.attrs = results.attrs | {"provenance": json.dumps(origin)}
    return complete
