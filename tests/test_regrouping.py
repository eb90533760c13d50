"""Unions, parts and groups without a new pass: against measuring, and against the definition."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import xarray as xr

import analyze
from analyze import statistics
from analyze.errors import InputError
from analyze.gradients.costs.costs import Costs
from analyze.probes import Cells, write_probes
from analyze.probes.subsets import Column
from analyze.statistics.regrouping import layer_groups
from analyze.statistics.variables import VARIABLES
from analyze.statistics.warnings import FLAGS
from tests.conftest import TinyRun, assert_input_error, make_run, small_probes, small_weights

COUNT = 120
KINDS = np.array(["cat", "dog", "owl"])
OPTIONS = ("--precision", "float64", "--checkpoints", ":1", "--folds", "5")


def columned(**options) -> analyze.ProbeSet:
    """Probes in three subsets, and a column ``kind`` across them."""
    codes = np.arange(COUNT) // 3 % 3
    return small_probes(COUNT, columns={"kind": Column(codes, tuple(KINDS))}, **options)


def model() -> torch.nn.Module:
    network = torch.nn.Sequential(torch.nn.Linear(12, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    for parameter, values in zip(network.parameters(), small_weights(0).values(), strict=True):
        parameter.data = values
    return network


def measured(probes: analyze.ProbeSet, **options) -> xr.DataTree:
    return analyze.measure(model(), probes, precision="float64", folds=5, device="cpu", **options)


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return measured(columned())


@pytest.fixture(scope="module")
def kind_run(tmp_path_factory) -> TinyRun:
    run = make_run(tmp_path_factory.mktemp("kinds"))
    write_probes(run.probes, columned())
    return run


@pytest.fixture(scope="module")
def first_algorithms() -> Iterator[None]:
    """Every run takes the same algorithms whatever its cells are, and so gives the same bits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Costs, "cheapest", lambda costs, form: form.algorithms[0])
        yield


@pytest.fixture(scope="module")
def by_kind(kind_run, first_algorithms) -> xr.DataTree:
    """A run of one checkpoint, summed by kind as well."""
    result = kind_run.run("--cells", "kind", *OPTIONS)
    assert result.exit_code == 0, result.stderr
    return analyze.open_results(kind_run.output)


def close(found: xr.DataArray, expected: xr.DataArray) -> None:
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-10, atol=1e-14)


def test_the_network_is_the_energy_weighted_mean_of_its_layers(tree):
    layers, network = tree["layers"].to_dataset(), tree["network"].to_dataset()
    close(layers["energy_share"].sum("layer"), xr.ones_like(network["m_coherence"]))
    for name in ("m_coherence", "alpha", "alpha_unbiased"):
        close((layers["energy_share"] * layers[name]).sum("layer"), network[name])


def test_a_union_is_that_of_the_formula(tree):
    union = statistics.coherence(tree, subsets={"both": {"subset": ["clean", "held_out"]}})
    network = tree["network"].to_dataset()
    m = tree["probe_count"].astype(float)
    energy = network["mean_squared_gradient_norm"] * m
    a, b = ({"subset": name} for name in ("clean", "held_out"))
    products = network["gradient_dot"].sel(subset="clean", subset_other="held_out", drop=True)
    products = products * m.sel(a, drop=True) * m.sel(b, drop=True)
    top = sum((energy * network["m_coherence"]).sel(one, drop=True) for one in (a, b))
    total = energy.sel(a, drop=True) + energy.sel(b, drop=True)
    close(union["m_coherence"].sel(subset="both"), (top + 2 * products) / total)


def test_a_union_is_what_measuring_it_gives(tree):
    probes = columned()
    names = np.array(probes.subset_names)[probes.subset]
    other = ["held_out" if name == "corrupted" else "both" for name in names]
    direct = measured(analyze.ProbeSet(probes.inputs[""], probes.targets, other, probes.id))
    found = statistics.coherence(
        tree,
        layers="layers",
        subsets={"both": {"subset": ["clean", "held_out"]}, "held_out": {"subset": "corrupted"}},
    )
    names = found["subset"].values
    expected = direct["layers"].to_dataset().sel(subset=names, subset_other=names)
    alone = {"loss_drop_share", "coherence_at_common_size", "coherence_at_common_size_stderr"}
    for name in set(found.data_vars) - alone:  # which depend on the other subsets
        close(found[name], expected[name])


def test_the_results_are_what_the_functions_give(tree):
    for name, layers in (("network", "network"), ("layers", "layers")):
        found = statistics.coherence(tree, layers=layers)
        for variable in found.data_vars:
            xr.testing.assert_identical(found[variable].variable, tree[name][variable].variable)


def test_layers_in_groups(tree):
    everything = statistics.coherence(tree, layers={"whole": ["*"], "first": ["0"]})
    close(everything["m_coherence"].sel(layer="whole"), tree["network"]["m_coherence"])
    close(
        everything["m_coherence"].sel(layer="first"), tree["layers"]["m_coherence"].sel(layer="0")
    )
    close(
        everything["effective_sample_size"].sel(layer="whole"),
        tree["network"]["effective_sample_size"],
    )


def test_cells_by_a_column_split_and_join(by_kind):
    """A part is what measuring that part alone gives, with the same folds and errors."""
    probes = columned()
    names = np.array(probes.subset_names)[probes.subset]
    kind = KINDS[probes.columns["kind"].codes]
    parts = [f"{a} {b}" for a, b in zip(names, kind, strict=True)]
    direct = measured(
        analyze.ProbeSet(probes.inputs[""], probes.targets, parts, probes.id, held_out=())
    )
    wanted = {name: dict(zip(("subset", "kind"), name.split(), strict=True)) for name in parts}
    found = statistics.coherence(by_kind, subsets=wanted)
    expected = direct["network"].to_dataset().sel(subset=found["subset"])
    for name in ("m_coherence", "m_coherence_stderr", "m_coherence_lower", "z_score",
                 "effective_sample_size"):  # fmt: skip
        close(found[name], expected[name])
    whole = statistics.coherence(by_kind, subsets={"all": {"subset": ["clean", "corrupted"]}})
    close(whole["m_coherence"], by_kind["network"]["m_coherence"].sel(subset=["all"]))
    close(whole["m_coherence_stderr"], by_kind["network"]["m_coherence_stderr"].sel(subset=["all"]))


def test_cells_by_a_column_change_no_number(by_kind, kind_run, tmp_path):
    output = tmp_path / "plain.h5"
    assert kind_run.run(*OPTIONS, "--output", str(output)).exit_code == 0
    plain = analyze.open_results(output)
    for group in ("network", "layers"):
        for name in plain[group].data_vars:
            np.testing.assert_allclose(
                by_kind[group][name], plain[group][name], rtol=1e-8, atol=1e-12, err_msg=name
            )


def test_cells_are_named_by_their_labels(by_kind):
    parameters = by_kind["parameters"].to_dataset()
    assert parameters.sizes["cell"] == 3 * 3 * 5
    assert parameters["cell"].values[:6].tolist() == [
        *(f"clean/cat/{k}" for k in range(5)), "clean/dog/0",
    ]  # fmt: skip
    assert parameters["cell_kind"].values[5] == "dog"
    assert set(by_kind["examples"].to_dataset(inherit=False)["kind"].values) == set(KINDS)


def test_columns_in_python(by_kind, kind_run, tmp_path):
    options = {"folds": 5, "precision": "float64", "checkpoints": ":1", "device": "cpu"}
    for cells in ("kind", ["kind"]):
        tree = analyze.run(kind_run.path, output=tmp_path / "out.h5", cells=cells, **options)
        assert tree["parameters"].identical(by_kind["parameters"])
        assert json.loads(tree.attrs["provenance"])["cells"] == ["kind"]


def test_only_combinations_that_occur_have_cells():
    probes = columned()
    kind = Column(probes.subset % 3, tuple(KINDS))  # each subset of one kind
    given = analyze.ProbeSet(
        probes.inputs[""], probes.targets, np.array(probes.subset_names)[probes.subset],
        columns={"kind": kind},
    )  # fmt: skip
    cells = Cells.of(given, 2, ["kind"])
    assert len(cells) == 3 * 2
    assert cells.counts.sum() == COUNT


def test_a_single_pattern_needs_no_list(tree):
    alone = statistics.coherence(tree, layers={"both": "[02]"})
    assert alone.identical(statistics.coherence(tree, layers={"both": ["[02]"]}))


@pytest.mark.parametrize("wrong", [{"layers": ["fc"]}, {"subsets": {"a": "clean"}}])
def test_groups_of_another_form_are_refused(tree, wrong):
    with pytest.raises(InputError, match="these are no"):
        statistics.coherence(tree, **wrong)


def test_a_finer_question_is_refused_with_advice(tree):
    with pytest.raises(InputError, match="too coarse") as error:
        statistics.coherence(tree, subsets={"cats": {"kind": "cat"}})
    assert "cells by subset and fold" in error.value.found
    assert error.value.fix.endswith("--cells kind")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"subsets": {"x": {"subset": "clear"}}}, "subset = clear"),
        ({"layers": {"x": ["block9.*"]}}, "'block9.*'"),
        ({"layers": "blocks"}, "'blocks'"),
    ],
)
def test_names_that_do_not_exist_are_refused(tree, options, found):
    with pytest.raises(InputError) as error:
        statistics.coherence(tree, **options)
    assert found in error.value.found


@pytest.mark.parametrize(
    ("layers", "fix"),
    [
        ("layer", 'layers="layers"'),
        ("net", 'layers="network"'),
        ({"x": ["block1.conv3"]}, 'layers={"group": ["block1.conv2"]}'),
        ({"x": ["block9.*"]}, 'layers={"group": ["block2.*"]}'),
        ({"x": ["nothing like it"]}, 'layers={"group": ["conv1"]}'),
    ],
)
def test_the_layer_most_like_an_unknown_one_is_proposed(layers, fix):
    names = ["conv1", "block1.conv2", "block2.conv2", "fc"]
    with pytest.raises(InputError) as error:
        layer_groups(names, layers)
    assert error.value.fix == fix


def test_every_variable_has_its_own_words_and_unit(tree):
    for group in ("network", "layers"):
        for name, values in tree[group].data_vars.items():
            if name != FLAGS:
                attributes = {k: v for k, v in values.attrs.items() if k != "size"}
                assert attributes == VARIABLES[name].attributes, name


@pytest.mark.parametrize("cells", ["colour", "kind,kind", "fold"])
def test_columns_that_mean_nothing_are_refused(tiny, cells):
    write_probes(tiny.probes, columned())
    assert_input_error(tiny.run("--cells", cells), cells, "kind", "--cells COLUMN")
    assert not tiny.output.exists()


# --- estimates and differences


def replicated(tree: xr.DataTree, subset: str) -> np.ndarray:
    """Unbiased alpha of a subset without each fold, from the sums in the file."""
    table = tree["parameters"].to_dataset().sum("parameter").isel(checkpoint=0)
    found = []
    for k in range(5):
        rest = (table["cell_subset"] == subset) & (table["cell_fold"] != k)
        total = float(table["gradient_gram"].values[np.ix_(rest, rest)].sum())
        squares = float(table["gradient_sqnorm"].values[rest].sum())
        m = int(table["probe_count"].values[rest].sum())
        found.append((total / squares - 1) / (m - 1))
    return np.array(found)


def jackknifed(theta: np.ndarray) -> float:
    return float(np.sqrt(4 / 5 * ((theta - theta.mean()) ** 2).sum()))


def test_an_estimate_is_what_the_results_have(tree):
    network = tree["network"].to_dataset()
    found = statistics.estimate(tree, "m_coherence")
    for name, stored in (("value", ""), ("stderr", "_stderr"), ("lower", "_lower"),
                         ("upper", "_upper")):  # fmt: skip
        close(found[name], network[f"m_coherence{stored}"])
    cosine = statistics.estimate(tree, "gradient_cosine")
    close(cosine["value"], network["gradient_cosine"])
    close(cosine["stderr"], network["gradient_cosine_stderr"])
    size = int(network["coherence_at_common_size"].attrs["size"])
    assert size == 40
    same = statistics.estimate(tree, "coherence_at_size", size=size)
    close(same["value"], network["coherence_at_common_size"])
    close(same["stderr"], network["coherence_at_common_size_stderr"])


def test_alpha_of_batches(tree):
    alpha = statistics.estimate(tree)
    batches = statistics.estimate(tree, "batch_alpha", size=16)
    close(batches["value"], 16 * alpha["value"] / (1 + 15 * alpha["value"]))
    theta = replicated(tree, "clean")
    expected = jackknifed(16 * theta / (1 + 15 * theta))
    assert batches["stderr"].sel(subset="clean").item() == pytest.approx(expected, rel=1e-10)


def test_disjoint_subsets_add_their_variances(tree):
    found = statistics.estimate(tree)
    pair = [found.sel(subset=name) for name in ("clean", "corrupted")]
    difference = statistics.difference(*pair)
    errors = [jackknifed(replicated(tree, name)) for name in ("clean", "corrupted")]
    assert difference["stderr"].item() == pytest.approx(np.hypot(*errors), rel=1e-10)
    assert difference["value"].item() == pytest.approx(
        pair[1]["value"].item() - pair[0]["value"].item(), rel=1e-12
    )
    assert (difference["degrees_of_freedom"] > found["degrees_of_freedom"].min()).all()


def test_overlapping_subsets_are_paired(tree):
    found = statistics.estimate(
        tree, subsets={"part": {"subset": "clean"}, "whole": {"subset": ["clean", "corrupted"]}}
    )
    difference = statistics.difference(found.sel(subset="part"), found.sel(subset="whole"))
    theta = found["replicate"].isel(checkpoint=0)
    expected = jackknifed((theta.sel(subset="whole") - theta.sel(subset="part")).values)
    assert difference["stderr"].item() == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(theta.sel(subset="part"), replicated(tree, "clean"), rtol=1e-10)


def test_checkpoints_are_paired(measured_run):
    found = statistics.estimate(measured_run, layers="layers")
    names = measured_run["checkpoint"].values
    first, last = (found.sel(checkpoint=names[k]) for k in (0, -1))
    difference = statistics.difference(first, last)
    theta = (last["replicate"] - first["replicate"]).values
    expected = np.sqrt(1 / 2 * ((theta - theta.mean(0)) ** 2).sum(0))
    np.testing.assert_allclose(difference["stderr"], expected, rtol=1e-10)
    assert difference["value"].dims == ("layer", "subset")
    nothing = statistics.difference(first, first)
    assert not nothing["value"].any()
    assert not nothing["stderr"].any()


@pytest.fixture
def measured_run(measured) -> xr.DataTree:
    return analyze.open_results(measured.output)


def test_what_cannot_be_compared_is_refused(tree, measured_run):
    alpha = statistics.estimate(tree)
    with pytest.raises(InputError, match="different quantities"):
        statistics.difference(alpha, statistics.estimate(tree, "m_coherence"))
    with pytest.raises(InputError, match="different folds"):
        statistics.difference(alpha, statistics.estimate(measured_run))
    with pytest.raises(InputError, match="no such quantity"):
        statistics.estimate(tree, "beta")
    for options in ({"quantity": "coherence_at_size"}, {"quantity": "batch_alpha"}, {"size": 5}):
        with pytest.raises(InputError, match="a size goes with"):
            statistics.estimate(tree, **options)
