"""Results and comparisons are shown as text and as HTML, with what they say in short on top."""

from __future__ import annotations

import pickle
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr

import analyze
from analyze.models.building import build_model
from analyze.results.display import Results, summary_html
from analyze.results.summary import MOST, lines, summary
from analyze.specs.model import ModelSpec
from analyze.statistics import group_by
from tests.conftest import SPEC, SUBSETS, small_probes
from tests.trees import make_tree

BY_XARRAY = "<xarray.DataTree", '<div><svg style="position: absolute'  # where its part begins


@pytest.fixture(scope="module")
def opened(measured):
    return analyze.open_results(measured.output)


@pytest.fixture(scope="module")
def comparison(opened):
    return analyze.compare({"first": opened, "<second>": opened})


def on_top(tree: xr.DataTree) -> tuple[str, str]:
    """What is shown above the groups, as text and as HTML; the groups follow in both."""
    above = []
    for shown, begin in zip((repr(tree), tree._repr_html_()), BY_XARRAY, strict=True):
        before, found, groups = shown.partition(begin)
        assert found
        for name in tree.children:
            assert name in groups
        above.append(before)
    return above[0], above[1]


def charts(html: str) -> list[ElementTree.Element]:
    """The small charts of a summary."""
    return [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", html)]


def test_results_say_in_short_what_was_measured(opened):
    text, html = on_top(opened)
    assert text.startswith("tiny: 2 of 3 checkpoints measured, 16 probes\n")
    assert "m-coherence of tiny: 2 of 3 checkpoints measured, 16 probes" in html
    for subset in [*SUBSETS, "all"]:
        series = opened["network"]["m_coherence"].sel(subset=subset)
        peak = f"{float(series.max()):.3g} "
        line = next(line for line in text.splitlines() if line.startswith(f"{subset} (m="))
        row = next(row for row in html.split("<tr>") if row.startswith(f"<td>{subset}</td>"))
        assert peak in line
        assert peak in row
        assert line.index("step 9") < line.index("step 100")
    layers = opened["layers"]["m_coherence"].sel(subset="all")
    highest = layers.where(layers == layers.max(), drop=True)
    for shown in (text, html):
        assert f"Highest: {highest['layer'].item()} (Linear), {highest.item():.3g} " in shown
        assert "warnings" in shown
    assert "every checkpoint" in html  # the sentences of the warnings


def test_a_comparison_says_in_short_how_the_runs_compare(comparison):
    text, html = on_top(comparison)
    assert text.startswith("2 runs, subset all\n")
    assert "\nfirst (m=8)" in text  # the fewest of a subset: both are shown at one size
    assert "\n<second> (m=8)" in text
    assert "<td>&lt;second&gt;</td>" in html
    assert "No pair of runs differs significantly" in text


def test_a_pair_that_differs_is_named(comparison):
    """Made significant by hand, as two measurements of one run never are."""
    changed = comparison.copy()
    pairs = changed["pairs/network"].to_dataset()
    p = pairs["p_value_adjusted"].copy()
    p.loc[{"checkpoint": p["checkpoint"][-1], "subset": "all"}] = 0.001
    changed["pairs/network"] = xr.DataTree(pairs.assign(p_value_adjusted=p))
    text, html = on_top(changed)
    assert re.search(r"<second> / first: first step that differs 100, ratio 1 ", text)
    assert "&lt;second&gt; / first: first step" in html


@pytest.mark.parametrize("form", ["measure", "xarray", "by block", "sorted"])
def test_whatever_tree_is_shown(form, measured, opened):
    if form == "measure":
        model = build_model(ModelSpec.parse(SPEC))
        tree = analyze.measure(model, small_probes(), device="cpu", folds=2)
        assert on_top(tree)[0].startswith("SmallMLP: 1 of 1 checkpoints measured, 16 probes\n")
    elif form == "xarray":
        with xr.open_datatree(measured.output) as tree:
            assert on_top(tree)[0] == ""
    elif form == "by block":
        assert on_top(group_by(opened, "block"))[0].startswith("tiny: ")
    else:
        assert on_top(opened.isel(checkpoint=[2, 0]))[0].startswith("tiny: ")


def test_a_part_and_what_is_no_longer_results_are_shown_by_xarray_alone(opened):
    assert on_top(opened["network"]) == ("", "")
    without = opened.copy()
    del without["layers"]
    one = opened.isel(checkpoint=0)
    for tree in (without, one):
        assert isinstance(tree, Results)
        assert on_top(tree) == ("", "")


def test_examples_are_grouped_and_selected_beside_the_axis_of_the_same_name(measured, opened):
    with xr.open_datatree(measured.output) as by_xarray:
        for tree in (opened, by_xarray):
            examples = tree["examples"].to_dataset()
            means = examples["loss"].groupby("subset").mean()
            assert means.sizes == {"checkpoint": 3, "subset": 3}
            clean = examples.isel(probe=np.flatnonzero(examples["subset"] == "clean"))
            np.testing.assert_allclose(clean["loss"].mean("probe"), means.sel(subset="clean"))
            assert tree["network"].to_dataset().sel(subset="clean").sizes["checkpoint"] == 3


def test_results_survive_a_copy_another_process_and_a_file(opened, tmp_path):
    for tree in (opened.copy(), pickle.loads(pickle.dumps(opened))):
        assert isinstance(tree, Results)
        xr.testing.assert_identical(tree, opened)
        assert repr(tree) == repr(opened)


def test_a_chart_has_a_gap_where_nothing_was_measured_and_a_dot_at_the_peak():
    tree = make_tree(steps=range(5), skipped={2: "damaged"})
    values = tree["network"]["m_coherence"].values
    found = charts(summary_html(summary(tree)))
    assert len(found) == 4
    for k, chart in enumerate(found):
        rule, line = chart.findall("path")
        assert rule.get("stroke-dasharray")
        runs = line.get("d").removeprefix("M").split("M")
        heights = [[float(y) for y in re.findall(r",([\d.]+)", run)] for run in runs]
        assert [len(run) for run in heights] == [2, 2]
        dot = chart.find("g/circle")
        assert float(dot.get("cy")) == min(y for run in heights for y in run)
        places = [float(x) for x in re.findall(r"([\d.]+),", line.get("d"))]
        measured = [0, 1, 3, 4]
        peak = measured.index(int(np.nanargmax(values[:, k])))
        assert float(dot.get("cx")) == places[peak]
        assert f"at step {np.nanargmax(values[:, k])}" in chart.get("aria-label")


def test_of_many_subsets_the_first_ones_and_all_have_a_line():
    tree = make_tree(subsets=[f"kind_{k:02}" for k in range(12)], held_out=[])
    text = lines(summary(tree))
    assert [line.split()[0] for line in text[1 : MOST + 1]] == [
        "kind_00", "kind_01", "kind_02", "kind_03", "kind_04", "all",
    ]  # fmt: skip
    assert text[MOST + 1] == "7 more: kind_05, kind_06, kind_07 and 4 more"
    assert len(charts(summary_html(summary(tree)))) == MOST


def test_a_subset_that_is_all_again_has_one_line():
    tree = make_tree(subsets=["train"], held_out=[])
    network = tree["network"].to_dataset()
    same = network.sel(subset=["train", "train"]).assign_coords(subset=["train", "all"])
    tree["network"] = xr.DataTree(same)
    assert [one.name for one in summary(tree).courses] == ["train"]


def test_names_are_text():
    tree = make_tree(subsets=["<b>&", "x\x1b[2J"], held_out=[])
    html = summary_html(summary(tree))
    assert "<td>&lt;b&gt;&amp;</td>" in html
    assert "\x1b" not in html


def test_what_has_no_value_is_shown():
    tree = make_tree(steps=[0, 1], skipped={0: "damaged", 1: "damaged"})
    assert lines(summary(tree))[1].split() == ["clean", "(m=500)", "-", "-", "-"]
    assert "no value" in summary_html(summary(tree))
