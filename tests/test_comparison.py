"""Several runs side by side: matching, ratios with errors, refusals, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy import stats

import analyze
from analyze.comparison.figures import draw_groups, draw_ratio, draw_runs
from analyze.comparison.groups import group_map
from analyze.comparison.layout import comparison_figures, layers_figure, training_figure
from analyze.comparison.loss_levels import NOT_REACHED, first_crossings
from analyze.comparison.pairs import RATE, log_ratio
from analyze.comparison.probe_identity import same_probes
from analyze.comparison.rows import loss_rows
from analyze.comparison.runs import Run
from analyze.probes.identity import inputs_hash
from analyze.statistics import estimate
from analyze.statistics.arrays import alpha_unbiased
from analyze.store import write_results
from tests.conftest import SUBSETS, assert_input_error, call, make_run, small_probes
from tests.simulation import COUNT, correlated_folds, normal_folds
from tests.synthetic import synthetic


@pytest.fixture(scope="module")
def two(measured, tmp_path_factory):
    """The measured run, and the same checkpoints with other labels and all of them readable."""
    run = make_run(tmp_path_factory.mktemp("other"))
    given = small_probes()
    other = analyze.ProbeSet(
        given.inputs[""], (given.targets + 1) % 3, [SUBSETS[k % 3] for k in range(24)]
    )
    analyze.run(run.path, probes=other, output=run.output, folds=2, device="cpu")
    return {"first": measured.output, "second": run.output}


def with_changes(path, **provenance) -> xr.DataTree:
    tree = analyze.open_results(path)
    tree.attrs["provenance"] = json.dumps(json.loads(tree.attrs["provenance"]) | provenance)
    return tree


# --- values


def test_runs_stand_beside_each_other_unchanged(two):
    tree = analyze.compare(two)
    assert tree["network"]["m_coherence"].dims == ("run", "checkpoint", "subset")
    assert tree["layers"]["m_coherence"].dims == ("run", "checkpoint", "layer", "subset")
    for name, path in two.items():
        own = analyze.open_results(path)
        order = np.argsort(own["step"].values)
        for group in ("network", "layers"):
            expected = own[group]["m_coherence"].isel(checkpoint=order).values
            found = tree[group]["m_coherence"].sel(run=name).values
            np.testing.assert_array_equal(found, expected)
    assert list(tree["step"].values) == [9, 10, 100]


def test_a_skipped_checkpoint_has_no_ratio_and_says_why(two):
    tree = analyze.compare(two)
    pairs = tree["pairs/network"].to_dataset()
    assert pairs["log_ratio"].sel(checkpoint="step 10").isnull().all()
    assert pairs["log_ratio"].sel(checkpoint="step 9").notnull().any()
    status = tree["status"].sel(checkpoint="step 10")
    assert status.sel(run="second") == "ok"
    assert status.sel(run="first") != "ok"


def test_the_ratio_is_that_of_the_values(two):
    tree = analyze.compare(two)
    value = tree["network"].to_dataset()["m_coherence"]
    expected = np.log(value.sel(run="second") / value.sel(run="first"))
    found = tree["pairs/network"].to_dataset()["log_ratio"].isel(pair=0)
    known = found.notnull().values
    assert known.any()
    np.testing.assert_allclose(found.values[known], expected.values[known], rtol=1e-9)


def test_a_run_beside_itself_differs_nowhere(measured):
    pairs = analyze.compare({"a": measured.output, "b": measured.output})["pairs/layers"]
    known = pairs["log_ratio"].values
    assert (known[np.isfinite(known)] == 0).all()
    assert not (pairs["p_value_adjusted"].values <= RATE).any()


@pytest.mark.parametrize("by", ["block", "parameter"])
def test_rows_of_another_size(two, by):
    tree = analyze.compare(two, by=by)
    value = tree["layers"].to_dataset()["m_coherence"]
    found = tree["pairs/layers"].to_dataset()["log_ratio"].isel(pair=0)
    expected = np.log(value.sel(run="second") / value.sel(run="first"))
    known = found.notnull() & expected.notnull()
    assert known.any()
    np.testing.assert_allclose(
        found.where(known).values, expected.where(known).transpose(*found.dims).values, rtol=1e-9
    )


def test_layers_of_other_names(two):
    first = analyze.open_results(two["first"])
    names = [str(name) for name in first["layers"]["layer"].values]
    tree = analyze.compare(two, rename=[f"{names[0]}=stem"])
    assert "stem" in tree["layers"]["layer"].values
    assert names[0] not in tree["layers"]["layer"].values
    with pytest.raises(analyze.InputError, match="no run has a layer"):
        analyze.compare(two, rename=["gone=stem"])
    with pytest.raises(analyze.InputError, match="same name"):
        analyze.compare(two, rename=[f"{names[0]}={names[1]}"])
    with pytest.raises(analyze.InputError, match="what to rename"):
        analyze.compare(two, rename=["stem"])


# --- statistics


def estimates(gram: np.ndarray, squares: np.ndarray) -> xr.Dataset:
    """Unbiased alpha of every draw with its replicates: a draw is a checkpoint."""
    folds = gram.shape[-1]
    keep = 1.0 - np.eye(folds)

    def alpha(weights, count):
        total = np.einsum("...f,dfg,...g->...d", weights, gram, weights)
        return alpha_unbiased(total, squares @ weights.T if weights.ndim > 1 else squares @ weights,
                              count)  # fmt: skip

    value = alpha(np.ones(folds), float(COUNT))
    theta = np.stack([alpha(row, COUNT * (1 - 1 / folds)) for row in keep])
    over = ("checkpoint", "subset")
    return xr.Dataset(
        {
            "value": (over, value[:, None]),
            "replicate": (("fold", *over), theta[:, :, None]),
            "used": (("fold", "subset"), np.ones((folds, 1), dtype=bool)),
            "degrees_of_freedom": (over, np.full((len(value), 1), folds - 1.0)),
        },
        {"checkpoint": np.arange(len(value)), "subset": ["all"], "fold": np.arange(folds)},
    )


def ratios(first, second, *, paired):
    count = xr.DataArray([COUNT], dims="subset", coords={"subset": ["all"]})
    return log_ratio(estimates(*first), estimates(*second), count, paired=paired)


def test_paired_intervals_cover_and_equal_runs_differ_at_the_nominal_rate():
    gram, squares = correlated_folds(np.random.default_rng(0), 2000, 10, 50, (0.05, 0.05), 0.8)
    both = [(gram[k], squares[k]) for k in range(2)]
    found = ratios(*both, paired=True)
    rate = float((found["p_value"] < 0.05).mean())
    assert 0.03 < rate < 0.08
    apart = ratios(*both, paired=False)
    assert float(found["log_ratio_stderr"].mean()) < float(apart["log_ratio_stderr"].mean())
    assert float((found["p_value_adjusted"] <= RATE).mean()) < 0.005


def test_intervals_cover_a_ratio_that_is_there():
    alphas = (0.05, 0.1)
    gram, squares = correlated_folds(np.random.default_rng(1), 2000, 10, 50, alphas, 0.8)
    found = ratios((gram[0], squares[0]), (gram[1], squares[1]), paired=True)
    truth = np.log((1 + (COUNT - 1) * alphas[1]) / (1 + (COUNT - 1) * alphas[0]))
    inside = (found["log_ratio_lower"] <= truth) & (truth <= found["log_ratio_upper"])
    assert 0.92 < float(inside.mean()) < 0.97


def test_unpaired_intervals_of_independent_runs():
    draw, spectrum = np.random.default_rng(2), np.ones(50)
    both = [normal_folds(draw, 2000, 10, spectrum, 0.05) for _ in range(2)]
    rate = float((ratios(*both, paired=False)["p_value"] < 0.05).mean())
    assert 0.03 < rate < 0.08


# --- probes


def test_the_hash_of_inputs_knows_inputs_and_not_labels_or_order():
    given = small_probes()
    order = np.arange(24)[::-1]
    other = analyze.ProbeSet(given.inputs[""][order], given.targets[order] * 0, id=given.id[order])
    assert inputs_hash(other) == inputs_hash(given)
    changed = given.inputs[""].copy()
    changed[3, 2] += 1
    assert inputs_hash(analyze.ProbeSet(changed, given.targets)) != inputs_hash(given)


def test_other_inputs_are_refused_unless_asked_for_and_then_marked(two):
    runs = {"a": two["first"], "b": with_changes(two["second"], inputs_sha256="other")}
    with pytest.raises(analyze.InputError, match="different probes"):
        analyze.compare(runs)
    tree = analyze.compare(runs, different_probes=True)
    assert list(tree["probes"].values)[1] == "different"
    assert not tree["pairs/network"]["paired"].values.any()


def test_older_results_are_judged_by_ids(two):
    old = [Run(k, with_changes(path, inputs_sha256=None)) for k, path in two.items()]
    assert same_probes(*old) == (True, "ids of the probes")


# --- files, figures and the command


def test_figures_show_every_run_and_grey_what_is_not_significant(two):
    tree = analyze.compare(two)
    ax = draw_runs(tree, Figure().add_subplot(), "clean")
    assert ax.get_legend_handles_labels()[1] == ["first", "second"]
    assert ax.get_ylabel() == "m-coherence (examples)"
    ax = draw_ratio(tree, Figure().add_subplot(), "second / first", "clean")
    grey, coloured = (mesh.get_array() for mesh in ax.collections[:2])
    pairs = tree["pairs/layers"].to_dataset().sel(pair="second / first", subset="clean")
    value = pairs["log_ratio"].transpose("layer", "checkpoint").values
    known = np.isfinite(value)
    significant = (pairs["p_value_adjusted"].transpose("layer", "checkpoint") <= RATE).values
    np.testing.assert_array_equal(~np.ma.getmaskarray(coloured), significant)
    np.testing.assert_array_equal(~np.ma.getmaskarray(grey), known & ~significant)


def test_the_command_writes_a_file_and_figures(two, tmp_path):
    second = tmp_path / "second.h5"
    second.write_bytes(two["second"].read_bytes())
    result = call("compare", str(two["first"]), str(second), "--output", str(tmp_path / "c"))
    assert result.exit_code == 0, result.output
    assert "second / out" in result.stdout
    written = xr.open_datatree(tmp_path / "c" / "comparison.h5", engine="h5netcdf")
    assert list(written["run"].values) == ["out", "second"]
    assert written.attrs["schema_version"] == 1
    written.close()
    for kind in ("svg", "pdf", "png"):
        assert (tmp_path / "c" / "figures" / f"training.{kind}").stat().st_size > 1000
        assert (tmp_path / "c" / "figures" / f"ratio_1.{kind}").stat().st_size > 1000


def test_what_is_no_comparison_is_refused(two, tmp_path):
    path = str(two["first"])
    assert_input_error(call("compare", path), "1 results", "from 2 to 20")
    assert_input_error(call("compare", path, path), "out")
    assert_input_error(call("compare", path, str(tmp_path / "gone.h5")), "gone.h5")


def test_runs_without_a_shared_checkpoint_are_refused(two):
    other = analyze.open_results(two["second"])
    root = other.to_dataset()
    other.dataset = root.assign_coords(step=root["step"] + 0.5)
    with pytest.raises(analyze.InputError, match="no two runs have a checkpoint at the same step"):
        analyze.compare({"a": two["first"], "b": other})


# --- at equal loss, and groups of seeds


def seeds(count: int, **sizes) -> dict[str, xr.DataTree]:
    sizes = {"layers": 3, "checkpoints": 8, "subsets": 2, "probes": 60, "folds": 5} | sizes
    return {f"seed {k}": synthetic(seed=k, strength=2.0 + k, **sizes) for k in range(count)}


def test_a_run_is_where_its_loss_first_falls_to_a_level():
    loss = np.array([2.0, 1.0, 3.0, np.nan, 0.5, 0.1])
    found = first_crossings(loss, np.array([2.5, 2.0, 1.5, 1.0, 0.75, 0.05]))
    assert np.isnan(found.weight[[0, 5]]).all()  # it starts below the one, never reaches the other
    assert (found.before[1], found.weight[1]) == (0, 0.0)
    assert (found.before[2], found.after[2]) == (0, 1)
    assert found.weight[2] == pytest.approx(np.log(2.0 / 1.5) / np.log(2.0))
    assert (found.after[3], found.weight[3]) == (1, 1.0)
    assert (found.before[4], found.after[4]) == (2, 4)  # past the rise and what was skipped
    values = xr.Dataset({"v": ("checkpoint", [0.0, 1.0, 5.0, np.nan, 7.0, 8.0])})
    at = found.of(values)["v"].values
    np.testing.assert_allclose(at[1:5], [0.0, found.weight[2], 1.0, 5 + 2 * found.weight[4]])


def test_runs_at_equal_loss_have_the_loss_of_the_level():
    tree = analyze.compare(seeds(2), align="loss")
    levels = tree["network"]["training_loss"].values
    assert (np.diff(levels) < 0).all()
    loss = tree["loss"].sel(subset="all").values
    known = np.isfinite(loss)
    assert known.sum() > 30
    np.testing.assert_allclose(loss[known], np.broadcast_to(levels, loss.shape)[known])
    assert set(tree["status"].values[~known]) <= {NOT_REACHED}


def test_the_error_at_a_level_is_the_jackknife_of_the_interpolated_value():
    runs = seeds(2)
    tree = analyze.compare(runs, align="loss")
    run = runs["seed 0"]
    alpha = estimate(run, "alpha_unbiased").sel(subset="clean")
    levels = tree["network"]["training_loss"].values
    found = first_crossings(run["loss"].sel(subset="all").values, levels)
    k = 10
    before, after = (alpha["replicate"].isel(checkpoint=i[k]) for i in (found.before, found.after))
    mixed = ((1 - found.weight[k]) * before + found.weight[k] * after).values
    expected = 59 * np.sqrt(4 / 5 * np.square(mixed - mixed.mean()).sum())
    network = tree["network"].to_dataset().sel(run="seed 0", subset="clean").isel(checkpoint=k)
    assert float(network["m_coherence_stderr"]) == pytest.approx(expected)
    assert float(network["m_coherence_lower"]) < float(network["m_coherence"])
    assert "null_upper" not in network


def test_a_run_beside_itself_differs_nowhere_at_equal_loss():
    run = seeds(1)["seed 0"]
    pairs = analyze.compare({"a": run, "b": run}, align="loss")["pairs/layers"]["log_ratio"].values
    assert (pairs[np.isfinite(pairs)] == 0).all()
    assert np.isfinite(pairs).any()


def test_losses_that_do_not_meet_are_refused():
    runs = seeds(2)
    runs["seed 1"]["loss"].values[:] = runs["seed 1"]["loss"].values / 1000
    with pytest.raises(analyze.InputError, match="fall through the same training loss"):
        analyze.compare(runs, align="loss")
    runs["seed 1"]["loss"].values[:] = -1.0
    with pytest.raises(analyze.InputError, match="cannot be aligned by its training loss"):
        analyze.compare(runs, align="loss")
    assert "coherence_at_loss" not in analyze.compare(runs)["events"]
    with pytest.raises(analyze.InputError, match="no such alignment"):
        analyze.compare(runs, align="time")


def test_the_events_have_coherence_at_equal_loss():
    runs = seeds(2)
    tree = analyze.compare(runs)
    events = tree["events"].to_dataset()
    lowest = min(float(run["loss"].sel(subset="all")[0]) for run in runs.values())
    np.testing.assert_allclose(events["loss_level"], np.array([0.9, 0.5, 0.1]) * lowest)
    levels = events["loss_level"].values
    for name, run in runs.items():
        found = first_crossings(run["loss"].sel(subset="all").values, levels)
        expected = found.of(run["network"].to_dataset()[["m_coherence"]].reset_coords(drop=True))
        value = events["coherence_at_loss"].sel(run=name).values
        np.testing.assert_allclose(value, expected["m_coherence"].values, rtol=1e-9)
    _, columns, rows = loss_rows(tree)
    assert columns[2:] == ["m", *(f"loss {level:.3g}" for level in levels)]
    assert len(rows) == 6


def test_a_group_is_the_mean_over_its_runs_with_the_spread_of_seeds():
    runs = seeds(3)
    tree = analyze.compare(runs, groups={"some": ["seed 0", "seed 1", "seed 2"]})
    group = tree["groups/network"].to_dataset().sel(group="some", subset="clean")
    values = np.stack([run["network"]["m_coherence"].sel(subset="clean") for run in runs.values()])
    np.testing.assert_allclose(group["m_coherence"], values.mean(0))
    half = stats.t.ppf(0.975, 2) * values.std(0, ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(group["m_coherence_upper"], values.mean(0) + half)
    assert (group["runs"] == 3).all()
    assert tree["groups/layers"]["m_coherence"].dims[0] == "group"


def test_groups_by_name_or_file_and_what_is_none():
    names = ["a", "b", "c"]
    assert group_map(["x=a,b.h5"], names) == {"x": ["a", "b"]}
    for text, words in (("x", "which runs"), ("x=a", "which runs"), ("x=a,gone", "do not fit")):
        with pytest.raises(analyze.InputError, match=words):
            group_map([text], names)
    with pytest.raises(analyze.InputError, match="do not fit"):
        group_map(["x=a,b", "y=b,c"], names)


def test_groups_are_drawn_with_their_runs():
    groups = {"some": ["seed 0", "seed 1"]}
    tree = analyze.compare(seeds(3), groups=groups)
    ax = draw_groups(tree, Figure().add_subplot(), "clean")
    assert ax.get_legend_handles_labels()[1] == ["some (2 runs)", "seed 2"]
    assert len([line for line in ax.lines if line.get_label() == "_run"]) == 2
    mean = ax.get_legend_handles_labels()[0][0].get_ydata()
    expected = tree["groups/network"]["m_coherence"].sel(group="some", subset="clean").values
    np.testing.assert_array_equal(mean, expected)
    assert len(ax.collections) == 1
    assert "groups" in comparison_figures(tree)


def test_ratio_figures_are_bounded_and_others_come_on_request():
    tree = analyze.compare(seeds(9, layers=1, checkpoints=3, folds=3))
    figures = comparison_figures(tree, ["seed 8 / seed 7"])
    ratios = [name for name in figures if name.startswith("ratio_")]
    assert ratios == [*(f"ratio_{k}" for k in range(1, 7)), "ratio_36"]
    overview = figures["ratios"]
    shown = [ax.get_title(loc="left") for ax in overview.axes]
    assert shown[:8] == [f"seed {k}" for k in range(1, 9)]
    with pytest.raises(analyze.InputError, match="no such pair"):
        comparison_figures(tree, ["seed 7 / seed 8"])


def test_many_runs_have_no_bands_and_panels_share_their_axes():
    tree = analyze.compare(seeds(8, layers=2, checkpoints=4, folds=3))
    figure = training_figure(tree)
    assert not any(ax.collections for ax in figure.axes)
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    assert len({ax.get_xlim() for ax in figure.axes}) == 1
    panels = layers_figure(tree, "clean")
    assert len(panels.axes) == 2
    assert len({ax.get_ylim() for ax in panels.axes}) == 1
    expected = tree["layers"]["m_coherence"].isel(run=3, layer=1).sel(subset="clean").values
    np.testing.assert_array_equal(panels.axes[1].lines[3].get_ydata(), expected)


def test_the_command_groups_aligns_and_draws_what_is_asked_for(tmp_path):
    files = []
    for name, run in seeds(3, layers=1, checkpoints=4, folds=3).items():
        files.append(str(tmp_path / f"{name.replace(' ', '_')}.h5"))
        write_results(run, Path(files[-1]))
    where = ("--output", str(tmp_path / "c"))
    drawn = ("--ratio", "seed_2 / seed_1", "--group", f"both={files[0]},{files[1]}")
    result = call("compare", *files, *where, *drawn, "--align", "loss")
    assert result.exit_code == 0, result.output
    assert "M-coherence at equal training loss" in result.stdout
    for name in ("groups", "ratios", "ratio_3", "layers_1"):
        assert (tmp_path / "c" / "figures" / f"{name}.svg").is_file()
    written = xr.open_datatree(tmp_path / "c" / "comparison.h5", engine="h5netcdf")
    assert written["groups/network"]["m_coherence"].dims[0] == "group"
    assert "training_loss" in written["network"].coords
    written.close()
    assert_input_error(call("compare", *files, *where, "--ratio", "a / b"), "a / b")
    assert_input_error(call("compare", *files, *where, "--group", "x=seed_0"), "--group")
