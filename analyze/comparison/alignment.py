"""Runs on common places along training: steps, epochs, or levels of the training loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from analyze.comparison import loss_levels, matching
from analyze.comparison.runs import Run, joined
from analyze.errors import unknown
from analyze.results.presence import NO_CHECKPOINT, NOT_REACHED
from analyze.results.provenance import ALIGNMENTS
from analyze.results.tree import OK


class Aligned:
    """Runs on the places of all their checkpoints; nothing is interpolated.

    ``root`` (loss, accuracy and status), ``measures`` (of the network or of layers) and ``alpha``
    (with replicates) move the values of a run, by its number, from its checkpoints to the places.
    """

    absent = NO_CHECKPOINT

    def __init__(self, runs: Sequence[Run], align: str) -> None:
        self.runs, self.align = runs, align
        self.every = self._every()

    def _every(self) -> np.ndarray:
        roots = [run.tree.to_dataset() for run in self.runs]
        self.places = [
            matching.places(root, self.align, run.name)
            for root, run in zip(roots, self.runs, strict=True)
        ]
        matching.check_shared(roots, self.places, self.align)
        every = np.concatenate(self.places)
        return np.unique(every[np.isfinite(every)])

    def placed(self, dataset: xr.Dataset, run: int) -> xr.Dataset:
        """A data set with each ``checkpoint`` named by its place, without those that have none."""
        places = self.places[run]
        known = np.isfinite(places)
        bare = dataset.drop_vars(["step", "epoch"], errors="ignore").isel(checkpoint=known)
        return bare.assign_coords(checkpoint=self.labels(places[known]))

    root = alpha = placed

    def measures(self, dataset: xr.Dataset, alpha: xr.Dataset, run: int) -> xr.Dataset:
        """Measures of a run at the places, from the results or from its placed ``alpha``."""
        return self.placed(dataset, run)

    def labels(self, places: np.ndarray) -> np.ndarray:
        """Names of places: ``step 32``."""
        return np.array([f"{self.align} {place:.15g}" for place in places], dtype=object)

    def with_places(self, dataset: xr.Dataset) -> xr.Dataset:
        """A data set on all places; of ``step`` and ``epoch`` the one not aligned by is NaN."""
        nothing = np.full(len(self.every), np.nan)
        wide = dataset.reindex(checkpoint=self.labels(self.every))
        values = {"step": nothing, "epoch": nothing}
        values[ALIGNMENTS[self.align]] = self.every
        return wide.assign_coords({k: ("checkpoint", v) for k, v in values.items()})

    def stacked(self, placed: Sequence[xr.Dataset]) -> xr.Dataset:
        """One data set with ``run`` first; layers and subsets in the order of appearance."""
        for dimension in ("layer", "subset"):
            if dimension in placed[0].dims:
                every = dict.fromkeys(n for d in placed for n in d[dimension].values)
                placed = [d.reindex({dimension: list(every)}) for d in placed]
        wide = [self.with_places(dataset) for dataset in placed]
        table = joined(wide, [run.name for run in self.runs], "run")
        if "status" in table:
            table["status"] = table["status"].where(table["status"].notnull(), self.absent)
            table["probe_count"] = table["probe_count"].fillna(0).astype(np.int64).drop_encoding()
        return table.transpose("run", "checkpoint", ...)


class AlignedByLoss(Aligned):
    """Runs at common levels of the training loss; values between checkpoints are interpolated."""

    absent = NOT_REACHED

    def _every(self) -> np.ndarray:
        roots = [run.tree.to_dataset() for run in self.runs]
        losses = [loss_levels.training_loss(root) for root in roots]
        fix = matching.another_alignment(roots, self.align)
        levels = loss_levels.common_levels(losses, [run.name for run in self.runs], fix)
        self.crossings = [loss_levels.first_crossings(loss, levels) for loss in losses]
        return levels

    def placed(self, dataset: xr.Dataset, run: int) -> xr.Dataset:
        """A data set interpolated to every level."""
        at = self.crossings[run].of(dataset)
        return at.assign_coords(checkpoint=self.labels(self.every))

    def root(self, dataset: xr.Dataset, run: int) -> xr.Dataset:
        """Loss and accuracy at the levels; the loss is interpolated in its logarithm."""
        with np.errstate(divide="ignore", invalid="ignore"):
            logarithm = np.log(dataset["loss"])
        root = self.placed(dataset.drop_vars("status").assign(loss=logarithm), run)
        reached = np.isfinite(self.crossings[run].weight)
        status = np.where(reached, OK, NOT_REACHED).astype(object)
        return root.assign(loss=np.exp(root["loss"]), status=("checkpoint", status))

    def measures(self, dataset: xr.Dataset, alpha: xr.Dataset, run: int) -> xr.Dataset:
        """Measures from the interpolated alpha, as errors cannot be interpolated."""
        counts = self.runs[run].count.reindex(subset=alpha["subset"])
        values = loss_levels.coherence_of(alpha, counts)
        kept = [name for name in dataset if "checkpoint" not in dataset[name].dims]
        return values.reset_coords(drop=True).assign({k: dataset[k] for k in kept})

    def alpha(self, dataset: xr.Dataset, run: int) -> xr.Dataset:
        """Alpha at the levels, with replicates and their error."""
        at = loss_levels.alpha_at(dataset, self.crossings[run])
        return at.assign_coords(checkpoint=self.labels(self.every))


def aligned(runs: Sequence[Run], align: str) -> Aligned:
    """The runs on common places; InputError for an unknown alignment, or no shared place."""
    if align not in ALIGNMENTS:
        found = f"align by {align!r}"
        raise unknown("there is no such alignment", found, ALIGNMENTS, "--align step")
    return AlignedByLoss(runs, align) if align == "loss" else Aligned(runs, align)
