"""Runs at equal training loss, runs as seeds, and which figures a comparison has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy import stats

import analyze
from analyze.comparison.groups import check_groups, group_map
from analyze.comparison.loss_levels import first_crossings
from analyze.comparison.rows import loss_rows
from analyze.figures import groups_over_training, runs_by_layer, runs_over_training
from analyze.figures.table import comparison_figures
from analyze.results.file import write_results
from analyze.results.presence import NOT_REACHED
from analyze.statistics import estimate
from analyze.statistics.seeds import geometric_mean, log_ratio_over_seeds
from analyze.statistics.sizes import at_one_size
from tests.conftest import assert_input_error, call
from tests.synthetic import synthetic


def seeds(count: int, **sizes) -> dict[str, xr.DataTree]:
    sizes = {"layers": 3, "checkpoints": 8, "subsets": 2, "probes": 60, "folds": 5} | sizes
    return {f"seed {k}": synthetic(seed=k, strength=2.0 + k, **sizes) for k in range(count)}


# --- at equal loss


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
        alpha = found.of(run["network"].to_dataset()[["alpha_unbiased"]].reset_coords(drop=True))
        value = events["coherence_at_loss"].sel(run=name).values
        np.testing.assert_allclose(value, 1 + 59 * alpha["alpha_unbiased"].values, rtol=1e-9)
    title, columns, rows = loss_rows(tree)
    assert "of 60 examples" in title
    assert columns[2:] == [f"loss {level:.3g}" for level in levels]
    assert len(rows) == 6


# --- groups of seeds


@pytest.fixture(scope="module")
def configurations() -> xr.DataTree:
    """Three seeds of one configuration, two of another, and a run of none."""
    groups = {"first": ["seed 0", "seed 1", "seed 2"], "second": ["seed 3", "seed 4"]}
    return analyze.compare(seeds(6), groups=groups)


def test_a_group_is_the_geometric_mean_over_its_runs_with_the_spread_of_seeds(configurations):
    tree = configurations
    group = tree["groups/network"].to_dataset().sel(group="first", subset="all")
    values = at_one_size(tree)["m_coherence"].sel(subset="all").values[:3]
    mean, lower, upper, _ = geometric_mean(values, 60)
    np.testing.assert_array_equal(group["m_coherence"], mean)
    np.testing.assert_array_equal(group["m_coherence_lower"], lower)
    np.testing.assert_array_equal(group["m_coherence_upper"], upper)
    assert (group["runs"] == 3).all()
    assert tree["groups/layers"]["m_coherence"].dims[0] == "group"
    at = int(mean.argmax())
    events = tree["events"].to_dataset().sel(group="first", subset="all")
    assert float(events["group_peak"]) == mean[at]
    assert float(events["group_peak_lower"]) == lower[at]
    assert float(events["group_peak_step"]) == float(tree["network"]["step"][at])


def test_configurations_and_not_their_seeds_stand_against_each_other(configurations):
    pairs = configurations["pairs/network"].to_dataset()
    assert list(pairs["pair"].values) == ["second / first", "seed 5 / first", "seed 5 / second"]
    assert pairs["over_seeds"].values.all()
    assert not pairs["paired"].values.any()
    value = at_one_size(configurations, "layers")["m_coherence"]
    a, b = (value.sel(run=[f"seed {k}" for k in ks]) for ks in ((0, 1, 2), (3, 4)))
    expected = log_ratio_over_seeds(a, b)
    found = configurations["pairs/layers"].to_dataset().sel(pair="second / first")
    for name in ("log_ratio", "log_ratio_upper", "p_value", "p_value_adjusted"):
        np.testing.assert_array_equal(found[name], expected[name].transpose(*found[name].dims))


def test_what_differs_is_corrected_over_all_pairs(configurations):
    pairs = configurations["pairs/network"].to_dataset()
    for subset in pairs["subset"].values:
        one = pairs.sel(subset=subset)
        expected = stats.false_discovery_control(one["p_value"].values, axis=None)
        np.testing.assert_allclose(one["p_value_adjusted"].values.ravel(), expected.ravel())


def test_single_runs_are_compared_over_folds_also_beside_configurations():
    runs = seeds(4, layers=1, checkpoints=3)
    both = analyze.compare(runs, groups={"both": ["seed 0", "seed 1"]})["pairs/network"]
    alone = analyze.compare({k: runs[k] for k in ("seed 2", "seed 3")})["pairs/network"]
    at = {"pair": "seed 3 / seed 2"}
    assert list(both["pair"].values) == ["seed 2 / both", "seed 3 / both", "seed 3 / seed 2"]
    np.testing.assert_array_equal(both["p_value"].sel(at), alone["p_value"].sel(at))
    assert bool(both["paired"].sel(at))


def test_one_configuration_has_nothing_to_differ_from():
    tree = analyze.compare(seeds(2, layers=1, checkpoints=3), groups={"b": ["seed 0", "seed 1"]})
    assert tree["pairs/layers"].sizes["pair"] == 0
    assert "ratio_1" not in comparison_figures(tree)
    with pytest.raises(analyze.InputError, match="no such pair"):
        comparison_figures(tree, ["b / a"])


def test_every_variable_of_a_comparison_says_what_it_is():
    tree = analyze.compare(seeds(2), groups={"both": ["seed 0", "seed 1"]})
    for node in tree.subtree:
        for name, variable in node.data_vars.items():
            assert variable.attrs["long_name"], (node.path, name)
            assert variable.attrs["units"], (node.path, name)


def test_groups_by_name_or_file_and_what_is_none():
    names = ["a", "b", "c"]
    assert group_map(["x=a,b.h5"], names) == {"x": ["a", "b"]}
    for text, words in (("x", "which runs"), ("x=a", "which runs"), ("x=a,gone", "do not fit")):
        with pytest.raises(analyze.InputError, match=words):
            group_map([text], names)
    with pytest.raises(analyze.InputError, match="do not fit"):
        group_map(["x=a,b", "y=b,c"], names)
    with pytest.raises(analyze.InputError, match="the name of a run that is in no group"):
        group_map(["c=a,b"], names)
    with pytest.raises(analyze.InputError, match="of several runs"):
        check_groups({"x": ["a"]}, names)


def test_groups_are_drawn_with_their_runs():
    groups = {"some": ["seed 0", "seed 1"]}
    tree = analyze.compare(seeds(3), groups=groups)
    ax = groups_over_training.draw(tree, Figure().add_subplot(), "clean")
    assert ax.get_legend_handles_labels()[1] == ["some (2 runs)", "seed 2"]
    assert len([line for line in ax.lines if line.get_label() == "_run"]) == 2
    mean = ax.get_legend_handles_labels()[0][0].get_ydata()
    expected = tree["groups/network"]["m_coherence"].sel(group="some", subset="clean").values
    np.testing.assert_array_equal(mean, expected)
    assert len(ax.collections) == 1
    assert "groups" in comparison_figures(tree)


# --- figures and the command


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
    figure = runs_over_training.figure(tree)
    assert not any(ax.collections for ax in figure.axes)
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    assert len({ax.get_xlim() for ax in figure.axes}) == 1
    panels = runs_by_layer.figure(tree, "clean")
    assert len(panels.axes) == 2
    assert len({ax.get_ylim() for ax in panels.axes}) == 1
    shown = at_one_size(tree, "layers")["m_coherence"]
    expected = shown.isel(run=3, layer=1).sel(subset="clean").values
    drawn, _ = panels.axes[1].get_legend_handles_labels()
    np.testing.assert_array_equal(drawn[3].get_ydata(), expected)


@pytest.mark.usefixtures("pages_only")
def test_the_command_groups_aligns_and_draws_what_is_asked_for(tmp_path):
    files = []
    for name, run in seeds(3, layers=1, checkpoints=4, folds=3).items():
        files.append(str(tmp_path / f"{name.replace(' ', '_')}.h5"))
        write_results(run, Path(files[-1]))
    where = ("--output", str(tmp_path / "c"))
    drawn = ("--ratio", "seed_2 / both", "--group", f"both={files[0]},{files[1]}")
    result = call("compare", *files, *where, *drawn, "--align", "loss")
    assert result.exit_code == 0, result.output
    assert "where the training loss first falls to a level" in result.stdout
    assert "both (2 seeds)" in result.stdout
    assert "Two seeds only: both" in result.stdout
    for name in ("groups", "ratio_1", "layers_1"):
        assert (tmp_path / "c" / "figures" / f"{name}.svg").is_file()
    written = xr.open_datatree(tmp_path / "c" / "comparison.h5", engine="h5netcdf")
    assert written["groups/network"]["m_coherence"].dims[0] == "group"
    assert "training_loss" in written["network"].coords
    written.close()
    assert_input_error(call("compare", *files, *where, "--ratio", "a / b"), "a / b")
    assert_input_error(call("compare", *files, *where, "--group", "x=seed_0"), "--group")
