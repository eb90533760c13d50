"""Figures of layers and between subsets, by the objects drawn."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import analyze
from analyze import statistics
from analyze.errors import InputError
from analyze.figures import (
    coherence_over_training,
    cosine_over_training,
    cross_help_over_training,
    energy_share,
    layer_heatmap,
    layer_over_training,
    layer_profile,
    loss_over_training,
    subset_contrast,
)
from analyze.figures.looks import subset_looks
from analyze.figures.names import figure_text
from analyze.figures.signed_cells import SMALLEST
from analyze.figures.style import style
from analyze.figures.subset_pairs import pairs
from analyze.figures.table import run_figures
from analyze.figures.training import training
from analyze.statistics.ratios import contrast
from analyze.statistics.significance import RATE
from tests.synthetic import layer_names, synthetic
from tests.test_figures import cells_of
from tests.trees import make_tree


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return synthetic(
        layers=5, checkpoints=8, subsets=3, probes=200, folds=8, strength=2.0, skipped=(4,)
    )


@pytest.fixture
def ax() -> Axes:
    with style():
        return Figure().subplots()


def lines(ax: Axes) -> dict[str, np.ndarray]:
    return {
        str(line.get_label()): np.asarray(line.get_ydata())
        for line in ax.lines
        if not str(line.get_label()).startswith("_")
    }


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


# --- along the loss


def test_against_the_loss_training_goes_to_the_right(tree, ax):
    coherence_over_training.draw(tree, ax, x="loss")
    loss = tree["loss"].sel(subset="all").values
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), loss)
    assert ax.get_xlabel() == "mean loss of all training probes (nats); 1 skipped"
    assert ax.xaxis_inverted()
    assert ax.get_xscale() == "linear"


def test_intervals_along_the_loss_are_bars(tree, ax):
    coherence_over_training.draw(tree, ax, x="loss")
    bars = [c for c in ax.collections if type(c).__name__ == "LineCollection"]
    values = tree["network"].to_dataset().sel(subset="clean")
    known = np.isfinite(values["m_coherence_upper"].values)
    drawn = {round(float(segment[1][1]), 9) for bar in bars for segment in bar.get_segments()}
    assert set(np.round(values["m_coherence_upper"].values[known], 9)) <= drawn


def test_of_many_checkpoints_along_the_loss_one_in_some_has_a_bar(ax):
    tree = make_tree(steps=range(300), subsets=("clean",), held_out=())
    coherence_over_training.draw(tree, ax, x="loss")
    bars = [c for c in ax.collections if type(c).__name__ == "LineCollection"]
    assert [len(bar.get_segments()) for bar in bars] == [30, 30]  # clean and all


def test_a_loss_over_many_decades_is_on_logarithmic_axes(ax):
    tree = synthetic(layers=1, checkpoints=4, subsets=2, probes=10)
    tree["loss"].values[:] = np.array([2.0, 0.1, 1e-3, 1e-4])[:, None]
    coherence_over_training.draw(tree, ax, x="loss")
    assert ax.get_xscale() == "log"
    assert ax.xaxis_inverted()
    other = loss_over_training.draw(tree, Figure().subplots())
    assert other.get_yscale() == "log"


def test_an_axis_that_is_not_known_is_refused(tree, ax):
    blank = tree.copy(deep=True)
    blank.dataset = blank.to_dataset().assign_coords(epoch=("checkpoint", np.full(8, np.nan)))
    with pytest.raises(analyze.InputError, match="the epoch is not known") as caught:
        training(blank, "epoch")
    assert "step and loss" in caught.value.found or "step, loss" in caught.value.found
    with pytest.raises(analyze.InputError, match="no such axis"):
        loss_over_training.draw(blank, ax, x="time")


def test_every_figure_takes_every_axis(tree):
    for x, label in (("step", "optimizer step"), ("epoch", "epoch"), ("loss", "mean loss")):
        figures = run_figures(tree, x)
        below = figures["training"].axes[-1].get_xlabel()
        assert below.startswith(label)
        assert ("loss" in figures) == (x != "loss")


def test_the_columns_of_a_heat_map_are_labelled_by_the_loss(tree, ax):
    layer_heatmap.draw(tree, ax, x="loss")
    first = tree["loss"].sel(subset="all").values[0]
    assert ax.xaxis.get_major_formatter()(0.5, 0) == f"{first:.3g}"


# --- small multiples


def test_a_panel_has_the_layer_s_lines_and_intervals(tree, ax):
    name = layer_names(5)[3]
    layer_over_training.draw(tree, ax, name)
    one = tree["layers"].to_dataset().sel(layer=name)
    assert list(lines(ax)) == ["clean", "corrupted", "held_out", "all"]
    expected = one["m_coherence"].sel(subset="corrupted").values
    np.testing.assert_array_equal(lines(ax)["corrupted"], expected)
    upper = one["m_coherence_upper"].sel(subset="clean").values
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert set(np.round(upper[:4], 9)) <= set(np.round(band, 9))
    assert ax.get_yscale() == "log"
    assert ax.get_title(loc="left") == name
    assert [line.get_ydata()[0] for line in ax.lines if line.get_label() == "_guide"] == [1.0]


def test_panels_have_one_scale_one_legend_and_ticks_at_the_edges(tree):
    figure = layer_over_training.figure(tree)
    assert [ax.get_title(loc="left") for ax in figure.axes] == layer_names(5)
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    assert len({ax.get_xlim() for ax in figure.axes}) == 1
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["clean", "corrupted", "held_out", "all"]
    assert {text.get_text() for text in figure.texts} == {
        "m-coherence of 200 examples", "optimizer step; × = skipped",  # noqa: RUF001
    }  # fmt: skip
    left = [ax.yaxis.get_tick_params()["labelleft"] for ax in figure.axes]
    assert left == [True, False, False, False, True]


# --- clean against corrupted


@pytest.mark.parametrize(
    ("quantity", "value", "p"),
    [
        ("ratio", "log_ratio", "p_value_adjusted"),
        ("difference", "difference", "difference_p_value_adjusted"),
    ],
)
def test_significant_cells_are_coloured_and_others_hatched(tree, ax, quantity, value, p):
    subset_contrast.draw(tree, ax, quantity=quantity)
    found = contrast(tree, "corrupted", "clean", layers="layers")
    table = found[value].transpose("layer", "checkpoint").values
    significant = (found[p].transpose("layer", "checkpoint") <= RATE).values
    (coloured,) = ax.collections
    assert significant.any()
    assert (np.isfinite(table) & ~significant).any()
    np.testing.assert_array_equal(~np.ma.getmaskarray(coloured.get_array()), significant)
    np.testing.assert_array_equal(coloured.get_array()[significant], table[significant])
    hatched, missing = (cells_of(ax, name, table.shape) for name in ("_chance", "_missing"))
    np.testing.assert_array_equal(hatched, np.isfinite(table) & ~significant)
    np.testing.assert_array_equal(missing, ~np.isfinite(table))
    assert missing[:, 4].all()  # the skipped checkpoint
    low, high = coloured.get_clim()
    assert low == -high
    assert coloured.get_rasterized()
    assert ax.get_title(loc="left").endswith("at m = 200")


@pytest.mark.parametrize(
    ("second", "what"),
    [
        ("all", "have probes in common"),
        ("clean", "have probes in common"),
        ("ciean", "no such subset"),
    ],
)
def test_a_contrast_of_subsets_with_common_probes_is_refused(tree, second, what):
    with pytest.raises(InputError, match=what):
        contrast(tree, "clean", second)


def test_the_contrast_is_of_the_values_and_its_error_adds_variances(tree):
    found = contrast(tree, "corrupted", "clean")
    network = tree["network"].to_dataset()
    alpha, error = network["alpha_unbiased"], network["alpha_unbiased_stderr"]
    one = {n: 1 + 199 * alpha.sel(subset=n).values for n in ("clean", "corrupted")}
    known = np.isfinite(found["log_ratio"].values)
    expected = np.log(one["clean"] / one["corrupted"])
    np.testing.assert_allclose(found["log_ratio"].values[known], expected[known])
    np.testing.assert_allclose(found["difference"].values, one["clean"] - one["corrupted"])
    added = np.hypot(*(199 * error.sel(subset=n).values for n in ("clean", "corrupted")))
    np.testing.assert_allclose(found["difference_stderr"].values, added)


def test_ratios_are_written_as_factors(tree, ax):
    subset_contrast.draw(tree, ax)
    bar = ax.figure.axes[1]
    bar.figure.draw_without_rendering()
    written = [label.get_text() for label in bar.get_yticklabels()]
    assert "1" in written
    assert any(text.startswith("1/") for text in written)
    assert bar.get_ylabel() == "ratio of m-coherence\nhatched: not significant"
    assert bar.get_ylim()[1] >= SMALLEST


def test_no_contrast_without_both_subsets(tree):
    assert subset_contrast.has_contrast(tree)
    assert not subset_contrast.has_contrast(tree, "corrupted", "others")
    other = synthetic(layers=2, checkpoints=3, subsets=("train", "held_out"), probes=10)
    assert "clean_corrupted" not in run_figures(other)
    with pytest.raises(analyze.InputError, match="no such contrast"):
        subset_contrast.draw(tree, Figure().subplots(), quantity="sum")


# --- between subsets


def test_cosines_of_every_two_subsets_with_intervals(tree, ax):
    cosine_over_training.draw(tree, ax)
    cosine = tree["network"]["gradient_cosine"]
    drawn = lines(ax)
    assert list(drawn) == ["clean · corrupted", "clean · held_out", "corrupted · held_out"]
    expected = cosine.sel(subset="clean", subset_other="corrupted").values
    np.testing.assert_array_equal(drawn["clean · corrupted"], expected)
    assert ax.get_ylim() == (-1.05, 1.05)
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert -1 <= heights.min() < heights.max() <= 1
    assert ax.get_ylabel() == "cosine of mean gradients"


def test_many_subsets_are_shown_with_all_only(ax):
    tree = synthetic(layers=1, checkpoints=3, subsets=12, folds=2, probes=6)
    assert {pair.second for pair in pairs(tree)} == {"all"}
    cosine_over_training.draw(tree, ax)
    assert len(lines(ax)) == 12
    assert not ax.collections


def test_cross_help_is_logarithmic_to_both_sides_and_has_units(tree, ax):
    cross_help_over_training.draw(tree, ax)
    values = tree["network"]["cross_help"]
    drawn = lines(ax)
    assert "clean · itself" in drawn
    expected = values.sel(subset="clean", subset_other="clean").values
    np.testing.assert_array_equal(drawn["clean · itself"], expected)
    assert ax.get_yscale() == "symlog"
    assert ax.get_ylabel() == "cross help (nats per\nunit of learning rate)"
    colour = subset_looks(["clean"])["clean"].colour
    band = next(c for c in ax.collections if to_hex(c.get_facecolor()[0]) == colour)
    estimated = statistics.estimate(tree, "cross_help").sel(subset="clean", subset_other="clean")
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(float(estimated["lower"].min()))
    assert heights.max() == pytest.approx(float(estimated["upper"].max()))
    colours = {str(line.get_label()): to_hex(line.get_color()) for line in ax.lines}
    assert colours["clean · itself"] == colour


# --- energy and profile


def test_energy_shares_add_up_to_all_of_it(tree, ax):
    energy_share.draw(tree, ax, "clean")
    share = tree["layers"]["energy_share"].sel(subset="clean").transpose("layer", "checkpoint")
    areas = [c for c in ax.collections if c.get_label() == "_share"]
    assert len(areas) == 5
    tops = np.cumsum(share.values, axis=0)
    for area, top in zip(areas, tops, strict=True):
        drawn = np.concatenate([path.vertices[:, 1] for path in area.get_paths()])
        known = top[np.isfinite(top)]
        assert set(np.round(known, 9)) <= set(np.round(drawn, 9))
    np.testing.assert_allclose(tops[-1][np.isfinite(tops[-1])], 1.0)
    assert ax.get_ylim() == (0, 1)
    assert ax.yaxis.get_major_formatter()(0.25, 0) == "25%"
    assert texts(ax)


def test_energy_of_one_checkpoint_is_bars(ax):
    energy_share.draw(synthetic(layers=3, checkpoints=1, steps=(7,), subsets=2, probes=8), ax)
    assert len(ax.patches) == 3
    assert ax.patches[-1].get_y() + ax.patches[-1].get_height() == pytest.approx(1.0)


def test_a_profile_of_first_peak_later_and_last(tree, ax):
    layer_profile.draw(tree, ax, "clean")
    network = tree["network"]["m_coherence"].sel(subset="clean").values
    peak = int(np.nanargmax(network))
    drawn = lines(ax)
    steps = [f"step {step:,.0f}" for step in tree["step"].values]
    assert steps[0] in drawn
    assert steps[peak] in drawn
    assert steps[7] in drawn
    assert len(drawn) <= 4
    expected = tree["layers"]["m_coherence"].sel(subset="clean").values[peak]
    np.testing.assert_array_equal(drawn[steps[peak]], expected)
    names = [figure_text(name, layer_profile.LONGEST) for name in layer_names(5)]
    assert [label.get_text() for label in ax.get_xticklabels()] == names
    assert ax.get_xlabel() == "layer, in forward order"


def test_a_profile_of_chosen_checkpoints(tree, ax):
    layer_profile.draw(tree, ax, "clean", ["step_00002.pt"])
    assert list(lines(ax)) == [f"step {tree['step'].values[2]:,.0f}"]
    with pytest.raises(analyze.InputError, match="cannot be drawn") as caught:
        layer_profile.draw(tree, Figure().subplots(), "clean", ["gone.pt"])
    assert "gone.pt" in caught.value.found
    with pytest.raises(analyze.InputError, match="cannot be drawn"):
        layer_profile.draw(tree, Figure().subplots(), "clean", ["step_00002.pt"] * 5)


# --- large


def test_what_there_is_much_of_is_rasterised(tree):
    with style():
        ax = Figure(figsize=(7, 7)).subplots()
    layer_heatmap.draw(tree, ax, "clean")
    assert ax.collections[0].get_rasterized()


def test_types_of_layers_keep_off_the_first_panel(tree):
    figure = layer_heatmap.figure(tree)
    canvas = FigureCanvasAgg(figure)
    with style():
        canvas.draw()
    ax, renderer = figure.axes[0], canvas.get_renderer()
    ends = [text.get_window_extent(renderer).x1 for text in ax.texts]
    assert max(ends) < ax.get_window_extent().x0
