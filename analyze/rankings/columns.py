"""How the labels of a column help each other: class by class, by layer and checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from analyze.rankings.labels import GIVEN, TRUE
from analyze.statistics.arrays import ratio
from analyze.statistics.regrouping import Conditions, grouped, held_out

MOST_LABELS = 40
MOST_VALUES = 2_000_000  # beyond which only the whole network is given


@dataclass(frozen=True)
class Help:
    """Mean products of two examples' gradients by their labels, over their size.

    ``values`` is ``[1 + L, T, A, B]``, the network first: ``H_AB / sqrt(M_A M_B)`` with the cross
    help H of ``companions.cross_help`` and the mean squared norm M. For A = B it is the unbiased
    alpha. 1 if all gradients of both are equal, 0 if the two do not touch, below 0 if they oppose.
    """

    column: str
    labels: list[str]
    layers: list[str]
    values: np.ndarray


def column_help(results: xr.DataTree) -> Help | None:
    """The help between the labels of a column of the run's cells, without held-out examples.

    The given class, else the true one, else the first column. None where the cells have none, or
    fewer than 2 or more than 40 labels.
    """
    table = results.children["parameters"].to_dataset(inherit=False)
    columns = [
        str(name).removeprefix("cell_")
        for name, labels in table.coords.items()
        if labels.dims == ("cell",) and str(name).startswith("cell_")
        and name not in ("cell_subset", "cell_fold", "cell_other")
    ]  # fmt: skip
    order = [*(n for n in (*GIVEN, *TRUE) if n in columns), *columns]
    if not order:
        return None
    column = order[0]
    trained = ~np.isin(table["cell_subset"].values.astype(str), held_out(results))
    occupied = trained & (table["probe_count"].values > 0)
    labels = sorted(set(table[f"cell_{column}"].values.astype(str)[occupied].tolist()))
    if not 2 <= len(labels) <= MOST_LABELS:
        return None
    subsets = sorted(set(table["cell_subset"].values.astype(str)[occupied].tolist()))
    layers = [str(name) for name in results["layers"].to_dataset()["layer"].values]
    if (len(layers) + 1) * results.sizes["checkpoint"] * len(labels) ** 2 > MOST_VALUES:
        layers = []
    chosen: dict[str, Conditions] = {label: {column: label, "subset": subsets} for label in labels}
    parts = [_normalised(results, "network", chosen)[None]]
    if layers:
        parts.append(np.moveaxis(_normalised(results, "layers", chosen), 1, 0))
    return Help(column, labels, layers, np.concatenate(parts))


def _normalised(results: xr.DataTree, layers: str, subsets: Mapping[str, Conditions]) -> np.ndarray:
    """``H_AB / sqrt(M_A M_B)``, ``[T, ..., A, B]``."""
    sums = grouped(results, layers, subsets).plain
    mean = ratio(sums.squares, sums.size)
    return ratio(sums.cross_help, np.sqrt(mean[..., :, None] * mean[..., None, :]))
