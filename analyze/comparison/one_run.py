"""One run as a comparison needs it: its measures and its alphas, by the rows asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from analyze.comparison import matching
from analyze.comparison.runs import Run
from analyze.statistics import estimate
from analyze.statistics.grouping import with_rows

MEASURES = ("m_coherence", "m_coherence_stderr", "m_coherence_lower", "m_coherence_upper",
            "alpha_unbiased", "alpha_unbiased_stderr", "null_lower", "null_upper")  # fmt: skip
OF_CHANCE = {"p_value_adjusted": "p_value_of_chance"}  # that of a pair has the other name


@dataclass(frozen=True)
class OneRun:
    """One run of the comparison, its tree with the rows asked for, and new names of these."""

    run: Run
    tree: xr.DataTree
    renames: Mapping[str, str]

    def rows(self) -> list[str]:
        """The layers, or their groups, by the names of the results."""
        return [str(name) for name in self.tree["layers"].to_dataset()["layer"].values]

    def root(self) -> xr.Dataset:
        """Loss, accuracy, status and the numbers of probes."""
        root = self.tree.to_dataset()
        kept = root[["loss", "accuracy", "probe_count"]].reset_coords(drop=True)
        return kept.assign(status=("checkpoint", root["status"].values.astype(object)))

    def measures(self, group: str) -> xr.Dataset:
        """Measures of the network or of the rows at the run's checkpoints."""
        dataset = self.tree[group].to_dataset()
        wanted = [n for n in (*MEASURES, *OF_CHANCE) if n in dataset]
        kept = dataset[wanted].reset_coords(drop=True)
        kept = kept.rename({k: v for k, v in OF_CHANCE.items() if k in kept})
        if group == "network":
            return kept
        return self._renamed(kept).assign(present=("layer", np.ones(kept.sizes["layer"])))

    def alpha(self, group: str) -> xr.Dataset:
        """Unbiased alpha and its replicates, of the network or of the rows."""
        if group == "network":
            return estimate(self.tree, "alpha_unbiased")
        tree = with_rows(self.tree, self.rows())
        return self._renamed(estimate(tree, "alpha_unbiased", layers="layers"))

    def _renamed(self, dataset: xr.Dataset) -> xr.Dataset:
        names = [str(name) for name in dataset["layer"].values]
        new = matching.renamed(names, self.renames, self.run.name)
        return dataset.assign_coords(layer=np.array(new, dtype=object))
