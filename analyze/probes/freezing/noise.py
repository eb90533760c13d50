"""Which labels are wrong, in the forms that label noise is kept in.

Three states: clean, corrupted, unknown. Selected for noise is not corrupted: where labels are
redrawn over all classes, some stay what they were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from analyze.errors import InputError, listed
from analyze.probes.freezing.data import Examples
from analyze.probes.freezing.values import read_values
from analyze.specs import Spec

CLEAN, CORRUPTED, UNKNOWN = 0, 1, -1
NAMES = {CLEAN: "clean", CORRUPTED: "corrupted", UNKNOWN: "unknown"}
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
    """

    given: np.ndarray
    true: np.ndarray | None = None
    selected: np.ndarray | None = None
    estimated: bool = False
    facts: list[str] = field(default_factory=list)

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
        noise: ``KIND:FILE``, or ``KIND:@COLUMN`` for a column of the data set.

    Raises:
        InputError: no such kind or file, other lengths, or files that contradict one another.
    """
    labels = Labels(examples.targets, examples.true)
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
        labels = KINDS[kind](labels, _values(place, examples), spec)
    return _verified(labels)


def _mask(labels: Labels, values: Any, spec: Spec) -> Labels:
    mask = _column(values, labels, spec).astype(np.int64)
    if not np.isin(mask, list(NAMES)).all():
        raise _wrong(spec, f"values {listed(sorted(set(map(str, mask.tolist()))), 4)}", "1, 0, -1")
    return replace(labels, selected=mask)


def _indices(labels: Labels, values: Any, spec: Spec) -> Labels:
    rows = np.asarray(_one(values, spec)).astype(np.int64)
    count = len(labels.given)
    if rows.ndim != 1 or len(np.unique(rows)) != len(rows) or (
        len(rows) and not 0 <= rows.min() <= rows.max() < count
    ):  # fmt: skip
        raise _wrong(spec, f"{len(rows)} indices", f"different numbers from 0 to {count - 1}")
    selected = np.zeros(count, np.int64)
    selected[rows] = CORRUPTED
    return replace(labels, selected=selected)


def _true(labels: Labels, values: Any, spec: Spec) -> Labels:
    return replace(labels, true=_column(values, labels, spec).astype(np.int64))


def _noisy(labels: Labels, values: Any, spec: Spec) -> Labels:
    given = _column(values, labels, spec).astype(np.int64)
    return replace(labels, given=given, true=labels.given)


def _cifar_n(labels: Labels, values: Any, spec: Spec) -> Labels:
    """The file of CIFAR-N; its order must be that of the data set, TensorFlow's is another."""
    column = spec.arguments.get("column")
    if not isinstance(values, dict) or "clean_label" not in values or column not in values:
        names = sorted(map(str, values)) if isinstance(values, dict) else []
        raise _wrong(spec, f"column {column!r}", f"?column= one of {listed(names) or 'none'}")
    clean, given = (np.asarray(values[k]).astype(np.int64) for k in ("clean_label", str(column)))
    if len(clean) != len(labels.given) or (clean != labels.given).any():
        differ = f"{(clean != labels.given).sum()} differ" if len(clean) == len(labels.given) else (
            f"{len(clean)} of them"
        )  # fmt: skip
        raise _wrong(
            spec, f"clean labels that are not those of the data: {differ}",
            "the file in the order of torchvision's training set; TensorFlow's is another",
        )  # fmt: skip
    facts = [f"the file's clean labels are those of the data, all {len(clean)}"]
    return replace(labels, given=given, true=clean, facts=[*labels.facts, *facts])


def _cleanlab(labels: Labels, values: Any, spec: Spec) -> Labels:
    """A table of cleanlab, which estimates; ``given_label`` must be the label that is given."""
    if isinstance(values, dict) and "given_label" in values:
        given = np.asarray(values["given_label"])
        if len(given) != len(labels.given) or (given != labels.given).any():
            raise _wrong(spec, "given_label that is not the label of the data", "the same order")
    issue = values["is_label_issue"] if isinstance(values, dict) and "is_label_issue" in values \
        else values  # fmt: skip
    mask = _column(issue, labels, spec).astype(np.int64)
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


def _values(place: str, examples: Examples) -> Any:
    if not place.startswith("@"):
        return read_values(Path(place))
    if place[1:] not in examples.columns:
        raise InputError(
            "the data have no such column",
            found=repr(place[1:]),
            expected=f"one of {listed(sorted(examples.columns)) or 'none'}",
            fix="--noise KIND:FILE",
        )
    return examples.columns[place[1:]]


def _one(values: Any, spec: Spec) -> Any:
    """An array, or the only array of a file, or the one that ``?column=`` names."""
    if not isinstance(values, dict):
        return values
    column = spec.arguments.get("column", next(iter(values)) if len(values) == 1 else None)
    if column not in values:
        raise _wrong(spec, f"column {column!r}", f"?column= one of {listed(sorted(values))}")
    return values[column]


def _column(values: Any, labels: Labels, spec: Spec) -> np.ndarray:
    """One integer for each example."""
    found = _one(values, spec)
    array = np.asarray(found.cpu() if hasattr(found, "cpu") else found)
    whole = array.dtype.kind in "iub" or (array.dtype.kind == "f" and (array % 1 == 0).all())
    if array.shape != (len(labels.given),) or not whole:
        raise _wrong(
            spec, f"{array.dtype} {list(array.shape)}", f"{len(labels.given)} whole numbers"
        )
    return array


def _verified(labels: Labels) -> Labels:
    """What two sources say agrees; what was selected but not changed is counted."""
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


def _wrong(spec: Spec, found: str, expected: str) -> InputError:
    return InputError(
        "the file of label noise does not fit the data",
        found=f"{found} in {spec.name.partition(':')[2]}",
        expected=expected,
        fix=f"--noise {spec.name.partition(':')[0]}:FILE with a file for these data",
    )
