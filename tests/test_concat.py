"""``concat``: trees from a training loop are the tree of a run over the same checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import analyze
from analyze.gradients.established import ESTABLISHED
from analyze.gradients.planner import Planner
from analyze.results.file import write_results
from analyze.statistics.regrouping import provenance

pytestmark = pytest.mark.usefixtures("pages_only")

STEPS = (0, 5, 20)
SETTINGS = {"device": "cpu", "folds": 2, "precision": "float64", "directions": ["all"]}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))


def probes() -> analyze.ProbeSet:
    draw = torch.Generator().manual_seed(1)
    inputs, targets = torch.randn(24, 4, generator=draw), torch.arange(24) % 3
    mask = torch.arange(24) % 4 == 0
    return analyze.ProbeSet(inputs, targets, {"clean": ~mask, "corrupted": mask})


def training(model: nn.Module) -> Iterator[int]:
    """The steps of ``STEPS``, with the model as it is there."""
    examples = probes()
    x, y = torch.tensor(examples.inputs[""]), torch.tensor(examples.targets)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    for step in range(max(STEPS) + 1):
        if step in STEPS:
            yield step
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


@pytest.fixture(scope="module")
def trees() -> list[xr.DataTree]:
    """In another order than that of the steps."""
    model = network()
    found = [analyze.measure(model, probes(), step=step, **SETTINGS) for step in training(model)]
    return [found[2], found[0], found[1]]


@pytest.fixture(scope="module")
def series(trees) -> xr.DataTree:
    return analyze.concat(trees, name="my loop")


def changed(tree: xr.DataTree, **origin) -> xr.DataTree:
    """A copy with other entries of the provenance."""
    other = tree.copy()
    other.attrs = tree.attrs | {"provenance": json.dumps(provenance(tree) | origin)}
    return other


def at(tree: xr.DataTree, **place) -> xr.DataTree:
    """A copy at another step or epoch."""
    groups = {
        path: node.to_dataset(inherit=False).assign_coords(
            {key: ("checkpoint", [value]) for key, value in place.items()}
        )
        for path, node in tree.to_dict().items()
        for node in [tree[path]]
        if "checkpoint" in node.to_dataset().dims
    }
    other = xr.DataTree.from_dict({**tree.to_dict(), **groups})
    other.attrs = tree.attrs
    return other


def test_a_series_is_the_run_over_the_same_checkpoints(series, tmp_path):
    model = network()
    (tmp_path / "run").mkdir()
    for step in training(model):
        torch.save(model.state_dict(), tmp_path / "run" / f"step_{step}.pt")
    run = analyze.run(
        tmp_path / "run", model=network(), probes=probes(), output=tmp_path / "run.h5", **SETTINGS
    )
    assert series.to_dataset()["step"].values.tolist() == [*STEPS]
    assert series.to_dataset()["checkpoint"].values.tolist() == [f"step_{step}" for step in STEPS]
    names = run.to_dataset()["checkpoint"].values
    for group in ("/", "/network", "/layers", "/parameters", "/examples"):
        expected, found = (tree[group].to_dataset() for tree in (run, series))
        found = found.assign_coords(checkpoint=names)
        assert found.sizes == expected.sizes
        assert set(found.data_vars) == set(expected.data_vars)
        xr.testing.assert_allclose(found, expected.drop_attrs(), rtol=1e-9)
    assert provenance(series)["verification"] == provenance(run)["verification"]


def test_it_reports_compares_shows_and_ranks_as_a_run_does(series, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = analyze.report(series)
    assert page.as_posix() == "my_loop_report/index.html"
    assert "my loop" in page.read_text("utf-8")
    assert "3 checkpoints" in repr(series).partition("<xarray")[0]  # the summary of results
    rows = analyze.show(series, subset="clean")
    assert [row["step"] for row in rows] == [*STEPS]
    compared = analyze.compare({"one": series, "other": series})
    assert compared["network"].sizes["checkpoint"] == len(STEPS)
    assert len(analyze.examples(series, by="prototype").rows) == 24


def test_a_comparison_opened_as_results_says_what_it_is(series, tmp_path):
    write_results(analyze.compare({"one": series, "other": series}), tmp_path / "both.h5")
    with pytest.raises(analyze.InputError, match="a comparison of runs, not the results of one"):
        analyze.open_results(tmp_path / "both.h5")


def test_a_series_goes_on(series, trees):
    whole = analyze.concat([trees[0], analyze.concat(trees[1:])], name="my loop")
    for group in ("/", "/network", "/layers", "/parameters", "/examples"):
        assert whole[group].to_dataset().equals(series[group].to_dataset())


def test_further_calls_of_a_training_take_over_the_plan(monkeypatch):
    """No plan is made anew after the first."""
    first, made = Planner.first, []

    def counted(self, *arguments):
        made.append(arguments)
        return first(self, *arguments)

    monkeypatch.setattr(Planner, "first", counted)
    ESTABLISHED.forget()
    model = network()
    for step in training(model):
        analyze.measure(model, probes(), step=step, **SETTINGS)
    assert len(made) == 1


def test_epochs_order_where_no_step_is_known(trees):
    two = [at(trees[0], step=np.nan, epoch=2.0), at(trees[1], step=np.nan, epoch=1.0)]
    found = analyze.concat(two).to_dataset()["epoch"].values
    assert found.tolist() == [1.0, 2.0]


def test_the_checkpoint_of_measure_is_named_after_its_place():
    model, few = nn.Linear(4, 3), probes()
    for place, name in (
        ({"epoch": 3}, "epoch_3"),
        ({"step": torch.tensor(7), "epoch": 1}, "step_7"),
    ):
        tree = analyze.measure(model, few, device="cpu", folds=1, **place)
        assert tree.to_dataset()["checkpoint"].item() == name
        assert tree.to_dataset()["epoch"].item() == place["epoch"]
    with pytest.raises(analyze.InputError, match="step given is no number"):
        analyze.measure(model, few, step="7")


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda t: [], "no trees"), (lambda t: [t[0], 3], "int"),
     (lambda t: [t[0], t[0]], "step 20, more than once"),
     (lambda t: [t[0], at(t[1], step=np.nan)], "1 tree without step: step_0"),
     (lambda t: [t[0], changed(t[1], loss="mse")], "another loss: cross_entropy and mse"),
     (lambda t: [t[0], changed(t[1], inputs_sha256="f" * 64)], "other probes: "),
     (lambda t: [t[0], changed(t[1], precision="float32")], "float64 and float32"),
     (lambda t: [t[0], at(t[0], step=3.0)], "same name")],
    ids=["none", "no tree", "twice", "no step", "loss", "probes", "precision", "name"],
)  # fmt: skip
def test_refuses_what_is_no_series(trees, change, message):
    with pytest.raises(analyze.InputError) as caught:
        analyze.concat(change(trees))
    assert message in str(caught.value)


def test_refuses_other_parameters(trees):
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    other = analyze.measure(model, probes(), step=3, **SETTINGS)
    with pytest.raises(analyze.InputError, match="different models"):
        analyze.concat([trees[0], other])


def test_warnings_and_devices_are_joined(trees):
    one = changed(trees[0], warnings=["a note"], device="cuda:0")
    two = changed(trees[1], warnings=["a note", "another"])
    warnings = provenance(analyze.concat([one, two]))["warnings"]
    assert warnings[:2] == ["another", "a note"] or warnings[:2] == ["a note", "another"]
    assert any("several kinds of devices (cpu, cuda)" in text for text in warnings)
