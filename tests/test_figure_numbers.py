"""What a page says of a figure in words, and the table behind it: of the numbers it draws."""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray as xr

from analyze.figures import numbers as behind
from analyze.figures.coherence_over_training import draw as draw_coherence
from analyze.figures.numbers import Quantity, numbers_behind
from analyze.figures.panels import stacked
from analyze.figures.table import OF_A_COMPARISON, OF_A_RUN
from analyze.pages.described import described
from analyze.pages.numbers import MOST_ROWS, table_of
from analyze.reports.page import render_page
from tests.comparisons import make_comparison
from tests.trees import make_tree, pictures

PLACES = ["step 0", "step 8", "step 64", "step 512"]


def line(*values: float) -> list[Quantity]:
    return [Quantity("loss (nats)", xr.DataArray(list(values), dims="checkpoint"))]


def words(numbers: list[Quantity]) -> str:
    return described("A title", numbers, PLACES)


@pytest.mark.parametrize(
    ("values", "said", "unsaid"),
    [
        ((1, 2, 3, 4), "rises throughout from 1.00 at step 0 to 4.00 at step 512", "highest"),
        ((1, 2, 1.9, 4), "goes from 1.00 at step 0 to 4.00 at step 512.", "throughout"),
        ((4, 3, 3, 1), "falls throughout from 4.00 at step 0 to 1.00 at step 512", "lowest"),
        ((4, 3, 3.1, 1), "goes from 4.00 at step 0 to 1.00 at step 512.", "throughout"),
        (
            (1, 9, 3, 2),
            "goes from 1.00 at step 0 to 2.00 at step 512, highest 9.00 at step 8",
            "low",
        ),
        ((5, 9, 1, 2), "highest 9.00 at step 8, lowest 1.00 at step 64", "throughout"),
        ((9, 1, 3, 2), "to 2.00 at step 512, lowest 1.00 at step 8", "highest"),
        ((2, 2, 2, 2), "stays at 2.00", "from"),
        ((2, 2, 2, 3), "rises throughout from 2.00", "stays"),
        ((np.nan, 5, 3, np.nan), "falls throughout from 5.00 at step 8 to 3.00 at step 64", "512"),
        ((np.nan, 5, np.nan, np.nan), "Loss (nats): is 5.00 at step 8", "from"),
        ((np.nan,) * 4, "no values", "from"),
    ],
)
def test_a_line_is_described_by_what_it_does(values, said, unsaid):
    text = words(line(*values))
    assert text.startswith("A title. Loss (nats)")
    assert said in text
    assert unsaid not in text


def test_several_lines_are_described_one_by_one_up_to_six():
    def lines(count: int) -> list[Quantity]:
        values = np.arange(4.0)[:, None] + np.arange(count)
        labels = {"subset": [f"class {k}" for k in range(count)]}
        values = xr.DataArray(values, dims=("checkpoint", "subset"), coords=labels)
        return [Quantity("accuracy", values)]

    text = words(lines(6))
    assert "class 5 rises throughout from 5.00 at step 0 to 8.00 at step 512" in text
    text = words(lines(7))
    assert "Accuracy: from 0.00 (step 0, class 0) to 9.00 (step 512, class 6)." in text
    assert "rises" not in text


def test_of_layers_the_range_is_said_and_what_is_lacking():
    values = np.array([[1.0, 30.0], [0.5, 2.0], [3.0, 4.0], [5.0, 6.0]])
    labels = {"layer": ["conv1", "fc"]}

    def text(table: np.ndarray) -> str:
        array = xr.DataArray(table, dims=("checkpoint", "layer"), coords=labels)
        return words([Quantity("m-coherence", array)])

    assert "from 0.500 (step 8, conv1) to 30.0 (step 0, fc)." in text(values)
    assert "no value" not in text(values)
    values[0, 1] = np.nan
    assert "to 6.00 (step 512, fc); 1 of 8 have no value." in text(values)


def test_every_figure_of_a_page_has_its_numbers():
    shown = {entry.name for entry in OF_A_RUN if entry.section}
    assert shown == set(behind.OF_A_RUN) | set(behind.SAME)
    shown = {entry.name for entry in OF_A_COMPARISON if entry.section}
    assert shown == set(behind.OF_A_COMPARISON) | {"ratio"}


def test_the_numbers_are_those_that_are_drawn():
    tree = make_tree(subsets=("clean", "held_out"), skipped={3: "damaged"})
    ax = stacked(tree, [draw_coherence], None, [3.0]).axes[0]
    drawn = {drawn.get_label(): drawn.get_ydata() for drawn in ax.lines}
    one = numbers_behind(tree, "training")[0]
    assert one.beside == "subset"
    for name in one.values["subset"].values:
        np.testing.assert_allclose(drawn[name], one.values.sel(subset=name), rtol=1e-12)
    loss = {q.name: q.values for q in numbers_behind(tree, "training")}["loss (nats)"]
    np.testing.assert_array_equal(loss.sel(subset="clean"), tree["loss"].sel(subset="clean"))


def test_the_numbers_of_a_comparison():
    several = make_comparison(groups={"seeds": ["first", "second"]})
    (one,) = numbers_behind(several, "training")
    found = several["network"]["m_coherence"].sel(run="second", subset="clean")
    np.testing.assert_array_equal(one.values.sel(line="second, clean"), found)
    (mean,) = numbers_behind(several, "groups")
    found = several["groups/network"]["m_coherence"].sel(group="seeds", subset="clean")
    np.testing.assert_array_equal(mean.values.sel(line="seeds, clean"), found)
    (ratio,) = numbers_behind(several, "ratio_1")
    found = several["pairs/layers"]["log_ratio"].sel(pair="second / first")
    np.testing.assert_allclose(np.log(ratio.values), found)


def test_a_table_has_the_values_with_errors_and_says_of_how_many_rows():
    tree = make_tree()
    numbers = numbers_behind(tree, "layers")
    places = [f"step {k}" for k in range(12)]
    table = table_of(numbers, places)
    assert table.heads == ["layer", "checkpoint"]
    assert (len(table.rows), table.count) == (36, 36)
    row = table.rows[12 + 5]
    assert row.heads == [("bn1", 1), ("step 5", 5)]
    value = float(tree["layers"]["m_coherence"].sel(layer="bn1", subset="clean")[5])
    text, error, key = row.cells[0]
    assert float(key) == pytest.approx(value, rel=1e-8)
    assert float(text) == pytest.approx(value, rel=0.005)
    assert error == f"\N{PLUS-MINUS SIGN} {0.1 * value:#.3g}"
    long = table_of(
        numbers_behind(make_tree(layers=[f"l{k}" for k in range(40)]), "layers"), places
    )
    assert (len(long.rows), long.count) == (MOST_ROWS, 480)


def test_the_page_has_the_words_and_the_table_of_each_figure():
    tree = make_tree(layers=[f"l{k}" for k in range(40)], skipped={2: "damaged"})
    html = render_page(tree, pictures("training", "layers", "profile"))
    assert html.count("<summary>The numbers of this figure</summary>") == 2
    assert 'href="#layers-figure">Its numbers</a>' in html
    assert "The first 120 of 480 rows" in html
    assert re.search(r'<svg[^>]*aria-label="M-coherence over training[^"]*: clean goes from', html)
    assert "160 of 1,920 have no value" in html
    of_few = "It draws up to four checkpoints of each subset; over all checkpoints. M-coherence"
    assert html.count(of_few) == 1  # of the profile alone
