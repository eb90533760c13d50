"""Cells: subset x fold, the unit in which gradients are summed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from analyze.errors import InputError, listed
from analyze.probes.probe_set import ProbeSet

MOST_CELLS = 5000
# Names that no column can have: the results use them for something else.
RESERVED = (
    "subset", "fold", "other", "target", "probe", "layer", "checkpoint", "step", "epoch", "loss",
    "gradient_sqnorm", "alignment", "margin", "direction", "direction_norm", "probe_count",
    "status", "cell_fold",
)  # fmt: skip


@dataclass(frozen=True)
class Cells:
    """The cells of a probe set."""

    subset_names: tuple[str, ...]
    subset: np.ndarray  # [C], the code of each cell's subset
    fold: np.ndarray  # [C]
    of_probe: np.ndarray  # [N], the cell of each probe
    columns: dict[str, np.ndarray] = field(default_factory=dict)  # further labels, [C] each

    @classmethod
    def of(cls, probes: ProbeSet, folds: int, columns: Sequence[str] = ()) -> Cells:
        """``folds`` cells for every combination of subset and ``columns`` that occurs.

        Cells of a small subset may be empty.

        Raises:
            InputError: a column that ``check_columns`` refuses, or too many cells.
        """
        check_columns(probes, columns)
        labels = [probes.subset, *(probes.columns[name].codes for name in columns)]
        groups, of_probe = np.unique(np.stack(labels, axis=1), axis=0, return_inverse=True)
        if len(groups) * folds > MOST_CELLS:
            raise InputError(
                "the probes make too many cells",
                found=f"{len(groups)} subsets, or labels of --cells in them, in {folds} folds each",
                expected=f"at most {MOST_CELLS} cells: the results hold a number for each pair",
                fix="--folds 1 or another small number, no --cells, or probes of fewer subsets",
            )
        groups = groups.repeat(folds, axis=0)  # [C, 1 + columns]
        return cls(
            probes.subset_names,
            groups[:, 0],
            np.tile(np.arange(folds), len(groups) // folds),
            of_probe.reshape(-1) * folds + fold_of(probes.id, folds),
            {
                name: np.array(probes.columns[name].names, dtype=object)[groups[:, k]]
                for k, name in enumerate(columns, start=1)
            },
        )

    def __len__(self) -> int:
        return len(self.subset)

    @property
    def names(self) -> list[str]:
        """``SUBSET/FOLD`` for each cell; ``SUBSET/LABEL/FOLD`` where columns split them."""
        labels = zip(*self.columns.values(), strict=True) if self.columns else [()] * len(self)
        return [
            "/".join([self.subset_names[s], *map(str, label), str(k)])
            for s, label, k in zip(self.subset, labels, self.fold, strict=True)
        ]

    @property
    def counts(self) -> np.ndarray:
        """``[C]``, the number of probes in each cell."""
        return np.bincount(self.of_probe, minlength=len(self))

    def rows(self, cell: int) -> np.ndarray:
        """The probes of a cell."""
        return np.flatnonzero(self.of_probe == cell)


def check_columns(probes: ProbeSet, columns: Sequence[str]) -> None:
    """Refuse columns that the probes cannot be summed by; see ``_problem``."""
    for name in columns:
        if problem := _problem(name, probes, columns):
            known = listed([n for n in probes.columns if n not in RESERVED])
            raise InputError(
                "the probes cannot be summed by this column",
                found=problem,
                expected=f"columns of the probe file, each once: {known or 'it has none'}",
                fix="--cells COLUMN,... or leave it out to sum by subset and fold only",
            )


def _problem(name: str, probes: ProbeSet, columns: Sequence[str]) -> str:
    """The reason why the probes cannot be summed by a column; empty where they can."""
    if name in RESERVED:
        return f"{name!r}, a name that the results use for something else"
    if name not in probes.columns:
        return f"no column {name!r} in the probe set"
    if not _can_be_written(name) or "/" in name or name in ("", ".", ".."):
        return f"{name!r}, which no variable of a results file can be called"
    for label in probes.columns[name].names:
        if not _can_be_written(label):
            return f"the label {label!r} of {name!r}, which no results file can hold"
    repeated = list(columns).count(name) > 1
    return f"{name!r} more than once in {','.join(columns)}" if repeated else ""


def _can_be_written(text: str) -> bool:
    """Whether HDF5 can hold a text: without zeros and without single surrogates."""
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


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
