"""What is known of each example's label: the given and the true class, and whether it is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from analyze.probes import ProbeSet
from analyze.statistics.regrouping import example_table, held_out

CLEAN, CORRUPTED = "clean", "corrupted"  # subsets, or labels of the column ``noise``
NOISE = "noise"
GIVEN = ("class", "given_class", "given_label")  # columns, the first that there is
TRUE = ("true_class", "true_label")


@dataclass(frozen=True)
class Labels:
    """Of N examples; what is not known is None."""

    given: np.ndarray | None  # [N] texts
    true: np.ndarray | None  # [N] texts
    wrong: np.ndarray | None  # [N], 1 wrong, 0 right, NaN where it is not known or not trained on
    known_by: str = ""  # what says which labels are wrong
    telling: tuple[str, ...] = ()  # subsets and columns that say so, which no score may use

    @property
    def judged(self) -> np.ndarray:
        """The rows of the examples whose labels are known to be right or wrong."""
        return np.flatnonzero([] if self.wrong is None else np.isfinite(self.wrong))


def labels_of(results: xr.DataTree, probes: ProbeSet | None) -> Labels:
    """The labels from the probe file, or from what the results have of its columns.

    Wrong are the examples of the subset ``corrupted`` beside ``clean``; else those with the label
    ``corrupted`` in the column ``noise``; else those whose given class is not the true one.
    Held-out examples count as neither: training did not see their labels.
    """
    table = example_table(results)
    subset = table["subset"].values.astype(str)
    columns = {
        str(name): labels.values.astype(str)
        for name, labels in table.coords.items()
        if labels.dims == ("probe",) and name not in ("probe", "subset", "target")
    }
    names: tuple[str, ...] = ()
    if probes is not None:
        for name, column in probes.columns.items():
            columns[name] = np.array(column.names, dtype=object)[column.codes].astype(str)
        names = next((probes.columns[n].names for n in (*GIVEN, *TRUE) if n in probes.columns), ())
    given = _first(columns, GIVEN)
    if given is None:
        given = _classes(table["target"].values, names)
    true = _first(columns, TRUE)
    named = any(name in columns for name in GIVEN) or bool(names)  # else numbers beside names
    wrong, known_by, telling = _wrong(subset, columns, given if named else None, true)
    if wrong is not None:
        wrong[np.isin(subset, held_out(results))] = np.nan
        if not {0.0, 1.0} <= set(wrong[np.isfinite(wrong)].tolist()):
            wrong, known_by = None, ""
    return Labels(given, true, wrong, known_by, telling)


def _wrong(
    subset: np.ndarray,
    columns: dict[str, np.ndarray],
    given: np.ndarray | None,
    true: np.ndarray | None,
) -> tuple[np.ndarray | None, str, tuple[str, ...]]:
    """Which labels are wrong, by what that is known, and what tells it."""
    telling = (CLEAN, CORRUPTED, NOISE, *TRUE)
    if {CLEAN, CORRUPTED} <= set(subset.tolist()):
        return _states(subset), f"the subsets {CLEAN} and {CORRUPTED}", telling
    if NOISE in columns and {CLEAN, CORRUPTED} <= set(columns[NOISE].tolist()):
        return _states(columns[NOISE]), f"the column {NOISE}", telling
    if given is not None and true is not None:
        return (given != true).astype(float), "the given and the true class", telling
    return None, "", telling


def _states(words: np.ndarray) -> np.ndarray:
    return np.where(words == CORRUPTED, 1.0, np.where(words == CLEAN, 0.0, np.nan))


def _first(columns: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    return next((columns[name] for name in names if name in columns), None)


def _classes(target: np.ndarray, names: tuple[str, ...]) -> np.ndarray | None:
    """Whole-numbered targets as classes, by name where the names are known."""
    if target.dtype.kind not in "iu":
        return None
    named = len(names) > int(target.max(initial=-1)) and int(target.min(initial=0)) >= 0
    return np.array([names[k] if named else str(k) for k in target.tolist()]).astype(str)
