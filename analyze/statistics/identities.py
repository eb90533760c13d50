"""What must hold between the numbers of a results file, whatever was measured."""

from __future__ import annotations

import numpy as np
import xarray as xr

from analyze.statistics import regrouping

DERIVED = 1e-9  # relative; both sides from the same stored sums, in float64
MEASURED = 1e-4  # relative; cell sums and examples are stored in float32


def broken(results: xr.DataTree) -> list[str]:
    """The identities that do not hold, one line each; empty for a sound file.

    Checked are the counts of probes; the Gram matrices, which are symmetric with
    ``|G_cd| <= sqrt(G_cc G_dd)``; ``|S|^2 <= m sum |g|^2`` of every cell, the Cauchy-Schwarz bound;
    ``0 <= m-coherence <= m``; the stored coherence of layers and network against the sums it was
    derived from; and the squared norms of the network against those of its layers.

    Args:
        results: The results tree.

    Cost: about that of deriving the coherence again.
    """
    checks = {
        "the counts of cells and subsets differ": _counts(results),
        "the Gram matrices are not symmetric": _symmetric(results),
        "a dot product is larger than the norms allow": _cauchy_schwarz(results),
        "a cell's sum is longer than its examples' gradients allow": _cell_sums(results),
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


def _gram(results: xr.DataTree) -> np.ndarray:
    """``[K, P, C, C]``."""
    gram = results["parameters"].to_dataset()["gradient_gram"]
    return gram.transpose("checkpoint", "parameter", "cell", "cell_other").values


def _symmetric(results: xr.DataTree) -> bool:
    gram = _gram(results)
    scale = np.sqrt(_outer(gram))
    return _none(np.abs(gram - gram.swapaxes(-1, -2)) > DERIVED * scale)


def _cauchy_schwarz(results: xr.DataTree) -> bool:
    gram = _gram(results)
    negative = np.diagonal(gram, axis1=-2, axis2=-1) < 0
    return _none(negative) and _none(np.abs(gram) > (1 + DERIVED) * np.sqrt(_outer(gram)))


def _outer(gram: np.ndarray) -> np.ndarray:
    """``G_cc G_dd``."""
    diagonal = np.abs(np.diagonal(gram, axis1=-2, axis2=-1))
    return np.asarray(diagonal[..., :, None] * diagonal[..., None, :])


def _cell_sums(results: xr.DataTree) -> bool:
    table = results["parameters"].to_dataset()
    squared = table["gradient_sqnorm"].transpose("checkpoint", "parameter", "cell").values
    diagonal = np.diagonal(_gram(results), axis1=-2, axis2=-1)
    return _none(diagonal > (1 + MEASURED) * table["probe_count"].values * squared) and _none(
        squared < 0
    )


def _within_bounds(results: xr.DataTree) -> bool:
    count = results.to_dataset()["probe_count"]
    for group in ("network", "layers"):
        value = results[group].to_dataset()["m_coherence"]
        if not _none(((value < 0) | (value > (1 + MEASURED) * count)).values):
            return False
    return True


def _energy(results: xr.DataTree) -> bool:
    name = "mean_squared_gradient_norm"
    network = results["network"].to_dataset()[name].transpose("checkpoint", "subset")
    layers = results["layers"].to_dataset()[name].sum("layer", min_count=1)
    return _close(layers.transpose("checkpoint", "subset").values, network.values)


def _derived(results: xr.DataTree, group: str) -> bool:
    stored = results[group].to_dataset()["m_coherence"]
    again = regrouping.coherence(results, layers=group)["m_coherence"].transpose(*stored.dims)
    return _close(again.values, stored.values)


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.allclose(one, other, rtol=DERIVED, atol=0, equal_nan=True))


def _none(wrong: np.ndarray) -> bool:
    return not bool(np.any(wrong))
