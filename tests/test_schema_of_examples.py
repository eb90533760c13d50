"""The group of single examples in a results file: all of it, or refused."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import analyze
from analyze.errors import InputError
from analyze.results.file import write_results
from analyze.results.schema import faults
from tests.nightly import of_every_run
from tests.test_rankings import made

COUNT = 60
FAULTY = {
    "no squared norms": (lambda e: e.drop_vars("gradient_sqnorm"), "gradient_sqnorm missing"),
    "no loss": (lambda e: e.drop_vars("loss"), "/examples/loss missing"),
    "no target": (lambda e: e.drop_vars("target"), "/examples/target missing"),
    "no subset": (lambda e: e.drop_vars("subset"), "/examples/subset missing"),
    "no norm": (lambda e: e.drop_vars("direction_norm"), "/examples/direction_norm missing"),
    "words": (lambda e: e.assign(loss=e["loss"].astype(str)), "/examples/loss ("),
    "no layer axis": (lambda e: e.assign(alignment=e["alignment"].sum("layer")), "alignment ("),
    "ids are words": (lambda e: e.assign_coords(probe=e["probe"].astype(str)), "/examples/probe ("),
    "ids are fractions": (lambda e: e.assign_coords(probe=e["probe"] + 0.5), "/examples/probe ("),
    "an id twice": (lambda e: e.assign_coords(probe=[7] * COUNT), "/examples/probe that are not"),
    "two targets": (
        lambda e: e.drop_vars("target").assign_coords(target=(("probe", "k"), np.ones((COUNT, 2)))),
        "/examples/target (",
    ),
    "a direction twice": (
        lambda e: e.assign_coords(direction=["all"] * e.sizes["direction"]), "direction that are"
    ),
    "fewer layers": (lambda e: e.isel(layer=[0]), "examples with other layers"),
    "fewer examples": (lambda e: e.isel(probe=slice(9)), "examples of other subsets"),
    "another subset": (
        lambda e: e.assign_coords(subset=("probe", ["x"] * COUNT)), "examples of other subsets"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return made(("all", "clean"))


def changed(tree: xr.DataTree, change) -> xr.DataTree:
    other = tree.copy()
    other["examples"] = xr.DataTree(change(tree["examples"].to_dataset(inherit=False)))
    return other


@pytest.mark.parametrize("name", FAULTY)
def test_a_part_of_the_examples_is_a_fault(tree, name):
    change, said = FAULTY[name]
    found = faults(changed(tree, change))
    assert any(said in fault for fault in found), found


@pytest.mark.parametrize("name", of_every_run(FAULTY, {"no loss", "an id twice"}))
def test_a_file_with_a_fault_is_no_results_file(tree, name, tmp_path):
    write_results(changed(tree, FAULTY[name][0]), tmp_path / "x.h5")
    with pytest.raises(InputError):
        analyze.examples(tmp_path / "x.h5")


def test_axes_may_have_another_order(tree):
    other = changed(tree, lambda e: e.transpose())
    assert faults(other) == []
    assert analyze.examples(other).rows == analyze.examples(tree).rows


def test_examples_without_directions_and_results_without_examples_are_whole(tree):
    along = ["alignment", "direction", "direction_norm"]
    less = changed(tree, lambda e: e.drop_vars([*along, "margin"], errors="ignore"))
    assert faults(less) == []
    del less["examples"]
    assert faults(less) == []
