"""A comparison's lines pass by places that a run does not have, and break where it has no value."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import analyze
from analyze.figures import groups_over_training, runs_over_training
from analyze.figures.table import OF_A_COMPARISON
from analyze.results.presence import has_gaps, present
from tests.comparisons import write_comparison
from tests.synthetic import synthetic

SIZES = {"layers": 2, "subsets": 1, "probes": 60, "folds": 4}
GAP = "A gap: a checkpoint that has no value."
SOME = "Where a seed has no value, the mean is over the others."


@pytest.fixture(scope="module")
def runs() -> dict[str, xr.DataTree]:
    """One run in which a checkpoint was skipped, and one that has every second place only."""
    steps = (0, 10, 20, 30, 40)
    broken = synthetic(steps=steps, checkpoints=5, skipped=(2,), **SIZES)
    sparse = synthetic(steps=steps[::2], checkpoints=3, seed=1, **SIZES)
    return {"broken": broken, "sparse": sparse}


@pytest.fixture(scope="module")
def compared(runs) -> xr.DataTree:
    return analyze.compare(runs)


@pytest.fixture(scope="module")
def whole(runs) -> xr.DataTree:
    """Runs with other places, and a value at each of their own."""
    return analyze.compare({"sparse": runs["sparse"], "full": synthetic(
        steps=(0, 10, 20, 30, 40), checkpoints=5, **SIZES)})  # fmt: skip


def test_a_skipped_checkpoint_is_there_and_a_place_of_others_is_not(compared, whole):
    there = present(compared)
    assert there.sel(run="broken").values.all()
    assert there.sel(run="sparse").values.tolist() == [True, False, True, False, True]
    assert has_gaps(compared)
    assert not has_gaps(whole)


def drawn(tree: xr.DataTree, module=runs_over_training) -> dict[str, np.ndarray]:
    """The heights of the lines by their names, in a figure."""
    ax = module.draw(tree, Figure().add_subplot(), "all")
    return {str(line.get_label()): np.asarray(line.get_ydata()) for line in ax.lines}


def test_the_figure_breaks_lines_at_gaps_alone(compared):
    lines = drawn(compared)
    assert np.isnan(lines["broken"]).tolist() == [False, False, True, False, False]
    assert np.isfinite(lines["sparse"]).tolist() == [True] * 3


def test_a_configuration_is_there_where_any_of_its_runs_is(runs):
    both = {"both": ["broken", "sparse"]}
    tree = analyze.compare({**runs, "other": runs["sparse"]}, groups=both)
    lines = drawn(tree, groups_over_training)
    assert np.isfinite(lines["both (2 runs)"]).tolist() == [True] * 5
    assert SOME in groups_over_training.caption(tree)
    assert len(lines["other"]) == 3
    again = synthetic(steps=(0, 10, 20, 30, 40), checkpoints=5, seed=2, skipped=(2,), **SIZES)
    tree = analyze.compare(
        {"a": runs["broken"], "b": again, "other": runs["sparse"]}, groups={"both": ["a", "b"]}
    )
    lines = drawn(tree, groups_over_training)
    assert np.isnan(lines["both (2 runs)"]).tolist() == [False, False, True, False, False]
    assert SOME not in groups_over_training.caption(tree)


def test_captions_speak_of_gaps_where_there_are_some(compared, whole):
    def captions(tree: xr.DataTree) -> list[str]:
        return [e.caption_of(tree) for e in OF_A_COMPARISON if e.name in ("training", "layers")]

    assert all(GAP in caption for caption in captions(compared))
    assert not any(GAP in caption for caption in captions(whole))


def test_lines_of_the_page_break_at_gaps_alone(reader, tmp_path, compared, whole):
    page = reader.open(write_comparison(tmp_path, compared))
    for chart in ("lines", "loss", "accuracy"):
        paths = {
            run: page.get_attribute(f"#{chart} [aria-description={run}] path", "d")
            for run in ("broken", "sparse")
        }
        assert paths["broken"].count("M") == 2, chart
        assert paths["sparse"].count("M") == 1, chart
    ratio = page.get_attribute("#ratio [aria-description='whole network'] path", "d") or ""
    assert ratio.count("M") == 2
    assert "L" not in ratio  # of the three places of both the middle one was skipped in one
    assert GAP in page.text_content("#lines + figcaption, figure:has(#lines) figcaption:last-child")
    page = reader.open(write_comparison(tmp_path, whole))
    assert GAP not in page.text_content("main")
