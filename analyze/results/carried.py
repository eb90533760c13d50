"""What a report draws, tells and lists of sums of gradients: computed once, carried in the tree."""

from __future__ import annotations

import xarray as xr

from analyze.probes.subsets import ALL
from analyze.statistics.between_subsets import between_subsets, has_sums
from analyze.statistics.ratios import contrast

BETWEEN, CONTRAST = "between_subsets", "clean_corrupted"
FIRST, SECOND = "corrupted", "clean"


def carrying(results: xr.DataTree) -> xr.DataTree:
    """The tree with groups for ``between`` and ``of_contrast``, where the results have their sums.

    Cost: the jackknife of the network between subsets, and of every layer of two subsets.
    """
    tree = results.copy()
    names = [name for name in results.to_dataset()["subset"].values if name != ALL]
    if has_sums(results) and len(names) > 1:
        tree[BETWEEN] = xr.DataTree(between_subsets(results))
    if has_contrast(results):
        tree[CONTRAST] = xr.DataTree(contrast(results, FIRST, SECOND, layers="layers"))
    return tree


def between(results: xr.DataTree) -> xr.Dataset:
    """``statistics.between_subsets`` of the results, out of the tree where it carries them."""
    if BETWEEN in results.children:
        return results[BETWEEN].to_dataset()
    return between_subsets(results)


def has_contrast(results: xr.DataTree, first: str = FIRST, second: str = SECOND) -> bool:
    """Whether both subsets have two probes at least, and the results their Gram matrices."""
    root = results.to_dataset()
    known = {str(n): int(k) for n, k in zip(root["subset"].values, root["probe_count"].values,
                                            strict=True)}  # fmt: skip
    return has_sums(results) and min(known.get(first, 0), known.get(second, 0)) > 1


def of_contrast(results: xr.DataTree) -> xr.Dataset:
    """``statistics.contrast`` of clean with corrupted examples by layer, as ``between``."""
    if CONTRAST in results.children:
        return results[CONTRAST].to_dataset()
    return contrast(results, FIRST, SECOND, layers="layers")
