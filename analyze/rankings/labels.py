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

    @property
    def other_class(self) -> np.ndarray | None:
        """The true classes where they can stand against the given ones: None for other words."""
        if self.given is None or self.true is None or np.isin(self.given, self.true).any():
            return self.true
        return None


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
    if probes is not None:
        for name, column in probes.columns.items():
            columns[name] = np.array(column.names, dtype=object)[column.codes].astype(str)
    given, true = _first(columns, GIVEN), _first(columns, TRUE)
    if given is None:
        sure = np.isin(subset, [CLEAN, *held_out(results)])
        sure |= columns.get(NOISE, subset) == CLEAN
        given = _classes(table["target"].values, true, sure)
    wrong, known_by, telling = _wrong(subset, columns, given, true)
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
    if given is not None and true is not None and np.isin(given, true).any():
        return (given != true).astype(float), "the given and the true class", telling
    return None, "", telling


def _states(words: np.ndarray) -> np.ndarray:
    return np.where(words == CORRUPTED, 1.0, np.where(words == CLEAN, 0.0, np.nan))


def _first(columns: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    return next((columns[name] for name in names if name in columns), None)


def _classes(target: np.ndarray, true: np.ndarray | None, sure: np.ndarray) -> np.ndarray | None:
    """Whole-numbered targets as classes: by name where labels that are right tell it, else numbers.

    The codes of a column may be numbered in another order than the targets, so they name none.
    """
    if target.dtype.kind not in "iu":
        return None
    if true is not None:
        pairs = set(zip(target[sure].tolist(), true[sure].tolist(), strict=True))
        names = dict(pairs)
        one_each = len(names) == len(pairs) == len({name for _, name in pairs})
        if one_each and set(target.tolist()) <= names.keys():
            return np.array([names[k] for k in target.tolist()]).astype(str)
    return target.astype(str)
