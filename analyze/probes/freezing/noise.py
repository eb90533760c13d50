"""Which labels are wrong, in the forms that label noise is kept in.

Three states: clean, corrupted, unknown. Selected for noise is not corrupted: where labels are
redrawn over all classes, some stay what they were.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from analyze.errors import InputError, counted, listed
from analyze.probes.freezing.alignment import aligned, listed_rows, only_list, wrong
from analyze.probes.freezing.data import Examples
from analyze.probes.freezing.tables import as_table
from analyze.probes.freezing.values import read_values
from analyze.specs.spec import Spec

CLEAN, CORRUPTED, UNKNOWN = 0, 1, -1
NAMES = {CLEAN: "clean", CORRUPTED: "corrupted", UNKNOWN: "unknown"}
FEW = 100  # labels below which agreement by chance says nothing
CLEAN_NAME = re.compile(r"(?<![A-Za-z])(?:is)?(?:clean|correct|uncorrupted)(?![A-Za-z])", re.I)
CORRUPTED_NAME = re.compile("noisy|noise|(?<!un)corrupt|wrong|issue|bad|error|flip", re.I)
CLEAN_LABEL = "clean_label"  # of CIFAR-N
ESTIMATED = "estimated_"  # what a program found, not what is known


@dataclass(frozen=True)
class Labels:
    """The labels of a data set, and what is known of them.

    Args:
        given: ``[N, ...]``, what the model was trained on.
        true: ``[N]``, -1 where unknown; None where nothing is known.
        selected: ``[N]`` of 1, 0 and -1: chosen to be corrupted; None where nothing is known.
        estimated: Whether ``selected`` is a guess.
        facts: What was verified and counted, in words.
        classes: How many classes the data set has; None where it does not say.
        ids: ``[N]``, where the data set has its own.
    """

    given: np.ndarray
    true: np.ndarray | None = None
    selected: np.ndarray | None = None
    estimated: bool = False
    facts: list[str] = field(default_factory=list)
    classes: int | None = None
    ids: np.ndarray | None = None

    @property
    def known(self) -> bool:
        """Whether there are states at all."""
        return self.true is not None or self.selected is not None

    @property
    def state(self) -> np.ndarray:
        """``[N]`` of clean 0, corrupted 1, unknown -1: by the labels where both are known."""
        if self.true is None:
            return np.full(len(self.given), UNKNOWN) if self.selected is None else self.selected
        state = np.where(self.given == self.true, CLEAN, CORRUPTED)
        return np.where(self.true == UNKNOWN, UNKNOWN, state)

    @property
    def state_names(self) -> list[str]:
        """The state of each example as a word."""
        before = ESTIMATED if self.estimated and self.true is None else ""
        return [NAMES[k] if k == UNKNOWN else before + NAMES[k] for k in self.state.tolist()]


def labels_of(examples: Examples, noise: list[str]) -> Labels:
    """The labels of a data set with what the user's files say of them.

    Args:
        examples: The data set.
        noise: ``KIND:FILE``, or ``KIND:@COLUMN`` for a column of the data set. Rows of a table
            are taken by its column of ids or positions, where it has one.

    Raises:
        InputError: no such kind or file, other lengths, or files that contradict one another.
    """
    labels = Labels(examples.targets, classes=_class_count(examples), ids=examples.ids)
    if examples.true is not None:
        labels = _true(labels, examples.true, Spec.parse(f"true_labels:{examples.source}"))
    for text in noise:
        spec = Spec.parse(text)
        kind, _, place = spec.name.partition(":")
        if kind not in KINDS or not place:
            raise InputError(
                "this is no kind of label noise",
                found=repr(text),
                expected=f"one of {', '.join(f'{k}:FILE' for k in KINDS)}",
                fix="--noise true_labels:FILE",
            )
        before = labels
        values, facts = _values(place, examples, spec)
        labels = KINDS[kind](replace(labels, facts=[*labels.facts, *facts]), values, spec)
        _check_same(before.true, labels.true, "true labels", text)
        _check_same(before.selected, labels.selected, "selected labels", text)
    return _verified(labels)


def _class_count(examples: Examples) -> int | None:
    """How many classes the data set names; None where its own labels are others."""
    count, targets = len(examples.class_names), examples.targets
    plain = targets.dtype.kind in "iu" and targets.size and targets.max() < count
    return count if plain else None


def _check_same(before: np.ndarray | None, now: np.ndarray | None, what: str, text: str) -> None:
    """What was said before is not said otherwise: the last file would win, whichever it is."""
    if before is None or now is None or np.array_equal(before, now):
        return
    raise InputError(
        "two sources of label noise contradict one another",
        found=f"{(before != now).sum()} {what} of {text!r} are not those said before",
        expected="each of the true labels and of the selected ones from one source",
        fix="leave one --noise out",
    )


def _mask(labels: Labels, values: Any, spec: Spec) -> Labels:
    swapped = _means_clean(values, spec)
    mask = _states(_column(values, labels, spec, otherwise="indices"), spec)
    return replace(labels, selected=np.where(mask == UNKNOWN, mask, 1 - mask) if swapped else mask)


def _states(mask: np.ndarray, spec: Spec) -> np.ndarray:
    """A mask of clean 0, corrupted 1 and unknown -1."""
    if not np.isin(mask, list(NAMES)).all():
        raise wrong(spec, f"values {listed(sorted(set(map(str, mask.tolist()))), 4)}", "1, 0, -1")
    return mask


def _means_clean(values: Any, spec: Spec) -> bool:
    """Whether 1, or to be listed, means clean: ``?corrupted=0`` says so.

    Raises:
        InputError: a name such as ``is_clean`` speaks for it, and nothing is said.
    """
    said = spec.arguments.get("corrupted")
    if said is not None:
        if said not in (0, 1, "0", "1"):
            raise wrong(spec, f"?corrupted={said}", "0 or 1", options="corrupted=0")
        return int(said) == CLEAN
    place = spec.name.partition(":")[2]
    column = str(
        spec.arguments.get("column", next(iter(values)) if isinstance(values, dict) else "")
    )
    for name in (column, place[1:] if place.startswith("@") else Path(place).stem):
        if CLEAN_NAME.search(name) and not CORRUPTED_NAME.search(name):
            raise wrong(spec, f"the name {name!r}, as of the clean ones,",
                        "1 for corrupted and 0 for clean, or a list of the corrupted ones",
                        options=("corrupted=0", "corrupted=1"))  # fmt: skip
    return False


def _indices(labels: Labels, values: Any, spec: Spec) -> Labels:
    swapped = _means_clean(values, spec)
    rows = np.asarray(_one(values, spec))
    count = len(labels.given)
    whole = rows.ndim == 1 and (_whole(rows) or not len(rows)) and rows.dtype.kind != "b"
    rows = rows.astype(np.int64) if whole else np.array([-1])
    rows = listed_rows(rows, spec, count, labels.ids)
    if len(np.unique(rows)) != len(rows) or not ((rows >= 0) & (rows < count)).all():
        raise wrong(
            spec, f"{np.size(_one(values, spec))} values that are no indices",
            f"different numbers from 0 to {count - 1}",
            otherwise="mask" if np.size(_one(values, spec)) == count else "",
        )  # fmt: skip
    listed_are, others = (CLEAN, CORRUPTED) if swapped else (CORRUPTED, CLEAN)
    selected = np.full(count, others, np.int64)
    selected[rows] = listed_are
    return replace(labels, selected=selected)


def _true(labels: Labels, values: Any, spec: Spec) -> Labels:
    true = _column(values, labels, spec)
    return replace(labels, true=_in_range(true, labels, spec, UNKNOWN))


def _noisy(labels: Labels, values: Any, spec: Spec) -> Labels:
    given = _in_range(_column(values, labels, spec), labels, spec, 0)
    return replace(labels, given=given, true=labels.given)


def _in_range(values: np.ndarray, labels: Labels, spec: Spec, lowest: int) -> np.ndarray:
    """Labels that are classes of the data, whose own are one class each."""
    if labels.given.ndim != 1 or labels.given.dtype.kind not in "iub":
        found = f"targets {labels.given.dtype} {list(labels.given.shape)} in the data, and labels"
        raise wrong(spec, found, "data with one class for each example")
    highest = np.inf if labels.classes is None else labels.classes - 1
    bad = values[(values < lowest) | (values > highest)]
    if len(bad):
        classes = "on" if labels.classes is None else f"to {labels.classes - 1}, the data's classes"
        raise wrong(
            spec,
            f"{counted(len(bad), 'label')} such as {bad[0]}",
            f"labels from {lowest} {classes}",
        )
    return values


def _cifar_n(labels: Labels, values: Any, spec: Spec) -> Labels:
    """The file of CIFAR-N; its order must be that of the data set, TensorFlow's is another."""
    column = str(spec.arguments.get("column", ""))
    names = sorted(map(str, values)) if isinstance(values, dict) else []
    if CLEAN_LABEL not in names:
        raise wrong(
            spec, f"columns {listed(names) or 'without names'}",
            f"a column {CLEAN_LABEL} beside the noisy ones, as in CIFAR-N",
            otherwise="noisy_labels",
        )  # fmt: skip
    if column not in names:
        others = [name for name in names if name != CLEAN_LABEL]
        expected = f"?column= one of {listed(others) or 'none'}, beside {CLEAN_LABEL}"
        raise wrong(spec, f"no column {column!r}" if column else "no ?column=", expected)
    clean, given = (_column(values[k], labels, spec) for k in (CLEAN_LABEL, column))
    if differ := int((clean != labels.given).sum()):
        raise wrong(
            spec, f"clean labels that are not those of the data: {differ} differ",
            "the file in the order of torchvision's training set; TensorFlow's is another",
        )  # fmt: skip
    facts = [f"the file's clean labels are those of the data, all {len(clean)}"]
    given = _in_range(given, labels, spec, 0)
    return replace(labels, given=given, true=clean, facts=[*labels.facts, *facts])


def _cleanlab(labels: Labels, values: Any, spec: Spec) -> Labels:
    """A table of cleanlab, which estimates; ``given_label`` must be the label that is given."""
    if isinstance(values, dict) and "given_label" in values:
        given = np.asarray(values["given_label"])
        if len(given) != len(labels.given) or (given != labels.given).any():
            raise wrong(spec, "given_label that is not the label of the data", "the same order")
    issue = values["is_label_issue"] if isinstance(values, dict) and "is_label_issue" in values \
        else values  # fmt: skip
    mask = _states(_column(issue, labels, spec), spec)
    facts = [*labels.facts, "which labels are wrong is cleanlab's estimate"]
    return replace(labels, selected=mask, estimated=True, facts=facts)


KINDS: dict[str, Callable[[Labels, Any, Spec], Labels]] = {
    "mask": _mask,
    "indices": _indices,
    "true_labels": _true,
    "noisy_labels": _noisy,
    "cifar_n": _cifar_n,
    "cleanlab": _cleanlab,
}


def _values(place: str, examples: Examples, spec: Spec) -> tuple[Any, list[str]]:
    """What a file or a column says, in the order of the examples, and what was done for that."""
    if not place.startswith("@"):
        try:
            values = as_table(read_values(Path(place)))
        except ValueError as error:
            raise wrong(spec, str(error), "columns of equal lengths, or one list") from error
        if spec.name.startswith("indices:"):
            return only_list(values, spec, examples.files), []
        return aligned(values, spec, len(examples), examples.ids, examples.files)
    if place[1:] not in examples.columns:
        raise InputError(
            "the data have no such column",
            found=repr(place[1:]),
            expected=f"one of {listed(sorted(examples.columns)) or 'none'}",
            fix="--noise KIND:FILE",
        )
    return examples.columns[place[1:]], []


def _one(values: Any, spec: Spec) -> Any:
    """An array, or the only array of a file, or the one that ``?column=`` names."""
    if not isinstance(values, dict):
        return values
    column = spec.arguments.get("column", next(iter(values)) if len(values) == 1 else None)
    column = None if column is None else str(column)
    if column not in values:
        found = f"columns {listed(sorted(values))}" if column is None else f"no column {column!r}"
        raise wrong(spec, found, f"?column= one of {listed(sorted(values))}")
    return values[column]


def _column(values: Any, labels: Labels, spec: Spec, otherwise: str = "") -> np.ndarray:
    """One integer for each example; ``otherwise`` is the kind that the file may be of instead."""
    array = np.asarray(_one(values, spec))
    if array.shape != (len(labels.given),) or not _whole(array):
        raise wrong(
            spec, f"{array.dtype} {list(array.shape)}{_odd(array)}",
            f"{len(labels.given)} whole numbers",
            otherwise=otherwise if array.ndim == 1 and _whole(array) else "",
        )  # fmt: skip
    return array.astype(np.int64)


def _odd(values: np.ndarray) -> str:
    """The first entry that is no whole number, in words."""
    flat = values.ravel().tolist()
    if None in flat:
        return " with null"
    odd = (v for v in flat if isinstance(v, str) or (isinstance(v, float) and not v.is_integer()))
    first = next(odd, None)
    return "" if first is None else f" with {first!r}"


def _whole(values: np.ndarray) -> bool:
    """Integers, truth values, or floating point numbers that are integers."""
    if values.dtype.kind != "f":
        return values.dtype.kind in "iub"
    return bool(np.isfinite(values).all() and (values == np.round(values)).all())


def _by_chance(labels: Labels) -> list[str]:
    """Whether given and true labels agree no more often than if one of them were shuffled."""
    if labels.true is None or (known := labels.true != UNKNOWN).sum() < FEW:
        return []
    given, true = labels.given[known], labels.true[known]
    shares = [(given == c).mean() * (true == c).mean() for c in np.unique(true)]
    chance, agree = float(sum(shares)), float((given == true).mean())
    if agree > chance + 3 * np.sqrt(chance * (1 - chance) / len(given)):
        return []
    return [
        f"true and given labels agree in {agree:.1%}, as by chance: all labels are random, or the "
        "examples are in another order"
    ]


def _verified(labels: Labels) -> Labels:
    """What two sources say agrees; what was selected but not changed is counted."""
    labels = replace(labels, facts=[*labels.facts, *_by_chance(labels)])
    if labels.true is None or labels.selected is None:
        return labels
    selected, state = labels.selected == CORRUPTED, labels.state
    contradicted = np.flatnonzero((labels.selected == CLEAN) & (state == CORRUPTED))
    if len(contradicted) and not labels.estimated:
        raise InputError(
            "the mask and the labels contradict one another",
            found=f"{len(contradicted)} examples outside the mask whose label is not the true one, "
            f"such as {contradicted[0]}",
            expected="every changed label inside the mask: the same order of examples in both",
            fix="give one of them: --noise true_labels:FILE",
        )
    unchanged = int((selected & (state == CLEAN)).sum())
    fact = f"{unchanged} of {selected.sum()} selected labels are unchanged; they count as clean"
    return replace(labels, facts=[*labels.facts, fact])
