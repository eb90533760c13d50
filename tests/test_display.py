"""Results and comparisons are shown as text and as HTML, with what they say in short on top."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from html import escape
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr

import analyze
from analyze.comparison.sentences import lead
from analyze.figures.training import training
from analyze.models.building import build_model
from analyze.reports.page import render_page
from analyze.results.display import Results, summary_html
from analyze.results.summary import MOST, lines, summary
from analyze.specs.model import ModelSpec
from analyze.statistics import describe, group_by
from analyze.statistics.sizes import at_one_size
from analyze.text import to_two_digits
from tests.conftest import SPEC, SUBSETS, small_probes
from tests.synthetic import synthetic
from tests.trees import make_tree, with_chance

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
    assert "<b>tiny: 2 of 3 checkpoints measured, 16 probes" in html
    network = at_one_size(opened)
    for subset in [*SUBSETS, "all"]:
        series = network.sel(subset=subset)
        at = series.isel(checkpoint=int(np.nanargmax(series["m_coherence"].values)))
        peak = to_two_digits(float(at["m_coherence"]), float(at["m_coherence_stderr"]))
        line = next(line for line in text.splitlines() if line.startswith(f"{subset} "))
        row = next(row for row in html.split("<tr>") if row.startswith(f"<td>{subset}</td>"))
        assert peak in line
        assert peak.replace("+-", "\N{PLUS-MINUS SIGN}") in row
        assert line.index("step 9") < line.index("step 100")
    for shown in (text, html):
        assert "m-coherence of 8 examples" in shown  # the fewest of a subset
        assert "warnings" in shown
    assert "every checkpoint" in html  # the sentences of the warnings


def clear() -> xr.DataTree:
    """Agreement, and a layer with a larger value that is chance: few directions, three folds."""
    tree = synthetic(layers=3, checkpoints=4, subsets=["clean", "held_out"], probes=200, folds=6,
                     strength=3.0)  # fmt: skip
    layers = tree["layers"].to_dataset()
    last = {"layer": layers["layer"][-1], "checkpoint": layers["checkpoint"][0]}
    for name, value in (("m_coherence", 190.0), ("p_value_adjusted", 0.4)):
        layers[name].loc[last] = value
    tree["layers"] = xr.DataTree(layers)
    return tree


def quiet() -> xr.DataTree:
    """Gradients without a common direction."""
    return synthetic(layers=3, checkpoints=3, subsets=["clean", "b"], strength=0.0, probes=60,
                     folds=6, seed=2)  # fmt: skip


@pytest.mark.parametrize("made", [clear, quiet])
def test_terminal_notebook_and_page_say_the_same(made):
    tree = made()
    found = summary(tree)
    text, html = "\n".join(lines(found)), summary_html(found)
    unmarked = re.sub("<sup.*?</sup>", "", render_page(tree, {}))
    page = re.sub(r"\s+", " ", re.sub("<[^>]*>", "", unmarked))
    for sentence in found.sentences:
        said = sentence.replace("+-", "\N{PLUS-MINUS SIGN}")
        assert sentence in text
        assert said in html
        assert said in page
    for one in found.courses:
        peak, last = (str(p).replace("+-", "\N{PLUS-MINUS SIGN}") for p in one.points[1:])
        size = f"of {found.size.size:,} examples, highest, at {one.points[1].where}"
        card = f"{one.name} {peak} {size} {one.chance}".strip()
        assert f"{card} at the end{last} " in page
    for warning in found.warnings:
        assert escape(warning) in html
    assert found.size.quantity in text
    assert found.size.quantity in page


def test_the_highest_is_one_that_agrees():
    tree = clear()
    layers = tree["layers"]["m_coherence"].sel(subset="all")
    largest = layers.where(layers == layers.max(), drop=True)["layer"].item()
    text = "\n".join(lines(summary(tree)))
    assert "Among the layers, over the same probes, encoder.blocks.0.conv" in text
    assert largest == "encoder.blocks.0.attention"
    assert largest not in text


def test_a_network_that_never_leaves_the_band_has_no_highest():
    text = "\n".join(lines(found := summary(quiet())))
    assert {one.chance for one in found.courses} == {"no agreement beyond chance"}
    assert text.count("no agreement beyond chance") == len(found.courses) + 1
    assert "No layer agrees beyond chance." in text
    assert "highest" not in text.lower().replace("highest of", "")


@pytest.mark.parametrize("steps", [[0, 1_250_000, 12_345_678], [1e6, 2e6, 1.5e7]])
def test_large_steps_have_all_of_their_digits_everywhere(steps):
    tree = with_chance(make_tree(steps=steps))
    names = [f"step {step:,.0f}" for step in steps]
    text = "\n".join(lines(summary(tree)))
    assert names == training(tree).names
    assert any(name in text for name in names)
    assert "e+0" not in text
    assert "e+0" not in " ".join(describe(tree))


def test_a_comparison_says_in_short_how_the_runs_compare(comparison):
    text, html = on_top(comparison)
    assert text.startswith("2 runs, subset all\n")
    assert "\nm-coherence of 8 examples " in text  # the fewest of a subset: at one size
    assert re.search(r"\nfirst +16 ", text)
    assert re.search(r"\n<second> +16 ", text)
    assert "<td>&lt;second&gt;</td>" in html
    for sentence in lead(comparison, "all"):
        assert sentence in text
        assert escape(sentence) in html


def test_a_pair_that_differs_is_named(comparison):
    """Made significant by hand, as two measurements of one run never are."""
    changed = comparison.copy()
    pairs = changed["pairs/network"].to_dataset()
    p = pairs["p_value_adjusted"].copy()
    p.loc[{"checkpoint": p["checkpoint"][-1], "subset": "all"}] = 0.001
    changed["pairs/network"] = xr.DataTree(pairs.assign(p_value_adjusted=p))
    text, html = on_top(changed)
    assert re.search(r"<second> / first: first step that differs 100, ratio 1.00 ", text)
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


XARRAY_ALONE = """
import sys, xarray
path = sys.argv[1]
tree = xarray.open_datatree(path, **({"engine": sys.argv[2]} if sys.argv[2:] else {}))
assert "SUBSET" in tree._repr_html_().upper()
assert "torch" not in sys.modules
print(*tree["examples"].to_dataset()["loss"].groupby("subset").mean()["subset"].values)
"""


@pytest.mark.parametrize("engine", [(), ("gradient_coherence",)])
def test_a_tree_is_shown_where_only_xarray_is_imported(measured, engine):
    """As xarray imports what this package has among its ``xarray.backends``."""
    command = [sys.executable, "-c", XARRAY_ALONE, str(measured.output), *engine]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout.split() == sorted(SUBSETS)


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
    assert [one.name for one in summary(tree).courses] == ["train = all"]


def test_names_are_text():
    tree = make_tree(subsets=["<b>&", "x\x1b[2J"], held_out=[])
    html = summary_html(summary(tree))
    assert "<td>&lt;b&gt;&amp;</td>" in html
    assert "\x1b" not in html


def test_what_has_no_value_is_shown():
    tree = make_tree(steps=[0, 1], skipped={0: "damaged", 1: "damaged"})
    assert lines(summary(tree))[1].split() == ["clean", "500", "-", "-", "-"]
    assert "no value" in summary_html(summary(tree))
