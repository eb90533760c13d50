"""Which labels are wrong, and what each example's classes are called."""

from __future__ import annotations

import numpy as np
import pytest

from analyze.probes import ProbeSet
from analyze.probes.subsets import Column
from analyze.rankings.labels import Labels, labels_of
from tests.test_rankings import CLASSES, COUNT, made, the_probes


@pytest.mark.parametrize("named", [True, False])
def test_labels_are_known_by_subsets_or_columns(named):
    subsets = ("clean", "corrupted", "held_out") if named else ("train", "more", "held_out")
    probes = the_probes(subsets)
    if not named:
        given, true = probes.targets.copy(), probes.columns["true_class"].codes
        given[20:40] = (true[20:40] + 1) % 3
        columns = {"class": Column(given, CLASSES), "true_class": Column(true, CLASSES)}
        probes = ProbeSet(probes.inputs[""], given, [subsets[k // 20] for k in range(COUNT)],
                          probes.id, columns=columns)  # fmt: skip
    tree = made(("all",), (), probes)
    labels = labels_of(tree, probes)
    expected = np.repeat([0.0, 1.0, np.nan], 20)
    np.testing.assert_array_equal(labels.wrong, expected)
    assert labels.known_by == (
        "the subsets clean and corrupted" if named else "the given and the true class"
    )
    assert list(labels.true[:3]) == list(CLASSES)
    assert len(labels.judged) == 40


def test_a_column_noise_says_it_too():
    probes = the_probes(("train", "more", "held_out"))
    state = Column(np.arange(COUNT) // 20 % 3, ("clean", "corrupted", "unknown"))
    columns = {"noise": state}
    probes = ProbeSet(probes.inputs[""], probes.targets, ["train"] * COUNT, columns=columns)
    labels = labels_of(made(("all",), (), probes), probes)
    np.testing.assert_array_equal(labels.wrong, np.repeat([0.0, 1.0, np.nan], 20))
    assert labels.known_by == "the column noise"
    assert list(labels.given[:3]) == ["0", "1", "2"]  # no names are known


def test_numbers_are_not_compared_with_names():
    tree = made(("all",), ("true_class",), the_probes(("train", "more", "held_out")))
    assert labels_of(tree, None).wrong is None


NUMBERS, LETTERS = tuple(map(str, range(12))), tuple("mlkjihgfedcb")


@pytest.mark.parametrize("words", [NUMBERS, LETTERS], ids=["numbers", "letters"])
@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("known", ["", "noise", "held_out"])
def test_the_codes_of_a_column_name_no_targets(words, in_order, known):
    """A column may number its names in any order; what is right tells which target is which."""
    true, state = np.arange(COUNT) % 12, np.arange(COUNT) // 20
    given = np.where(state == 1, (true + 1) % 12, true)
    names = words if in_order else tuple(sorted(words))
    columns = {"true_class": Column(np.array([names.index(words[k]) for k in true]), names)}
    if known == "noise":
        columns["noise"] = Column(state, ("clean", "corrupted", "unknown"))
    last = "held_out" if known == "held_out" else "train"
    subset = [last if k == 2 else "train" for k in state]
    probes = ProbeSet(np.zeros((COUNT, 2), np.float32), given, subset, columns=columns)
    labels = labels_of(made(("all",), (), probes), probes)
    assert labels.true.tolist() == [words[k] for k in true]
    told = known != "" or words == NUMBERS
    assert labels.given.tolist() == [words[k] if told else str(k) for k in given]
    if not told:
        assert labels.wrong is None
        return
    assert labels.wrong is not None
    judged = labels.judged
    np.testing.assert_array_equal(labels.wrong[judged], (given != true)[judged])
    assert labels.wrong[:40].tolist() == [0.0] * 20 + [1.0] * 20


def test_right_labels_that_lack_a_class_or_disagree_name_no_targets():
    true, clean = np.arange(COUNT) % 3, np.arange(COUNT) < 20
    for few in (clean & (true < 2), clean):
        given = np.where(clean, true, (true + 1) % 3)
        given[0] = 1 if few is clean else given[0]
        state = Column(np.where(few, 0, 1), ("clean", "other"))
        columns = {"noise": state, "true_class": Column(true, CLASSES)}
        probes = ProbeSet(np.zeros((COUNT, 2), np.float32), given, ["train"] * COUNT,
                          columns=columns)  # fmt: skip
        labels = labels_of(made(("all",), (), probes), probes)
        assert labels.given.tolist() == given.astype(str).tolist()
        assert labels.wrong is None


@pytest.mark.parametrize(("given", "shown"), [(("0", "1"), None), (("cat", "dog"), 2), (None, 2)])
def test_a_true_class_stands_only_against_a_given_one_in_the_same_words(given, shown):
    labels = Labels(None if given is None else np.array(given), np.array(["cat", "cat"]), None)
    assert (None if labels.other_class is None else len(labels.other_class)) == shown
