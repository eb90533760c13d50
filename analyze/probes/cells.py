"""Cells: subset x fold, the unit in which gradients are summed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analyze.probes.probe_set import ProbeSet


@dataclass(frozen=True)
class Cells:
    """The cells of a probe set.

    Args:
        subset_names: The subsets, in the order of their codes.
        subset: ``[C]``, the subset of each cell.
        fold: ``[C]``, the fold of each cell.
        of_probe: ``[N]``, the cell of each probe.
    """

    subset_names: tuple[str, ...]
    subset: np.ndarray
    fold: np.ndarray
    of_probe: np.ndarray

    @classmethod
    def of(cls, probes: ProbeSet, folds: int) -> Cells:
        """``folds`` cells for every subset; some may be empty when a subset is small."""
        count = len(probes.subset_names)
        return cls(
            probes.subset_names,
            np.repeat(np.arange(count), folds),
            np.tile(np.arange(folds), count),
            probes.subset * folds + fold_of(probes.id, folds),
        )

    def __len__(self) -> int:
        return len(self.subset)

    @property
    def names(self) -> list[str]:
        """``SUBSET/FOLD`` for each cell."""
        pairs = zip(self.subset, self.fold, strict=True)
        return [f"{self.subset_names[s]}/{k}" for s, k in pairs]

    @property
    def counts(self) -> np.ndarray:
        """``[C]``, the number of probes in each cell."""
        return np.bincount(self.of_probe, minlength=len(self))

    def rows(self, cell: int) -> np.ndarray:
        """The probes of a cell."""
        return np.flatnonzero(self.of_probe == cell)


def fold_of(ids: np.ndarray, folds: int) -> np.ndarray:
    """The fold of each id: as good as random, and the same in every run and probe set."""
    return (mixed(ids) % np.uint64(folds)).astype(np.int64)


def mixed(ids: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each id (the finaliser of SplitMix64, Steele et al., 2014)."""
    with np.errstate(over="ignore"):
        z = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
