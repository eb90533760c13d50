"""Identities that hold between the numbers of every sound results file."""

from __future__ import annotations

import numpy as np
import xarray as xr

from analyze.statistics import regrouping

DERIVED = 1e-9  # relative tolerance of values from the same stored sums, in float64
MEASURED = 1e-4  # relative tolerance of cell sums and examples, measured in float32


def broken(results: xr.DataTree) -> list[str]:
    """The identities that do not hold, one line each; empty for a sound file.

    The formulas: Gram matrices have ``|G_cd| <= sqrt(G_cc G_dd)``, cells ``|S|^2 <= m sum |g|^2``
    (Cauchy-Schwarz), subsets ``0 <= m-coherence <= m``.

    Cost: about that of deriving the coherence again.
    """
    checks = {
        "the counts of cells and subsets differ": _counts(results),
        **_cells(results),
        "m-coherence is below 0 or above m": _within_bounds(results),
        "squared norms of the layers do not add up to the network's": _energy(results),
        "m-coherence of the network is not that of its sums": _derived(results, "network"),
        "m-coherence of the layers is not that of their sums": _derived(results, "layers"),
    }
    return [what for what, sound in checks.items() if not sound]


def _counts(results: xr.DataTree) -> bool:
    members = regrouping.cell_members(results).transpose("subset", "cell")
    cells = results["parameters"].to_dataset()["probe_count"]
    counts = results.to_dataset()["probe_count"].sel(subset=members["subset"].values)
    return bool(np.array_equal(members.values.astype(int) @ cells.values, counts.values))


def _cells(results: xr.DataTree) -> dict[str, bool]:
    """Whether the identities of the cells' sums hold, by the sentences for broken ones."""
    table = results["parameters"].to_dataset()
    gram = table["gradient_gram"].transpose("checkpoint", "parameter", "cell", "cell_other").values
    squared = table["gradient_sqnorm"].transpose("checkpoint", "parameter", "cell").values
    diagonal = np.diagonal(gram, axis1=-2, axis2=-1)
    scale = np.sqrt(np.abs(diagonal[..., :, None] * diagonal[..., None, :]))
    longest = (1 + MEASURED) * table["probe_count"].values * squared
    return {
        "the Gram matrices are not symmetric": not np.any(
            np.abs(gram - gram.swapaxes(-1, -2)) > DERIVED * scale
        ),
        "a dot product is larger than the norms allow": not (
            np.any(diagonal < 0) or np.any(np.abs(gram) > (1 + DERIVED) * scale)
        ),
        "a cell's sum is longer than its examples' gradients allow": not (
            np.any(diagonal > longest) or np.any(squared < 0)
        ),
    }


def _within_bounds(results: xr.DataTree) -> bool:
    most = (1 + MEASURED) * results.to_dataset()["probe_count"]
    values = [results[group].to_dataset()["m_coherence"] for group in ("network", "layers")]
    return not any(bool(((value < 0) | (value > most)).any()) for value in values)


def _energy(results: xr.DataTree) -> bool:
    name = "mean_squared_gradient_norm"
    network = results["network"].to_dataset()[name].transpose("checkpoint", "subset")
    layers = results["layers"].to_dataset()[name].sum("layer", min_count=1)
    return _close(layers.transpose("checkpoint", "subset").values, network.values)


def _derived(results: xr.DataTree, group: str) -> bool:
    stored = results[group].to_dataset()["m_coherence"]
    derived = regrouping.coherence(results, layers=group)["m_coherence"].transpose(*stored.dims)
    return _close(derived.values, stored.values)


def _close(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(np.allclose(first, second, rtol=DERIVED, atol=0, equal_nan=True))
