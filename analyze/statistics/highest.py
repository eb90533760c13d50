"""The highest of several values of m-coherence, and whether it can be told from the next one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import special

from analyze.statistics.estimates import difference, estimate
from analyze.statistics.grouping import with_rows
from analyze.statistics.significance import RATE, agree


@dataclass(frozen=True)
class Highest:
    """The highest of several values that agree beyond chance, and the next one."""

    at: dict[str, str]  # its checkpoint, and layer
    next_at: dict[str, str] | None  # None where it is the only one
    p_value: float  # that the two differ as much by chance; NaN where it cannot be told

    @property
    def alone(self) -> bool:
        """Whether the highest can be told from the next, and so from all others.

        Of independent normal values with one error, a two-sided test of the first against the
        second at a level of 5 % names a wrong winner in 5 % of cases at most, however many there
        are (Hung and Fithian, "Rank verification for exponential families", 2019). Checkpoints and
        layers share their examples, for which the error is that of the difference.
        """
        return self.next_at is None or bool(self.p_value <= RATE)


def highest(results: xr.DataTree, subset: str, group: str = "network") -> Highest | None:
    """The checkpoint, or layer, whose m-coherence of a subset is highest, if any is beyond chance.

    It is compared with the next checkpoint, or with the next layer at its own best checkpoint, by
    the jackknife of their difference, as both have the same probes. The highest of several noisy
    values is too high on average, whatever the test says.

    Args:
        results: The results tree.
        subset: The subset.
        group: ``network`` for the highest checkpoint, ``layers`` for the highest layer.

    Cost: the jackknife of two checkpoints.
    """
    over = "checkpoint" if group == "network" else "layer"
    dataset = results[group].to_dataset()
    beyond = agree(dataset).sel(subset=subset)
    if not bool(beyond.any()):
        return None
    first = _largest(dataset["m_coherence"].sel(subset=subset).where(beyond))
    others = dataset["m_coherence"].sel(subset=subset).drop_sel({over: first[over]})
    second = _largest(others) if bool(others.notnull().any()) else None
    p = float("nan") if second is None else _p_of_difference(results, subset, group, first, second)
    return Highest(first, second, p)


def _largest(values: xr.DataArray) -> dict[str, str]:
    """The labels of the largest value."""
    at = values.fillna(-np.inf).argmax(...)
    return {str(dim): str(values[dim].values[int(place)]) for dim, place in at.items()}


def _p_of_difference(
    results: xr.DataTree, subset: str, group: str, first: dict[str, str], second: dict[str, str]
) -> float:
    """The two-sided p-value of the difference of two values of one subset; NaN without folds."""
    if "gradient_gram" not in results.children["parameters"].to_dataset(inherit=False):
        return float("nan")
    places = list(dict.fromkeys([first["checkpoint"], second["checkpoint"]]))
    tree = with_rows(_at_checkpoints(results, places), _names(results, "layer", "layers"))
    found = estimate(tree, layers=group)
    gap = difference(*(found.sel({"subset": subset} | at) for at in (first, second)))
    t = abs(float(gap["value"])) / float(gap["stderr"]) if float(gap["stderr"]) > 0 else np.nan
    return float(2 * special.stdtr(float(gap["degrees_of_freedom"]), -t))


def _at_checkpoints(results: xr.DataTree, names: list[str]) -> xr.DataTree:
    """The sums of some checkpoints, as a tree."""
    places = [_names(results, "checkpoint").index(name) for name in names]
    groups = {
        f"/{name}": (results if name == "" else results.children[name]).to_dataset(inherit=False)
        for name in ("", "parameters", "examples")
        if name == "" or name in results.children
    }
    bare = {k: v.drop_vars(["checkpoint", "step", "epoch"], errors="ignore")
            for k, v in groups.items()}  # fmt: skip
    tree = xr.DataTree.from_dict(
        {k: v.isel(checkpoint=places).assign_coords(checkpoint=names) for k, v in bare.items()}
    )
    tree.attrs = results.attrs
    return tree


def _names(results: xr.DataTree, dimension: str, group: str = "/") -> list[str]:
    return [str(name) for name in results[group].to_dataset()[dimension].values]
