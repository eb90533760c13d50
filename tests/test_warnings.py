"""Warnings where the metric misleads: each where it belongs, and nowhere else."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import torch
import xarray as xr

import analyze
from analyze.reports.page import render_page
from analyze.results import file as store
from analyze.statistics import describe
from analyze.statistics.sizes import shown_at
from analyze.statistics.warnings import (
    FEW_EXAMPLES,
    FEW_FOLDS,
    FLAGS,
    KINDS,
    flag_group,
    flagged,
    folds_used,
    kinds_of,
    marks_of,
    precision_reach,
)
from tests.trees import pictures

COUNT = 400  # in each of two subsets
ALL = ["clean", "corrupted", "all"]


def regression(
    *, corrupted: float = 1.0, noise: float = 1.0, offset: float = 1.0, largest: float = 1.0,
    counts: tuple[int, int] = (COUNT, COUNT), folds: int = 10, precision: str = "float32",
) -> xr.DataTree:  # fmt: skip
    """A linear model at zero on inputs whose targets decide the gradients, ``-2 t x``.

    Args:
        corrupted: Factor of the targets in the second subset: -1 makes them oppose the first.
        noise: Spread of the targets.
        offset: Their mean, which all gradients share.
        largest: Factor of one input of each subset.
    """
    draw = np.random.default_rng(0)
    inputs = 1.0 + 0.1 * draw.standard_normal((sum(counts), 6))
    inputs[[0, counts[0]]] *= largest
    targets = offset + noise * draw.standard_normal((sum(counts), 1))
    targets[counts[0] :] *= corrupted
    model = torch.nn.Linear(6, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    subset = ["clean"] * counts[0] + ["corrupted"] * counts[1]
    probes = analyze.ProbeSet(inputs, targets, subset)
    return analyze.measure(
        model, probes, loss="mse", folds=folds, precision=precision, device="cpu"
    )


def warned(tree: xr.DataTree, group: str = "network") -> dict[str, list[str]]:
    """The subsets that each kind of warning is given for."""
    dataset = tree[group].to_dataset().isel(checkpoint=0)
    names = dataset["subset"].values
    found = {}
    for kind in KINDS:
        here = flagged(dataset, kind.name)
        here = here.any("layer") if "layer" in here.dims else here
        if bool(here.any()):
            found[kind.name] = [str(name) for name in names[here.values]]
    return found


def test_nothing_to_warn_of():
    tree = regression()
    assert warned(tree) == warned(tree, "layers") == {}
    assert describe(tree) == []
    assert not tree["network"][FLAGS].any()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"corrupted": -1.0, "noise": 0.1}, {"near_stationary": ALL}),
        ({"largest": 30.0}, {"few_examples": ALL}),
        ({"folds": FEW_FOLDS - 1}, {"few_folds": ALL}),
        ({"folds": FEW_FOLDS}, {}),
        ({"counts": (COUNT, 2 * COUNT)}, {"unbalanced_subsets": ["corrupted"]}),
        ({"counts": (COUNT, COUNT + 10)}, {}),
        ({"offset": 1e-7, "noise": 1e-7}, {"below_precision": ALL}),
        ({"offset": 1e-7, "noise": 1e-7, "precision": "float64"}, {}),
    ],
)
def test_each_warning_where_it_belongs(options, expected):
    tree = regression(**options)
    found = warned(tree)
    # Near a minimum the union's own value cannot be told from chance as well.
    assert {k: v for k, v in found.items() if k != "within_chance"} == expected
    assert warned(tree, "layers") == found
    assert len(describe(tree)) == len(found)
    assert describe(tree, set(found)) == []


def test_a_page_at_one_size_has_no_warning_of_unequal_subsets():
    tree, sentence = regression(counts=(COUNT, 2 * COUNT)), "compare by coherence_at_common_size"
    assert sentence not in render_page(tree, pictures("training"))
    assert sentence in render_page(shown_at(tree, "own"), pictures("training"))


def test_a_value_that_cannot_be_told_from_chance():
    tree = regression(offset=0.0)
    network = tree["network"].to_dataset().isel(checkpoint=0)
    chance = network["p_value_adjusted"] > 0.05
    assert chance.any()
    assert warned(tree) == {"within_chance": network["subset"].values[chance.values].tolist()}
    (sentence,) = describe(tree)
    assert "cannot be told from chance, at a false discovery rate of 5%" in sentence
    assert "within_chance" in sentence


@pytest.mark.parametrize("corrupted", [1e-3, -1e-3])
def test_a_subset_that_hardly_counts_does_not_make_it_stationary(corrupted):
    assert "near_stationary" not in warned(regression(corrupted=corrupted, noise=0.1))


def batch_norm_run(mode: str) -> xr.DataTree:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 3)
    )
    inputs = torch.randn(300, 4) * 3 + 2  # far from the fresh statistics
    return analyze.measure(
        model, analyze.ProbeSet(inputs, torch.arange(300) % 3), batch_norm=mode, device="cpu"
    )


def test_lagging_batch_norm_concerns_values_measured_with_it():
    saved, recomputed = batch_norm_run("saved"), batch_norm_run("recomputed")
    assert warned(saved)["lagging_batch_norm"] == ["probes", "all"]
    assert "lagging_batch_norm" not in warned(recomputed)
    for tree in (saved, recomputed):  # the run says so in either case
        (sentence,) = json.loads(tree.attrs["provenance"])["warnings"]
        assert "lag behind the weights" in sentence


def test_held_out_probes_do_not_make_the_training_set_stationary():
    """Only what was trained on must cancel near a minimum."""
    tree = regression(corrupted=-1.0, noise=0.1)
    tree.attrs["provenance"] = json.dumps({"held_out": ["corrupted"]})
    again = flag_group(tree, tree["network"].to_dataset().drop_vars(FLAGS))
    assert not flagged(again, "near_stationary").any()


def test_flags_go_by_the_names_of_axes_and_not_by_their_order():
    tree = regression(corrupted=-1.0, noise=0.1)
    assert "near_stationary" in warned(tree)
    for name in ("network", "layers"):
        group = tree[name].to_dataset()
        turned = group.drop_vars(FLAGS).transpose(..., *reversed(group["m_coherence"].dims))
        again = flag_group(tree, turned)[FLAGS]
        np.testing.assert_array_equal(again.transpose(*group[FLAGS].dims), group[FLAGS])
    with pytest.raises(ValueError, match="differ in subset"):
        flag_group(tree, group.isel(subset=slice(None, None, -1)))


def test_flags_follow_the_convention(measured):
    tree = analyze.open_results(measured.output)
    for group in ("network", "layers"):
        flags = tree[group][FLAGS]
        assert flags.attrs["flag_masks"].tolist() == [2**k for k in range(len(KINDS))]
        assert flags.attrs["flag_meanings"].split() == [kind.name for kind in KINDS]
        assert np.isnan(flags.values[1]).all()  # a checkpoint that was skipped
        assert (flags.values[0].astype(int) & 2**6 > 0).all()  # two folds
        with h5py.File(measured.output) as file:
            stored = file[group][FLAGS]
            assert stored.dtype == np.int32
            assert (stored[1] == stored.attrs["_FillValue"]).all()
            assert (stored[0] == flags.values[0]).all()


def test_flags_of_many_layers_are_integers_too(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "LARGE", 1)  # every variable is compressed
    tree = analyze.open_results(measured.output)
    store.write_results(tree, tmp_path / "again.h5")
    with h5py.File(tmp_path / "again.h5") as file:
        assert file["layers"][FLAGS].dtype == np.int32
        assert file["layers"][FLAGS].compression == "gzip"
    assert analyze.open_results(tmp_path / "again.h5").identical(tree)


def test_letters_and_kinds_of_a_value():
    assert kinds_of(0) == kinds_of(np.nan) == []
    assert [kind.name for kind in kinds_of(2**2 + 2**4)] == ["within_chance", "few_examples"]
    assert marks_of(2**2 + 2**4) == "nq"
    assert marks_of(2**5) == ""  # unbalanced subsets: said once, not at each value
    letters = [kind.mark for kind in KINDS if kind.mark]
    assert len(letters) == len(set(letters))


@pytest.mark.parametrize(
    ("count", "effective", "expected"),
    [
        (1000, FEW_EXAMPLES - 1, True),
        (1000, FEW_EXAMPLES, False),
        (100, 34, False),
        (100, 33, True),
    ],
)
def test_the_numbers_that_few_examples_means(measured, count, effective, expected):
    """Not every subset of a hundred: their norms must be unequal as well."""
    tree = analyze.open_results(measured.output).copy()
    tree.dataset = tree.to_dataset().assign(
        probe_count=tree.to_dataset()["probe_count"] * 0 + count
    )
    network = tree["network"].to_dataset().drop_vars(FLAGS)
    network["effective_sample_size"][:] = effective
    again = flag_group(tree, network)
    assert flagged(again, "few_examples").isel(checkpoint=0).all() == expected


def test_the_reach_of_the_precision(measured):
    tree = analyze.open_results(measured.output)
    for loss, precision, expected in (
        ("cross_entropy?label_smoothing=0.1", "float32", 1.08e-19),
        ("cross_entropy", "float64", 1.49e-154),
        ("mse", "float32", 5.8e-11),
        ("loss.py:mine", "float64", 2.02e-28),
    ):
        tree.attrs["provenance"] = json.dumps({"loss": loss, "precision": precision})
        assert precision_reach(tree) == pytest.approx(expected, rel=0.01)


def test_folds_are_those_in_which_a_subset_has_probes(measured):
    tree = analyze.open_results(measured.output)
    assert folds_used(tree).to_series().to_dict() == {
        "clean": 2, "corrupted": 2, "held_out": 2, "all": 2,
    }  # fmt: skip


def test_results_of_older_versions_have_no_warnings(measured):
    tree = analyze.open_results(measured.output)
    tree["network"] = xr.DataTree(tree["network"].to_dataset().drop_vars(FLAGS))
    assert describe(tree) == []


def test_places_are_named_by_steps(measured):
    sentences = describe(analyze.open_results(measured.output))
    few = next(s for s in sentences if "few_folds" in s)
    assert "clean, corrupted, held_out, all at every checkpoint" in few
