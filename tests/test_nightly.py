"""What every run leaves to the night shows nothing that is not shown by what it tests."""

from __future__ import annotations

import pytest

from tests.nightly import of_every_run, variants


def test_a_variant_that_shows_nothing_new_is_left_to_the_night():
    parameters = variants([(1, 2), (2, 1), (2, 3)], lambda *numbers: numbers)
    assert [bool(p.marks) for p in parameters] == [False, True, False]
    assert [p.id for p in parameters] == ["1-2", "2-1", "2-3"]


def test_none_is_left_out():
    values = ["a", "b", "ab", "abc"]
    parameters = variants(values, set)
    assert [p.values for p in parameters] == [(value,) for value in values]
    assert [p.values[0] for p in parameters if p.marks] == ["ab"]


def test_those_that_are_not_chosen_are_left_to_the_night():
    parameters = of_every_run([1, 2, 3], {"2"})
    assert [(p.id, bool(p.marks)) for p in parameters] == [("1", True), ("2", False), ("3", True)]


def test_a_chosen_one_that_is_not_there_is_noticed():
    with pytest.raises(ValueError, match="'4'"):
        of_every_run([1, 2, 3], {"4"})
