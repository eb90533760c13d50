"""Figures by the objects drawn."""

from __future__ import annotations

import re
from pathlib import Path as File
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.text import Text
from scipy import stats

from analyze import pages
from analyze.errors import InputError
from analyze.figures import (
    accuracy_over_training,
    coherence_over_training,
    layer_heatmap,
    loss_over_training,
    network_over_training,
)
from analyze.figures.bands import fold_count, shown
from analyze.figures.cells import hatch_cells, outline
from analyze.figures.colours import DARK, SURFACE
from analyze.figures.lines import spread
from analyze.figures.looks import subset_looks
from analyze.figures.names import figure_text, shortened
from analyze.figures.style import style
from analyze.figures.table import run_figures
from analyze.figures.training import compact, on_scale, training
from analyze.reports.details import details
from analyze.results.subsets import shown_subsets
from analyze.statistics.jackknife import t_quantile
from tests.colour_vision import contrast
from tests.synthetic import synthetic
from tests.trees import STEPS, make_tree, with_chance


@pytest.fixture
def ax() -> Axes:
    with style():
        return Figure().subplots()


def lines(ax: Axes) -> dict[str, Any]:
    """The lines that stand for a subset, by label."""
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def cells_of(ax: Axes, label: str, shape: tuple[int, int]) -> np.ndarray:
    """The cells of a table whose middle lies in patches with a label, ``[row, column]``."""
    paths = [patch.get_path() for patch in ax.patches if patch.get_label() == label]
    middles = np.argwhere(np.ones(shape))[:, ::-1] + 0.5
    covered = [Path(part).contains_points(middles) for p in paths for part in p.to_polygons()]
    return np.any([np.zeros(len(middles), dtype=bool), *covered], axis=0).reshape(shape)


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize(
    "module", [coherence_over_training, loss_over_training, accuracy_over_training]
)
def test_a_line_for_each_subset_in_its_colour(module, ax):
    tree = make_tree()
    assert module.draw(tree, ax) is ax
    drawn = lines(ax)
    assert list(drawn) == ["clean", "corrupted", "held_out", "all"]
    for name, look in subset_looks(drawn).items():
        assert to_hex(drawn[name].get_color()) == look.colour
        assert drawn[name].get_marker() == look.marker.name
        assert drawn[name].is_dashed() == bool(look.dash)
    assert set(drawn) <= set(texts(ax))


def test_coherence_values_and_units(ax):
    tree = make_tree()
    coherence_over_training.draw(tree, ax)
    expected = tree["network"]["m_coherence"].sel(subset="clean").values
    np.testing.assert_array_equal(lines(ax)["clean"].get_ydata(), expected)
    np.testing.assert_array_equal(lines(ax)["clean"].get_xdata(), STEPS)
    assert ax.get_ylabel() == "m-coherence of 500 examples"
    assert ax.get_xlabel() == "optimizer step"
    assert ax.get_yscale() == "log"
    assert ax.get_xscale() == "symlog"


def test_the_band_is_the_t_interval(ax):
    tree = make_tree(subsets=("clean", "corrupted"), held_out=(), folds=5)
    coherence_over_training.draw(tree, ax)
    one = tree["network"].to_dataset().sel(subset="clean")
    root, error = np.sqrt(one["m_coherence"].values), one["m_coherence_stderr"].values
    upper = (root + stats.t.ppf(0.975, 4) * error / (2 * root)) ** 2
    drawn = ax.collections[0].get_paths()[0].vertices
    assert set(np.round(upper, 6)) <= set(np.round(drawn[:, 1], 6))


def test_one_fold_has_no_band(ax):
    tree = make_tree(folds=1)
    coherence_over_training.draw(tree, ax)
    assert np.isnan(shown(tree)["m_coherence_upper"]).all()
    assert all(len(path.vertices) == 0 for c in ax.collections for path in c.get_paths())


def test_the_stored_interval_is_drawn_where_there_is_one(ax):
    tree = make_tree()
    value = tree["network"]["m_coherence"]
    tree["network"]["m_coherence_upper"] = 1.5 * value
    upper = shown(tree)["m_coherence_upper"].sel(subset="clean")
    np.testing.assert_allclose(upper, 1.5 * value.sel(subset="clean"))


def test_chance_is_grey_and_values_inside_it_are_open(ax):
    tree = with_chance(make_tree())
    coherence_over_training.draw(tree, ax)
    (band,) = [c for c in ax.collections if c.get_label() == "_chance"]
    heights = band.get_paths()[0].vertices[:, 1]
    factor = 499 / 999  # all 1,000 examples as of 500
    assert heights.min() == pytest.approx(1 - 0.5 * factor)
    assert heights.max() == pytest.approx(1 + 1.0 * factor)
    drawn = [line for line in ax.lines if line.get_label() == "_inside"]
    own = tree["network"].to_dataset()
    network, chance = shown(tree)["m_coherence"], own["p_value_adjusted"] > 0.05
    names = [name for name in network["subset"].values if chance.sel(subset=name).any()]
    for line, name in zip(drawn, names, strict=True):
        inside = network.sel(subset=name).values[chance.sel(subset=name).values]
        np.testing.assert_array_equal(line.get_ydata(), inside)
        assert to_hex(line.get_markerfacecolor()) == SURFACE
    assert sum(len(line.get_ydata()) for line in drawn) > 0


def test_no_chance_is_drawn_where_the_results_do_not_say(ax):
    coherence_over_training.draw(make_tree(), ax)
    assert not [c for c in (*ax.collections, *ax.lines) if c.get_label() in ("_chance", "_inside")]


def test_what_cannot_be_told_from_chance_is_hatched_in_the_heat_map(ax):
    tree = with_chance(make_tree(skipped={3: "damaged"}))
    layer_heatmap.draw(tree, ax, "clean")
    table = tree["layers"]["p_value_adjusted"].sel(subset="clean").transpose("layer", "checkpoint")
    hatched = cells_of(ax, "_chance", table.shape)
    np.testing.assert_array_equal(hatched, table.values > 0.05)
    assert hatched.any()


def test_hatches_stand_out_from_dark_and_from_bright_cells(ax):
    mesh = ax.pcolormesh([[0.0, 1.0, 0.0]], cmap="viridis")
    hatch_cells(ax, np.array([[True, True, False]]), mesh)
    dark, bright = (patch for patch in ax.patches if patch.get_label() == "_chance")
    assert cells_of(ax, "_chance", (1, 3)).tolist() == [[True, True, False]]
    for patch, shade in ((dark, mesh.to_rgba(0.0)), (bright, mesh.to_rgba(1.0))):
        line = to_hex(patch.get_edgecolor())
        assert contrast(line, to_hex(shade)) > 4.5
        assert line not in DARK  # a dark page has the same cells, and so the same hatches


@pytest.mark.parametrize("seed", range(3))
def test_the_outline_of_cells_covers_them_and_nothing_else(seed):
    where = np.random.default_rng(seed).random((7, 9)) < 0.6
    inside = [[*part.min(0), *part.max(0)] for part in outline(where).to_polygons()]
    drawn = np.zeros(where.shape, dtype=int)
    for left, top, right, bottom in np.array(inside).astype(int):
        drawn[top:bottom, left:right] += 1
    np.testing.assert_array_equal(drawn, where)
    assert len(inside) < where.sum()


def test_guides_at_1_and_at_m_where_in_view(ax):
    coherence_over_training.draw(make_tree(probes=20), ax)
    heights = {line.get_ydata()[0] for line in ax.lines if line.get_label() == "_guide"}
    assert heights >= {1.0, 20.0}
    assert "1: orthogonal" in texts(ax)
    assert "m = 20: identical" in texts(ax)


def test_guide_at_m_is_left_out_far_from_the_values(ax):
    coherence_over_training.draw(make_tree(probes=10**6), ax)
    assert [line.get_ydata()[0] for line in ax.lines if line.get_label() == "_guide"] == [1.0]


def test_a_skipped_checkpoint_leaves_a_gap_and_a_cross(ax):
    coherence_over_training.draw(make_tree(skipped={3: "damaged"}), ax)
    assert np.flatnonzero(np.isnan(lines(ax)["all"].get_ydata())).tolist() == [3]
    crosses = [line for line in ax.lines if line.get_label() == "_skipped"]
    assert crosses[0].get_xdata().tolist() == [16]
    assert "skipped" in ax.get_xlabel()


def test_a_value_between_gaps_has_a_bar(ax):
    coherence_over_training.draw(make_tree(skipped={3: "damaged", 5: "damaged"}), ax)
    bars = [c for c in ax.collections if type(c).__name__ == "LineCollection"]
    assert [bar.get_segments()[0][0][0] for bar in bars] == [32.0] * 4


def test_nothing_measured_is_drawn_without_values(ax):
    tree = make_tree(steps=(0, 1), skipped={0: "damaged", 1: "damaged"})
    coherence_over_training.draw(tree, ax)
    assert texts(ax) == ["1: orthogonal"]
    loss_over_training.draw(tree, Figure().subplots())
    layer_heatmap.draw(tree, Figure().subplots())


@pytest.mark.parametrize(
    ("steps", "epochs", "label", "expected"),
    [
        ((10, 20), (1, 2), "optimizer step", [10, 20]),
        ((np.nan, np.nan), (1, 2), "epoch", [1, 2]),
        ((np.nan, np.nan), None, "checkpoint, in order", [1, 2]),
    ],
)
def test_the_axis_falls_back_to_epochs_and_to_order(steps, epochs, label, expected, ax):
    tree = make_tree(steps=steps, epochs=epochs)
    loss_over_training.draw(tree, ax)
    assert ax.get_xlabel() == label
    assert ax.get_xscale() == "linear"
    assert training(tree).values.tolist() == expected
    assert lines(ax)["all"].get_xdata().tolist() == expected


def test_a_checkpoint_without_a_step_is_spoken_of(ax):
    loss_over_training.draw(make_tree(steps=(0, 10, np.nan)), ax)
    assert ax.get_xlabel() == "optimizer step; 1 checkpoint without one not shown"


@pytest.mark.parametrize(
    ("x", "steps", "scale", "expected"),
    [("step", (0, 1, 2, 3), "log", "symlog"), ("step", (0, 1, 4, 4000), "linear", "linear"),
     ("step", (0, 1, 4, 4000), "automatic", "symlog"), ("loss", (0, 1, 2, 3), "log", "log"),
     ("loss", (0, 1, 2, 3), "automatic", "linear"), ("step", (7,), "log", "linear")],
)  # fmt: skip
def test_the_axis_of_training_has_the_scale_that_is_asked_for(x, steps, scale, expected, ax):
    tree = make_tree(steps=steps)
    with on_scale(scale):
        loss_over_training.draw(tree, ax, x=x)
        first = details(with_chance(tree), x)["start"]["along"]
    assert ax.get_xscale() == expected
    template = File(pages.__file__).with_name("parts.html").read_text("utf-8")
    choices = re.search(r'"along-scale", "Axis of training", \[(.*?)\]', template)
    assert choices is not None
    assert choices[1].split(", ")[first].strip('"').startswith(scale)


def test_no_other_scale_is_taken():
    with pytest.raises(InputError, match="no such scale"), on_scale("cubic"):
        pass


def test_evenly_spaced_steps_are_on_a_linear_axis(ax):
    loss_over_training.draw(make_tree(steps=range(0, 9000, 100)), ax)
    assert ax.get_xscale() == "linear"


def test_loss_begins_at_0_unless_negative(ax):
    tree = make_tree()
    loss_over_training.draw(tree, ax)
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylabel() == "mean loss (nats)"
    tree["loss"].values[2] = -3
    other = loss_over_training.draw(tree, Figure().subplots())
    assert other.get_ylim()[0] < -3


def test_accuracy_is_a_percentage_from_0_to_100(ax):
    tree = make_tree()
    accuracy_over_training.draw(tree, ax)
    low, high = ax.get_ylim()
    assert -0.1 < low < 0
    assert 1 < high < 1.1
    assert ax.get_ylabel() == "accuracy"
    assert ax.yaxis.get_major_formatter()(0.25, 0) == "25%"
    drawn = lines(ax)["clean"].get_ydata()
    np.testing.assert_array_equal(drawn, tree["accuracy"].sel(subset="clean"))


def test_accuracy_is_left_out_where_there_is_none():
    tree = make_tree()
    assert len(network_over_training.figure(tree).axes) == 3
    tree["accuracy"].values[:] = np.nan
    figure = network_over_training.figure(tree)
    assert [ax.get_ylabel() for ax in figure.axes] == [
        "m-coherence of 500 examples",
        "mean loss (nats)",
    ]
    assert figure.axes[-1].get_xlabel() == "optimizer step"


def test_a_subset_that_is_all_there_is_shares_its_label():
    tree = make_tree(subsets=("train", "held_out"))
    network = tree["network"]["m_coherence"]
    network.loc[{"subset": "all"}] = network.sel(subset="train")
    assert shown_subsets(tree) == {"train": "train = all", "held_out": "held_out"}


@pytest.mark.parametrize(("layers", "checkpoints"), [(10, 3), (200, 300)])
def test_heat_map_of_few_and_of_many(layers, checkpoints):
    names = [f"layer{k}" for k in range(layers)]
    tree = make_tree(layers=names, steps=range(checkpoints))
    with style():
        ax = Figure(figsize=(7, max(3, 0.14 * layers))).subplots()
    layer_heatmap.draw(tree, ax, "clean")
    mesh = ax.collections[0]
    expected = tree["layers"]["m_coherence"].sel(subset="clean").values.T
    np.testing.assert_array_equal(mesh.get_array(), expected)
    assert ax.get_ylim() == (layers, 0)  # the first layer on top
    assert [label.get_text() for label in ax.get_yticklabels()] == names
    assert texts(ax) == ["Conv2d"] * layers
    assert ax.get_xlabel() == "optimizer step"
    assert ax.figure.axes[1].get_ylabel() == "m-coherence of 500 examples"


def test_heat_map_labels_fewer_layers_where_rows_are_low():
    tree = make_tree(layers=[f"layer{k}" for k in range(200)])
    ax = layer_heatmap.draw(tree, Figure(figsize=(7, 3)).subplots())
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[0] == "layer0"
    assert 10 < len(labels) < 60


def test_heat_maps_share_one_logarithmic_scale():
    tree = make_tree()
    tree["layers"]["m_coherence"].values[0, 0, 0] = 1e-5
    tree["layers"]["m_coherence"].values[0, 1, 1] = 4000
    limits = set()
    for subset in ("clean", "corrupted", "all"):
        mesh = layer_heatmap.draw(tree, Figure().subplots(), subset).collections[0]
        assert type(mesh.norm).__name__ == "LogNorm"
        limits.add(mesh.get_clim())
    assert limits == {(0.1, 4000.0)}


def test_missing_cells_are_masked_and_grey(ax):
    tree = make_tree(skipped={1: "damaged"})
    tree["layers"]["m_coherence"].values[4, 2] = np.nan
    tree["layers"]["m_coherence"].values[5, 2] = 0.0  # a value, not a missing one
    layer_heatmap.draw(tree, ax)
    masked = np.ma.getmaskarray(ax.collections[0].get_array())
    assert masked[:, 1].all()
    assert masked.sum() == 3 + 1
    np.testing.assert_array_equal(cells_of(ax, "_missing", masked.shape), masked)
    assert not [patch for patch in ax.patches if patch.get_hatch()]


def test_no_colour_of_the_heat_map_is_taken_for_one_of_the_page():
    shades = matplotlib.colormaps[layer_heatmap.COLOURS](range(256))
    assert not {to_hex(shade) for shade in shades} & set(DARK)


@pytest.mark.parametrize(
    ("degrees", "expected"), [(1, 12.706), (9, 2.262), (30, 2.042), (49, 2.0096), (199, 1.9720)]
)
def test_t_quantiles(degrees, expected):
    assert t_quantile(degrees) == pytest.approx(expected, abs=1e-3)
    assert np.isnan(t_quantile(0))


def test_folds_are_those_with_probes_of_the_subset():
    tree = make_tree(folds=4, subsets=("clean", "held_out"))
    tree["parameters"]["probe_count"].values[0] = 0
    assert fold_count(tree, "clean") == 3
    assert fold_count(tree, "held_out") == 4
    assert fold_count(tree, "all") == 3


def test_names_at_the_ends_of_lines_keep_apart():
    places = spread([0.0, 0.01, 0.02, 0.5, 0.98, 0.99], 0.1)
    assert places == sorted(places)
    assert np.diff(places).min() >= 0.1 - 1e-12
    assert places[0] >= 0
    assert places[-1] <= 1
    assert places[3] == 0.5


def test_names_are_no_formulas():
    assert figure_text("a$x$\x1b[0m") == r"a\$x\$?[0m"
    assert shortened("layers.1.attention", 30) == "layers.1.attention"
    assert shortened("layer1.downsample.conv2", 13) == "layer1\u2026conv2"
    assert shortened("transformer.layers.1.attention", 24) == "transformer\u20261.attention"
    assert shortened("transformer.layers.1.attention", 15) == "t\u20261.attention"
    assert shortened("a very long subset", 13) == "a ve…g subset"
    assert [compact(v) for v in (0, 1280, 12_500, 1.5e6)] == ["0", "1,280", "12.5k", "1.5M"]
    assert [compact(v) for v in (23_983, 1_234_567, 0.5)] == ["23,983", "1,234,567", "0.5"]


def test_words_and_lines_of_all_figures_can_be_read_on_paper_and_on_a_dark_page():
    tree = synthetic(layers=6, checkpoints=6, subsets=3, probes=30, folds=4)
    for name, figure in run_figures(tree).items():
        for text in figure.findobj(Text):
            if text.get_text().strip():
                colour = to_hex(text.get_color())
                assert contrast(colour, SURFACE) >= 4.5, (name, text)
                assert contrast(DARK[colour], DARK[SURFACE]) >= 4.5, (name, text)
        for line in figure.findobj(Line2D):
            if line.get_visible() and line.get_linestyle() != "None" and len(line.get_xdata()) > 2:
                assert to_hex(line.get_color()) in DARK, (name, line)


def test_colours_that_change_on_a_dark_page_are_none_of_cells():
    for name in ("viridis", "PuOr", "PuOr_r"):
        cells = {to_hex(matplotlib.colormaps[name](k)) for k in range(256)}
        assert not cells & set(DARK)
