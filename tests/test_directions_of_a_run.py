"""``--directions``: what a run writes of them, what it refuses, and units that hold them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import analyze
from analyze.keywords import built
from analyze.models.building import build_model
from analyze.probes import write_probes
from analyze.probes.subsets import Column
from analyze.runs.job import advice, resolve
from analyze.runs.options import RunOptions
from analyze.specs.model import ModelSpec
from tests import oracle
from tests.conftest import (
    NAMES,
    SPEC,
    SUBSETS,
    TinyRun,
    assert_input_error,
    call,
    saved,
    small_probes,
    small_weights,
)
from tests.crash import assert_same_arrays

DIRECTIONS = "clean,all,update,weights"
DOUBLE = ("--precision", "float64")


def examples_of(tiny: TinyRun):
    """The group of single examples, as a data set of its own."""
    return analyze.open_results(tiny.output)["examples"].to_dataset(inherit=False)


def expected(seed: int, after: int | None) -> dict[str, np.ndarray]:
    """Alignments ``[layer, N]`` by direction, by plain autograd of the model with some weights."""
    model = build_model(ModelSpec.parse(SPEC))
    model.load_state_dict(small_weights(seed))
    probes = small_probes()
    inputs, targets = (torch.from_numpy(v) for v in (probes.inputs[""], probes.targets))
    gradients = oracle.gradients(model, inputs, targets)
    subset = np.array([SUBSETS[k % 3] for k in range(len(targets))])
    clean, training = subset == "clean", subset != "held_out"
    weights = {n: v.double().flatten().numpy() for n, v in small_weights(seed).items()}
    vectors = {
        "clean": {n: g[clean].sum(0) for n, g in gradients.items()},
        "all": {n: g[training].sum(0) for n, g in gradients.items()},
        "weights": weights,
    }
    if after is not None:
        later = {n: v.double().flatten().numpy() for n, v in small_weights(after).items()}
        vectors["update"] = {n: later[n] - weights[n] for n in weights}
    layers = list(dict.fromkeys(n.rpartition(".")[0] for n in gradients))
    return {
        direction: np.stack([
            sum(gradients[n] @ v[n] for n in gradients if n.rpartition(".")[0] == layer)
            for layer in layers
        ])
        for direction, v in vectors.items()
    }  # fmt: skip


def test_a_run_writes_alignments_norms_and_margins(tiny):
    assert tiny.run("--directions", DIRECTIONS, *DOUBLE).exit_code == 0
    found = examples_of(tiny)
    assert found["direction"].values.tolist() == DIRECTIONS.split(",")
    assert found["alignment"].dims == ("checkpoint", "direction", "layer", "probe")
    assert found["alignment"].dtype == np.float32
    assert found["direction_norm"].dtype == np.float64
    for k, after in enumerate([1, 2, None]):
        for direction, values in expected(k, after).items():
            at = found.isel(checkpoint=k).sel(direction=direction)
            np.testing.assert_allclose(at["alignment"].values, values, rtol=2e-5, atol=1e-6)
    last = found.isel(checkpoint=2).sel(direction="update")
    assert last["alignment"].isnull().all()
    assert last["direction_norm"].isnull().all()
    assert found["gradient_sqnorm"].notnull().all()
    for variable in found.data_vars.values():
        assert variable.attrs["long_name"]
        assert variable.attrs["units"]


def test_a_norm_is_that_of_the_gram_matrix(tiny):
    assert tiny.run("--directions", "clean", *DOUBLE).exit_code == 0
    tree = analyze.open_results(tiny.output)
    table = tree["parameters"].to_dataset(inherit=False)
    inside = table["gradient_gram"].sel(cell=table["cell_subset"] == "clean")
    inside = inside.isel(cell_other=np.flatnonzero(table["cell_subset"] == "clean"))
    squared = inside.sum(["cell", "cell_other"]).groupby("layer").sum().sel(
        layer=tree["layers"]["layer"].values
    )  # fmt: skip
    norms = examples_of(tiny)["direction_norm"].sel(direction="clean")
    np.testing.assert_allclose(norms.values**2, squared.values, rtol=1e-12)


def test_the_margin_is_the_logit_of_the_target_minus_the_largest_other(tiny):
    assert tiny.run("--directions", "weights", *DOUBLE).exit_code == 0
    model = build_model(ModelSpec.parse(SPEC)).double()
    model.load_state_dict(small_weights(0))
    probes = small_probes()
    logits = model(torch.from_numpy(probes.inputs[""]).double()).detach().numpy()
    margins = [
        row[t] - np.delete(row, t).max() for row, t in zip(logits, probes.targets, strict=True)
    ]
    found = examples_of(tiny)["margin"].isel(checkpoint=0)
    np.testing.assert_allclose(found.values, margins, rtol=1e-9)


def test_without_directions_nothing_of_them_is_written(tiny):
    assert tiny.run().exit_code == 0
    assert not {"alignment", "direction_norm", "margin", "direction"} & {
        *examples_of(tiny).variables
    }
    assert "directions" not in json.loads(analyze.open_results(tiny.output).attrs["provenance"])


def with_kinds(tiny: TinyRun) -> np.ndarray:
    """Give the probes of the run a column, with a label that no probe has; their codes."""
    codes = np.arange(24) // 2 % 2
    column = Column(codes, ("cat", "dog", "eel"))
    write_probes(tiny.probes, small_probes(columns={"kind": column}))
    return codes


def test_columns_of_the_cells_are_directions(tiny):
    codes = with_kinds(tiny)
    assert tiny.run("--cells", "kind", "--directions", "kind=dog,all", *DOUBLE).exit_code == 0
    found = examples_of(tiny).isel(checkpoint=0)
    model = build_model(ModelSpec.parse(SPEC))
    model.load_state_dict(small_weights(0))
    probes = small_probes()
    inputs, targets = (torch.from_numpy(v) for v in (probes.inputs[""], probes.targets))
    gradients = oracle.gradients(model, inputs, targets)
    values = sum(g @ g[codes == 1].sum(0) for g in gradients.values())
    network = found["alignment"].sel(direction="kind=dog").sum("layer")
    np.testing.assert_allclose(network.values, values, rtol=2e-5, atol=1e-5)


def test_a_label_without_cells_or_probes_is_refused(tiny):
    with_kinds(tiny)
    result = tiny.run("--directions", "kind=dog")
    assert_input_error(result, "not split by 'kind'", "--cells kind --directions kind=dog")
    result = tiny.run("--cells", "kind", "--directions", "kind=eel")
    assert_input_error(result, "'kind=eel', which has no probes", "--directions all")
    result = tiny.run("--cells", "kind", "--directions", "kind=emu")
    assert_input_error(result, "'kind=emu'", "kind=cat, kind=dog")


REFUSED = {
    "an unknown name": ("noisy", "'noisy'", "clean, corrupted, held_out, all, update, weights"),
    "a name twice": ("clean,clean", "'clean' more than once", "each once"),
    "a column that is not there": ("kind=a", "'kind=a'", "each once"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_wrong_direction_is_refused_before_anything_is_measured(tiny, name, command):
    directions, found, wanted = REFUSED[name]
    result = call(command, str(tiny.path), "--device", "cpu", "--directions", directions)
    assert_input_error(result, "there is no such direction", found, wanted)


def test_a_subset_that_max_probes_leaves_empty_is_refused(tiny):
    result = call("check", str(tiny.path), "--max-probes", "1", "--directions", "clean,corrupted")
    assert_input_error(result, "there is no such direction", "'corrupted'", "clean, all")


def test_an_update_takes_two_checkpoints(tiny):
    result = tiny.run("--directions", "update", "--checkpoints", NAMES[0])
    assert_input_error(result, "there is no update", NAMES[0], "two checkpoints or more")


def test_check_tells_what_directions_take(tiny):
    plain = json.loads(call("check", str(tiny.path), "--device", "cpu", "--json").stdout)["report"]
    options = ("--device", "cpu", "--json", "--directions", "clean,weights")
    report = json.loads(call("check", str(tiny.path), *options).stdout)["report"]
    assert report["directions"] == ["clean", "weights"]
    values = 12 * 5 + 5 + 5 * 3 + 3
    assert report["direction_bytes"] == 4 * 2 * values
    assert report["file_bytes"] == plain["file_bytes"] + 2 * 4 * 3 * 2 * 24
    assert "directions" not in plain


def test_directions_ask_for_examples(tiny):
    result = tiny.run("--directions", "clean", "--examples", "off")
    assert_input_error(result, "examples has a value that it cannot have", "--directions asks")


def test_a_model_in_memory_has_no_update():
    model = build_model(ModelSpec.parse(SPEC))
    with pytest.raises(analyze.InputError, match="no next checkpoint"):
        analyze.measure(model, small_probes(), directions=["update"])
    tree = analyze.measure(model, small_probes(), directions="clean,weights", device="cpu")
    assert tree["examples"]["direction"].values.tolist() == ["clean", "weights"]


def test_no_update_before_a_skipped_checkpoint(tiny):
    (tiny.path / NAMES[1]).write_bytes(b"")
    result = tiny.run("--directions", DIRECTIONS)
    assert result.exit_code == 4
    assert f"no update is known at {NAMES[0]}, {NAMES[2]}" in result.stderr
    found = examples_of(tiny)["alignment"]
    assert found.sel(direction="update").isnull().all()
    assert found.sel(direction="clean").isel(checkpoint=[0, 2]).notnull().all()


ADVISED = {
    "clean,update": "--directions clean,update,all has it",
    "clean": "--directions clean,all has it",
    "clean,corrupted": "",  # which are all that training saw
    "all,clean": "",
    "clean,held_out": "",
    "update": "",
}


@pytest.mark.parametrize("directions", ADVISED)
def test_what_examples_needs_is_said_before_the_run(tiny, directions):
    """Afterwards it would be a second run."""
    options = ("--checkpoints", ":2", "--directions", directions)
    job = resolve(tiny.path, built(RunOptions, {"directions": directions, "folds": 2}))
    said = "; ".join(advice(job))
    assert ADVISED[directions] in said
    assert bool(said) == bool(ADVISED[directions])
    if directions == "clean,update":
        result = tiny.run(*options)
        assert f"Note: {advice(job)[0]}" in result.stderr
        refused = call("examples", str(tiny.output))
        fix = "--against clean, which uses what is known of the labels; or analyze run RUN "
        assert_input_error(refused, fix + "--directions clean,update,all")
        assert call("examples", str(tiny.output), "--against", "clean").exit_code == 0


def test_units_hold_directions(tiny, measurements):
    assert tiny.run("--directions", DIRECTIONS).exit_code == 0
    first = analyze.open_results(tiny.output)
    assert len(measurements) == 3
    assert tiny.run("--directions", DIRECTIONS).exit_code == 0
    assert len(measurements) == 3
    assert_same_arrays(first, analyze.open_results(tiny.output))
    result = tiny.run("--directions", "clean")
    assert_input_error(result, "another configuration", "directions: ['clean', 'all'")
    assert_input_error(tiny.run(), "another configuration", "directions")


def test_another_next_checkpoint_is_another_update(tiny, measurements):
    assert tiny.run("--directions", "update").exit_code == 0
    torch.save(small_weights(7), tiny.path / NAMES[2])
    assert tiny.run("--directions", "update").exit_code == 0
    assert len(measurements) == 3 + 2  # the changed one, and that before it
    values = examples_of(tiny)["alignment"].isel(checkpoint=1, direction=0).values
    np.testing.assert_allclose(values, expected(1, 7)["update"], rtol=1e-3, atol=1e-4)


def test_workers_give_the_same(tiny):
    assert tiny.run("--directions", DIRECTIONS).exit_code == 0
    alone = analyze.open_results(tiny.output)
    torch.set_num_threads(2)
    for unit in tiny.units:
        unit.unlink()
    assert tiny.run("--directions", DIRECTIONS, "--restart").exit_code == 0
    assert_same_arrays(alone, analyze.open_results(tiny.output))


def test_updates_of_a_training_that_goes_on_are_those_of_a_run_afterwards(tiny, training):
    written = saved(tiny, 7, "step_200.pt"), saved(tiny, 8, "step_150.pt")
    training(written[0], lambda: None, written[1], lambda: None, lambda: None)
    assert tiny.run("--follow", "--directions", DIRECTIONS).exit_code == 0
    followed = analyze.open_results(tiny.output)
    last = (
        followed["examples"]["alignment"].sel(direction="update").isnull().all(["layer", "probe"])
    )
    assert last.values.tolist() == [False, False, False, False, True]
    assert tiny.run("--directions", DIRECTIONS, "--restart").exit_code == 0
    assert_same_arrays(followed, analyze.open_results(tiny.output))
