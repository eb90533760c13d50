"""What a report needs more than once is computed once, and is the same as computed anew."""

from __future__ import annotations

import pytest
import xarray as xr

from analyze.results import carried
from analyze.results.carried import between, carrying, of_contrast
from tests.synthetic import synthetic
from tests.trees import make_tree


def test_what_a_tree_carries_is_not_computed_again(monkeypatch):
    results = synthetic(layers=2, checkpoints=3, subsets=3, probes=20, folds=4, skipped=(1,))
    expected = between(results), of_contrast(results)
    tree = carrying(results)

    def again(*_: object, **__: object) -> None:
        pytest.fail("computed again")

    monkeypatch.setattr(carried, "between_subsets", again)
    monkeypatch.setattr(carried, "contrast", again)
    for found, one in zip((between(tree), of_contrast(tree)), expected, strict=True):
        xr.testing.assert_equal(found[list(one.data_vars)], one)
    assert set(results.children) == set(tree.children) - {carried.BETWEEN, carried.CONTRAST}


def test_results_without_sums_carry_nothing():
    assert set(carrying(make_tree()).children) == set(make_tree().children)
