"""Sufficient statistics as labelled xarray data; the work is done on plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

from analyze.probes.subsets import ALL
from analyze.statistics import companions
from analyze.statistics.alignment import delete_one_error
from analyze.statistics.sufficient import SufficientStatistics
from analyze.statistics.variables import AT_COMMON_SIZE, BY_JACKKNIFE, VARIABLES


@dataclass(frozen=True)
class Labelled:
    """Labelled sufficient statistics of some groups of parameters.

    Args:
        parameters: ``gradient_gram(..., cell, cell_other)``, ``gradient_sqnorm(..., cell)`` and
            ``probe_count(cell)`` with the coordinate ``cell_fold``; any further dimensions.
        members: Booleans ``(subset, cell)``, the cells of each subset.
        norms: Squared norms of every example's gradient, ``(..., probe)``; None if not kept.
        probes: Booleans ``(subset, probe)``, the examples of each subset; None without ``norms``.
        alignments: Dot products of every example's gradient with its subset's sum, ``(..., subset,
            probe)``, NaN for a subset whose sum was no direction; None if not kept.
    """

    parameters: xr.Dataset
    members: xr.DataArray
    norms: xr.DataArray | None = None
    probes: xr.DataArray | None = None
    alignments: xr.DataArray | None = None

    @cached_property
    def leading(self) -> tuple[Hashable, ...]:
        """The dimensions before the subset."""
        return tuple(d for d in self.parameters["gradient_sqnorm"].dims if d != "cell")

    @property
    def subsets(self) -> list[str]:
        """The names of the subsets in order."""
        return [str(name) for name in self.members["subset"].values]

    @property
    def coordinates(self) -> dict[Hashable, object]:
        """The coordinates of every derived variable."""
        coords = self.parameters.coords
        return {d: self.parameters[d] for d in self.leading if d in coords} | {
            "subset": self.subsets, "subset_other": self.subsets
        }  # fmt: skip

    @cached_property
    def plain(self) -> SufficientStatistics:
        """The sufficient statistics as arrays, with the kurtosis of the examples' norms."""
        table, subsets = self.parameters, self.subsets
        kurtosis = self._of_norms(companions.excess_kurtosis)
        return SufficientStatistics(
            table["gradient_gram"].transpose(*self.leading, "cell", "cell_other").values,
            table["gradient_sqnorm"].transpose(*self.leading, "cell").values,
            table["probe_count"].values,
            table["cell_fold"].values,
            self.members.transpose("subset", "cell").values,
            subsets.index(ALL) if ALL in subsets else None,
            0.0 if kurtosis is None else kurtosis,
            self._delete_one(),
        )

    def _delete_one(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Errors by leaving out single examples, and their degrees of freedom, ``[..., S]``."""
        if self.alignments is None or self.norms is None or self.probes is None:
            return None
        along = self.alignments.transpose("subset", *self.leading, "probe").values
        norms = self.norms.transpose(*self.leading, "probe").values.astype(float)
        rows = self.probes.transpose("subset", "probe").values
        pairs = [
            delete_one_error(a[..., r], norms[..., r]) for a, r in zip(along, rows, strict=True)
        ]
        error, degrees = (np.stack(part, axis=-1) for part in zip(*pairs, strict=True))
        return error, degrees

    @property
    def one_at_a_time(self) -> list[str]:
        """The subsets whose errors come from leaving out single examples, not folds."""
        if self.plain.delete_one is None:
            return []
        known = np.isfinite(self.plain.delete_one[0])
        known = known.reshape(-1, known.shape[-1]).any(0)
        return [name for name, one in zip(self.subsets, known, strict=True) if one]

    def _of_norms(self, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | None:
        """A function of the squared norms of each subset's examples, ``[..., S]``."""
        if self.norms is None or self.probes is None:
            return None
        values = self.norms.transpose(*self.leading, "probe").values.astype(float)
        rows = self.probes.transpose("subset", "probe").values
        nothing = np.full(values.shape[:-1], np.nan)
        return np.stack([function(values[..., r]) if r.any() else nothing for r in rows], axis=-1)

    def coherence(self) -> xr.Dataset:
        """Every derived variable, see ``variables``; ``docs/statistics.md`` explains each.

        Coherence is NaN where there is no gradient; norms are NaN only where the statistics are.
        """
        found: dict[str, tuple[tuple[Hashable, ...], np.ndarray, dict[str, object]]] = {}
        for name, variable in VARIABLES.items():
            value = variable.of_sums(self.plain) if variable.of_sums else None
            if variable.of_norms:
                value = self._of_norms(variable.of_norms)
            if value is not None:
                axes = ("subset", "subset_other") if variable.between else ("subset",)
                attributes: dict[str, object] = {**variable.attributes}
                if name in AT_COMMON_SIZE:
                    attributes["size"] = self.plain.common_size
                if name in BY_JACKKNIFE and self.one_at_a_time:
                    attributes["one_at_a_time"] = ", ".join(self.one_at_a_time)
                found[name] = ((*self.leading, *axes), value, attributes)
        # All at once: each that is added to a data set costs as much as the whole of it.
        return xr.Dataset(found, coords=self.coordinates)
