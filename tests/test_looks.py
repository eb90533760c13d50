"""The looks of subsets, runs and groups: told apart by everyone, on paper and on a dark screen."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure

from analyze.figures.colours import DARK, SURFACE, of_words
from analyze.figures.looks import COUNT, TABLE, Look, further_look, run_look, subset_looks
from analyze.reports.details import details
from tests.colour_vision import ciede2000, contrast, lab
from tests.synthetic import subset_names, synthetic

MODES = {"light": {colour: colour for colour in DARK}, "dark": DARK}
APART = 12.0  # of lightness, or of CIEDE2000: far above the 1 to 2 that can just be seen
TWELVE = [*subset_names(11), "all"]
LINES = 3.0  # least contrast of lines and markers, of WCAG
TEXT = 4.5  # and of words


def test_the_difference_of_colours_is_the_published_one():
    # Sharma, Wu and Dalal (2005), table 1: pairs 1, 7, 17 and 25.
    pairs = [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ]
    for one, other, expected in pairs:
        assert ciede2000(np.array(one), np.array(other)) == pytest.approx(expected, abs=1e-4)
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    red, green = (lab(colour, deuteranopia=True) for colour in ("#b05040", "#6d7a3f"))
    assert ciede2000(red, green) < 10 < ciede2000(lab("#b05040"), lab("#6d7a3f"))


def looks_alike(one: Look, other: Look, shown: dict[str, str]) -> bool:
    """Whether colour alone does not tell two looks apart, in grey or without green cones."""
    first, second = shown[one.colour], shown[other.colour]
    grey = abs(lab(first)[0] - lab(second)[0])
    seen = ciede2000(lab(first, deuteranopia=True), lab(second, deuteranopia=True))
    return bool(min(grey, seen) < APART)


@pytest.mark.parametrize("mode", MODES)
def test_twelve_subsets_are_told_apart_without_colour(mode):
    looks = subset_looks(TWELVE)
    assert len({one.marker for one in looks.values()}) == 12
    alike = [two for two in combinations(looks, 2)
             if looks_alike(looks[two[0]], looks[two[1]], MODES[mode])]  # fmt: skip
    assert alike  # twelve colours are too many for grey: the dashes are needed
    assert [two for two in alike if looks[two[0]].dash == looks[two[1]].dash] == []


def test_runs_and_groups_differ_by_dash_or_marker_whatever_their_colours():
    runs = [run_look(k) for k in range(COUNT)]
    assert len({(one.dash, one.marker) for one in runs}) == COUNT == 48
    assert len({one.colour for one in runs[:12]}) == 12


@pytest.mark.parametrize("mode", MODES)
def test_lines_and_words_stand_out_from_the_page(mode):
    shown = MODES[mode]
    for colour, _ in TABLE:
        assert contrast(shown[colour], shown[SURFACE]) >= LINES, colour
        assert contrast(shown[of_words(colour)], shown[SURFACE]) >= TEXT, colour


def test_known_subsets_keep_their_look_and_others_follow_in_their_order():
    roles = subset_looks(["clean", "corrupted", "held_out", "all"])
    assert {name: one.colour for name, one in roles.items()} == {
        "clean": "#0072b2", "corrupted": "#d55e00", "held_out": "#009e73", "all": "#1f2430",
    }  # fmt: skip
    several = subset_looks(["class 2", "clean", "class 10", "all"])
    assert several["clean"] == roles["clean"]
    assert [several[name] for name in ("class 2", "class 10")] == [further_look(0), further_look(1)]
    many = subset_looks([*(f"class {k}" for k in range(30)), "all"])
    assert len(set(many.values())) == 31
    assert [name for name, one in many.items() if one.colour == roles["all"].colour] == ["all"]


def test_the_page_gets_the_looks_of_the_figures():
    tree = synthetic(layers=1, checkpoints=2, subsets=11, probes=4, folds=2)
    looks = subset_looks(tree["network"].to_dataset()["subset"].values)
    ax = Figure().subplots()
    for one, data in zip(looks.values(), details(tree)["subsets"], strict=True):
        assert {name: data[name] for name in one.data} == one.data
        (line,) = ax.plot([0, 1], **one.line)  # matplotlib knows the marker and the dash
        assert line.get_color() == data["colour"]
        assert line.is_dashed() == bool(data["dash"])
