"""Which labels are wrong, in the forms in which people keep label noise.

A label is clean, corrupted or unknown. Not every label that was selected for noise is corrupted:
where labels are redrawn over all classes, some stay what they were.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from analyze.errors import InputError, counted, listed, unknown
from analyze.probes.freezing.alignment import aligned, listed_rows, only_list
from analyze.probes.freezing.clean_names import names_the_clean
from analyze.probes.freezing.data import Examples
from analyze.probes.freezing.sources import Source
from analyze.probes.freezing.tables import as_table, is_whole
from analyze.probes.freezing.values import read_values

CLEAN, CORRUPTED, UNKNOWN = 0, 1, -1
NAMES = {CLEAN: "clean", CORRUPTED: "corrupted", UNKNOWN: "unknown"}
FEW = 100  # labels, too few to tell agreement by chance
LABELS_NAME = re.compile(r"given|noisy|observed|label|target|class|true|(?<![a-z])y(?![a-z])", re.I)
ENOUGH = 20  # labels whose counts by class are hardly those of the data by accident
CLEAN_LABEL = "clean_label"  # a column in the file of CIFAR-N
ESTIMATED = "estimated_"  # before states that a program estimated


@dataclass(frozen=True)
class Labels:
    """The labels of a data set, and what is known of their noise."""

    examples: Examples
    given: np.ndarray  # [N, ...], the labels that the model was trained on
    true: np.ndarray | None = None  # [N], -1 where unknown
    selected: np.ndarray | None = None  # [N], 1 where a label was selected for noise, -1 unknown
    estimated: bool = False  # whether `selected` is an estimate
    facts: list[str] = field(default_factory=list)  # sentences on what was verified and counted

    @property
    def known(self) -> bool:
        """Whether anything is known of the noise."""
        return self.true is not None or self.selected is not None

    @property
    def state(self) -> np.ndarray:
        """``[N]``, clean 0, corrupted 1, unknown -1; true labels decide before the selection."""
        if self.true is None:
            return np.full(len(self.given), UNKNOWN) if self.selected is None else self.selected
        state = np.where(self.given == self.true, CLEAN, CORRUPTED)
        return np.where(self.true == UNKNOWN, UNKNOWN, state)

    @property
    def state_names(self) -> list[str]:
        """The state of each example as a word."""
        prefix = ESTIMATED if self.estimated and self.true is None else ""
        return [NAMES[k] if k == UNKNOWN else prefix + NAMES[k] for k in self.state.tolist()]


def labels_of(examples: Examples, noise: list[str]) -> Labels:
    """The labels of a data set with the noise that ``KIND:FILE`` or ``KIND:@COLUMN`` describe."""
    labels = Labels(examples, examples.targets)
    if examples.true is not None:
        labels = _true(labels, examples.true, Source("true_labels", examples.source, {}))
    for text in noise:
        source = Source.parse(text)
        if source.kind not in KINDS or not source.place:
            known = [f"{kind}:FILE" for kind in KINDS]
            fix = "--noise true_labels:FILE"
            raise unknown("this is no kind of label noise", repr(text), known, fix)
        before = labels
        values, facts = _values(source, examples)
        labels = replace(labels, facts=[*labels.facts, *facts])
        labels = KINDS[source.kind](labels, values, source)
        _check_same(before.true, labels.true, "true labels", text)
        _check_same(before.selected, labels.selected, "selected labels", text)
    return _verified(labels)


def _check_same(before: np.ndarray | None, after: np.ndarray | None, what: str, text: str) -> None:
    """Refuse a source that contradicts an earlier one, as the last one would win silently."""
    if before is None or after is None or np.array_equal(before, after):
        return
    raise InputError(
        "two sources of label noise contradict one another",
        found=f"{(before != after).sum()} {what} of {text!r} are not those said before",
        expected="each of the true labels and of the selected ones from one source",
        fix="leave one --noise out",
    )


def _mask(labels: Labels, values: Any, source: Source) -> Labels:
    swapped = _means_clean(values, source)
    mask = _states(_column(values, labels, source, otherwise="indices"), source)
    return replace(labels, selected=np.where(mask == UNKNOWN, mask, 1 - mask) if swapped else mask)


def _states(mask: np.ndarray, source: Source) -> np.ndarray:
    """A mask, checked to have only the values 0, 1 and -1."""
    if not np.isin(mask, list(NAMES)).all():
        values = listed(sorted(set(map(str, mask.tolist()))), 4)
        raise source.wrong(f"values {values}", "1, 0, -1")
    return mask


def _means_clean(values: Any, source: Source) -> bool:
    """Whether 1, or to be listed, means clean; ``?corrupted=`` must decide for ``is_clean``."""
    option = source.options.get("corrupted")
    if option not in (None, 0, 1, "0", "1"):
        raise source.wrong(f"?corrupted={option}", "0 or 1", "corrupted=0")
    if option is not None:
        return int(option) == CLEAN
    column = source.column or (next(iter(values), "") if isinstance(values, dict) else "")
    for name in (column, source.title):
        if names_the_clean(name):
            raise source.wrong(
                f"the name {name!r}, as of the clean ones,",
                "1 for corrupted and 0 for clean, or a list of the corrupted ones",
                "corrupted=0", "corrupted=1",
            )  # fmt: skip
    return False


def _indices(labels: Labels, values: Any, source: Source) -> Labels:
    swapped = _means_clean(values, source)
    array = np.asarray(_chosen(values, source))
    count = len(labels.given)
    integers = array.ndim == 1 and (not len(array) or is_whole(array)) and array.dtype.kind != "b"
    rows = array.astype(np.int64) if integers else np.array([-1])
    rows = listed_rows(rows, source, labels.examples)
    if len(np.unique(rows)) != len(rows) or not ((rows >= 0) & (rows < count)).all():
        raise source.wrong(
            f"{array.size} values that are no indices",
            f"different numbers from 0 to {count - 1}",
            otherwise="mask" if array.size == count else "",
        )
    listed_are, others = (CLEAN, CORRUPTED) if swapped else (CORRUPTED, CLEAN)
    selected = np.full(count, others, np.int64)
    selected[rows] = listed_are
    return replace(labels, selected=selected)


def _true(labels: Labels, values: Any, source: Source) -> Labels:
    return replace(labels, true=_classes(values, labels, source, UNKNOWN))


def _noisy(labels: Labels, values: Any, source: Source) -> Labels:
    return replace(labels, given=_classes(values, labels, source, 0), true=labels.given)


def _classes(values: Any, labels: Labels, source: Source, lowest: int) -> np.ndarray:
    """One class for each example, among the classes of the data."""
    array = _column(values, labels, source)
    targets, names = labels.examples.targets, labels.examples.class_names
    if targets.ndim != 1 or targets.dtype.kind not in "iub":
        problem = f"targets {targets.dtype} {list(targets.shape)} in the data, and labels"
        raise source.wrong(problem, "data with one class for each example")
    # The class names count the classes, unless the labels in the data go beyond them.
    named = targets.dtype.kind in "iu" and targets.size and targets.max() < len(names)
    bad = array[(array < lowest) | (array >= (len(names) if named else np.inf))]
    if len(bad):
        classes = f"to {len(names) - 1}, the data's classes" if named else "on"
        problem = f"{counted(len(bad), 'label')} such as {bad[0]}"
        raise source.wrong(problem, f"labels from {lowest} {classes}")
    _refuse_counted_otherwise(array, targets, source)
    _refuse_another_order(values, targets, source)
    return array


def _refuse_another_order(values: Any, targets: np.ndarray, source: Source) -> None:
    """Refuse a table beside whose labels the data's own stand in another order than in the data."""
    if not isinstance(values, dict) or len(values) < 2 or source.by is not None:
        return  # of a single column it is the labels themselves, which may have been shuffled
    for name, column in values.items():
        labels = np.asarray(column)
        if name == source.column or not LABELS_NAME.search(name) or not is_whole(labels):
            continue
        same = len(labels) >= ENOUGH and np.array_equal(np.sort(labels), np.sort(targets))
        if same and not _agree(labels, targets):
            raise source.wrong(
                f"column {name!r}, the labels of the data in another order,",
                "rows in the order of the data",
                "by=order",
            )


def _refuse_counted_otherwise(array: np.ndarray, targets: np.ndarray, source: Source) -> None:
    """Refuse classes that are counted from 1 where those of the data are from 0, or vice versa.

    They go beyond the data's at one end and not at the other, and agree with them beyond chance
    after 1 is added or taken off, but not as they stand.
    """
    known = array != UNKNOWN
    if known.sum() < FEW:
        return
    here, there = array[known], targets[known].astype(np.int64)
    for shift, sign in ((1, "-"), (-1, "+")):
        ends = [(here.min() - there.min()) * shift, (here.max() - there.max()) * shift]
        if min(ends) >= 0 < max(ends) and _agree(here - shift, there) and not _agree(here, there):
            as_they_are, shifted = (here == there).mean(), (here - shift == there).mean()
            raise source.wrong(
                f"labels from {here.min()} to {here.max()}: {as_they_are:.0%} of them are those of "
                f"the data, of labels {sign} 1 {shifted:.0%},",
                f"labels counted as in the data, from {there.min()} to {there.max()}",
                mend=f"in Python: numpy.save('labels.npy', labels {sign} 1), "
                f"then --noise {source.kind}:labels.npy",
            )


def _cifar_n(labels: Labels, values: Any, source: Source) -> Labels:
    """The labels of CIFAR-N's file, which must have the order of the data set."""
    names = sorted(map(str, values)) if isinstance(values, dict) else []
    if CLEAN_LABEL not in names:
        raise source.wrong(
            f"columns {listed(names) or 'without names'}",
            f"a column {CLEAN_LABEL} beside the noisy ones, as in CIFAR-N",
            otherwise="noisy_labels",
        )
    if source.column not in names:
        others = [name for name in names if name != CLEAN_LABEL]
        expected = f"?column= one of {listed(others) or 'none'}, beside {CLEAN_LABEL}"
        problem = f"no column {source.column!r}" if source.column else "no ?column="
        raise source.wrong(problem, expected)
    clean = _column(values[CLEAN_LABEL], labels, source)
    if differ := int((clean != labels.given).sum()):
        raise source.wrong(
            f"clean labels that are not those of the data: {differ} differ",
            "the file in the order of torchvision's training set; TensorFlow's is another",
        )
    facts = [f"the file's clean labels are those of the data, all {len(clean)}"]
    given = _classes(values[source.column], labels, source, 0)
    return replace(labels, given=given, true=clean, facts=[*labels.facts, *facts])


def _cleanlab(labels: Labels, values: Any, source: Source) -> Labels:
    """The labels with cleanlab's estimate; its ``given_label`` must be that of the data."""
    if isinstance(values, dict):
        if not np.array_equal(values.get("given_label", labels.given), labels.given):
            raise source.wrong("given_label that is not the label of the data", "the same order")
        values = values.get("is_label_issue", values)
    mask = _states(_column(values, labels, source), source)
    facts = [*labels.facts, "which labels are wrong is cleanlab's estimate"]
    return replace(labels, selected=mask, estimated=True, facts=facts)


KINDS: dict[str, Callable[[Labels, Any, Source], Labels]] = {
    "mask": _mask,
    "indices": _indices,
    "true_labels": _true,
    "noisy_labels": _noisy,
    "cifar_n": _cifar_n,
    "cleanlab": _cleanlab,
}


def _values(source: Source, examples: Examples) -> tuple[Any, list[str]]:
    """A file or column in the order of the examples, and sentences on how it was brought there."""
    name = source.place.removeprefix("@")
    if name == source.place:
        try:
            values = as_table(read_values(Path(name)))
        except ValueError as error:
            raise source.wrong(str(error), "columns of equal lengths, or one list") from error
        if source.kind == "indices":
            return only_list(values, source, examples), []
        return aligned(values, source, examples)
    columns = examples.columns
    if examples.true is not None and examples.true_name:
        columns = {**columns, examples.true_name: examples.true}  # taken as that already
    if name not in columns:
        known = sorted(columns)
        fix = f"--noise {source.kind}:@{known[0]}" if known else f"--noise {source.kind}:FILE"
        raise unknown("the data have no such column", repr(name), known, fix)
    return columns[name], []


def _chosen(values: Any, source: Source) -> Any:
    """The array of a source: its only one, or the one that ``?column=`` names."""
    if not isinstance(values, dict):
        return values
    column = next(iter(values)) if source.column is None and len(values) == 1 else source.column
    if column not in values:
        names = listed(sorted(values)) or "none"
        problem = f"columns {names}" if column is None else f"no column {column!r}"
        raise source.wrong(problem, f"?column= one of {names}")
    return values[column]


def _column(values: Any, labels: Labels, source: Source, otherwise: str = "") -> np.ndarray:
    """One integer for each example; ``otherwise`` is the kind that the file may be of instead."""
    array = np.asarray(_chosen(values, source))
    if array.shape != (len(labels.given),) or not is_whole(array):
        kind = "texts" if array.dtype.kind == "U" else str(array.dtype)
        raise source.wrong(
            f"{kind} {list(array.shape)}{_odd(array)}",
            f"{len(labels.given)} whole numbers",
            otherwise=otherwise if array.ndim == 1 and is_whole(array) else "",
            mend=_mend(array, len(labels.given), source),
        )
    return array.astype(np.int64)


def _mend(array: np.ndarray, count: int, source: Source) -> str:
    """What makes one whole number for each of ``count`` examples of an array; empty: not known."""
    save, use = "in Python: numpy.save('labels.npy', ", f"), then --noise {source.kind}:labels.npy"
    text = array.dtype.kind == "U"
    if text and array.shape == (count + 1,) and is_whole(_numbers(array[1:])):
        return f"take the first line off, {str(array[0])!r}, or name the file .csv: it has a header"
    if text and array.shape == (count,):
        return f"{save}[CLASSES.index(label) for label in labels]{use}"
    if array.ndim == 2 and len(array) == count and array.dtype.kind in "fiub":
        return f"{save}labels.argmax(1){use}"
    numbers = _numbers(array)  # of JSON a null is no number of its own until then
    if array.shape == (count,) and numbers.dtype.kind == "f" and np.isnan(numbers).any():
        unknown_too = source.kind in ("true_labels", "mask")
        return f"{save}numpy.nan_to_num(labels, nan=-1){use}" if unknown_too else ""
    return ""


def _numbers(values: np.ndarray) -> np.ndarray:
    """Texts or objects as numbers; as they are where one of them is none."""
    try:
        return values.astype(float)
    except (TypeError, ValueError):
        return values


def _odd(values: np.ndarray) -> str:
    """The end of a message: the first entry that is no whole number."""
    flat = values.ravel().tolist()
    if None in flat:
        return " with null"
    odd = (v for v in flat if isinstance(v, str) or (isinstance(v, float) and not v.is_integer()))
    first = next(odd, None)
    return "" if first is None else f" with {first!r}"


def _by_chance(labels: Labels) -> list[str]:
    """A sentence where given and true labels agree no more often than after shuffling one."""
    if labels.true is None or (known := labels.true != UNKNOWN).sum() < FEW:
        return []
    noisy, true = labels.given[known], labels.true[known]
    if _agree(noisy, true):
        return []
    return [
        f"true and given labels agree in {(noisy == true).mean():.1%}, as by chance: all labels "
        "are random, or the examples are in another order"
    ]


def _nowhere(labels: Labels) -> list[str]:
    """A sentence where no known label is corrupted: the same labels may have been given twice."""
    if labels.true is None or not (known := labels.true != UNKNOWN).any():
        return []
    if (labels.given[known] != labels.true[known]).any():
        return []
    return [
        f"true and given labels are equal, all {known.sum()}: no label is corrupted, or the file "
        "and the data hold the same ones"
    ]


def _agree(some: np.ndarray, others: np.ndarray) -> bool:
    """Whether two lists of labels agree more often than after shuffling one of them."""
    shares = [(some == c).mean() * (others == c).mean() for c in np.unique(others)]
    chance, agree = float(sum(shares)), float((some == others).mean())
    return bool(agree > chance + 3 * np.sqrt(chance * (1 - chance) / len(some)))


def _verified(labels: Labels) -> Labels:
    """The labels, checked against the selection, with facts on chance and unchanged labels."""
    labels = replace(labels, facts=[*labels.facts, *_by_chance(labels), *_nowhere(labels)])
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
