"""Runs on common places along training: steps, epochs, or levels of the training loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from analyze.comparison import matching
from analyze.comparison.loss_levels import (
    NOT_REACHED,
    alpha_at,
    coherence_of,
    common_levels,
    first_crossings,
    training_loss,
)
from analyze.comparison.runs import Run, joined
from analyze.errors import InputError
from analyze.results.provenance import ALIGNMENTS
from analyze.results.tree import OK

NO_CHECKPOINT = "no checkpoint here"


class Aligned:
    """Runs on the places that any of them has a checkpoint at; nothing is interpolated.

    ``root``, ``measures`` and ``alpha`` put what a run, by its number, has at its checkpoints to
    the places: loss, accuracy and status; measures of the network or of layers; estimates of
    unbiased alpha with their replicates.
    """

    absent = NO_CHECKPOINT

    def __init__(self, runs: Sequence[Run], align: str) -> None:
        self.runs, self.align = runs, align
        self.every = self._every()

    def _every(self) -> np.ndarray:
        self.places = [
            matching.places(run.tree.to_dataset(), self.align, run.name) for run in self.runs
        ]
        matching.check_shared(self.places, self.align)
        every = np.concatenate(self.places)
        return np.unique(every[np.isfinite(every)])

    def placed(self, dataset: xr.Dataset, run: int) -> xr.Dataset:
        """With ``checkpoint`` named by its place, and without those that have none."""
        places = self.places[run]
        known = np.isfinite(places)
        bare = dataset.drop_vars(["step", "epoch"], errors="ignore").isel(checkpoint=known)
        return bare.assign_coords(checkpoint=self.labels(places[known]))

    root = alpha = placed

    def measures(self, dataset: xr.Dataset, alpha: xr.Dataset, run: int) -> xr.Dataset:
        """Measures as the results have them; ``alpha`` is placed."""
        return self.placed(dataset, run)

    def labels(self, places: np.ndarray) -> np.ndarray:
        """Names of places: ``step 32``."""
        return np.array([f"{self.align} {place:.15g}" for place in places], dtype=object)

    def with_places(self, dataset: xr.Dataset) -> xr.Dataset:
        """On all places, with ``step`` and ``epoch``: the one aligned by, NaN for the other."""
        nothing = np.full(len(self.every), np.nan)
        wide = dataset.reindex(checkpoint=self.labels(self.every))
        values = {"step": nothing, "epoch": nothing}
        values[ALIGNMENTS[self.align]] = self.every
        return wide.assign_coords({k: ("checkpoint", v) for k, v in values.items()})

    def stacked(self, placed: Sequence[xr.Dataset]) -> xr.Dataset:
        """One data set with ``run`` first; layers and subsets in the order they first appear."""
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
        losses = [training_loss(run.tree) for run in self.runs]
        levels = common_levels(losses, [run.name for run in self.runs])
        self.crossings = [first_crossings(loss, levels) for loss in losses]
        return levels

    def placed(self, dataset: xr.Dataset, run: int) -> xr.Dataset:
        """Interpolated at every level."""
        at = self.crossings[run].of(dataset)
        return at.assign_coords(checkpoint=self.labels(self.every))

    def root(self, dataset: xr.Dataset, run: int) -> xr.Dataset:
        """The loss as crossings have it, linear in its logarithm; accuracy linear."""
        with np.errstate(divide="ignore", invalid="ignore"):
            logarithm = np.log(dataset["loss"])
        root = self.placed(dataset.drop_vars("status").assign(loss=logarithm), run)
        reached = np.isfinite(self.crossings[run].weight)
        status = np.where(reached, OK, NOT_REACHED).astype(object)
        return root.assign(loss=np.exp(root["loss"]), status=("checkpoint", status))

    def measures(self, dataset: xr.Dataset, alpha: xr.Dataset, run: int) -> xr.Dataset:
        """From the interpolated alpha, as errors cannot be interpolated; no band of chance."""
        values = coherence_of(alpha, self.runs[run].count.reindex(subset=alpha["subset"]))
        kept = [name for name in dataset if "checkpoint" not in dataset[name].dims]
        return values.reset_coords(drop=True).assign({k: dataset[k] for k in kept})

    def alpha(self, dataset: xr.Dataset, run: int) -> xr.Dataset:
        """Replicates interpolated as the values are, and the error of that."""
        at = alpha_at(dataset, self.crossings[run])
        return at.assign_coords(checkpoint=self.labels(self.every))


def aligned(runs: Sequence[Run], align: str) -> Aligned:
    """The runs on common places.

    Raises:
        InputError: no such alignment, or nothing that is shared.
    """
    if align not in ALIGNMENTS:
        raise InputError(
            "there is no such alignment",
            found=f"align by {align!r}",
            expected=f"one of {', '.join(ALIGNMENTS)}",
            fix="--align step",
        )
    return AlignedByLoss(runs, align) if align == "loss" else Aligned(runs, align)
