"""The gallery: every picture is made by the script, shown in the docs, and small."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from analyze.figures.table import OF_A_COMPARISON, OF_A_RUN
from tests.synthetic import synthetic

ROOT = Path(__file__).parent.parent
IMAGES = sorted((ROOT / "docs" / "images").iterdir())
LARGEST = 200_000  # bytes


@pytest.fixture(scope="module")
def pictures() -> dict[str, Figure]:
    """What the script draws, of invented results in place of the samples'."""
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "scripts" / "gallery.py")
    gallery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gallery)
    sizes = {"layers": 3, "checkpoints": 5, "subsets": 3, "probes": 20, "folds": 3}
    runs = {name: synthetic(seed=k, **sizes) for k, name in enumerate(gallery.RUNS)}
    return gallery.pictures({"recomputed": runs, "saved": runs})


def shown() -> dict[str, str]:
    """The words for each picture of the page, by the name of its file."""
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    return {name: words for words, name in re.findall(r"!\[([^\]]+)\]\(images/([^)]+)\)", page)}


def test_the_script_makes_every_picture_and_no_other(pictures):
    assert {f"{name}.png" for name in pictures} == {path.name for path in IMAGES}
    assert all(figure.axes for figure in pictures.values())


def test_every_picture_is_shown_and_every_shown_one_is_there():
    assert sorted(shown()) == [path.name for path in IMAGES]


@pytest.mark.parametrize(("run", "table"), [("half_noise", OF_A_RUN), ("runs", OF_A_COMPARISON)])
def test_every_figure_of_the_table_is_shown_under_its_title(run, table):
    words = shown()
    for entry in table:
        name = run if entry.name == "training" else f"{run}_{entry.name}"
        assert words[f"{name}.png"].startswith(entry.title), entry.name


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_a_picture_is_small(path):
    assert path.stat().st_size < LARGEST


def test_both_batch_norms_are_beside_each_other(pictures):
    axes = pictures["batch_norm"].axes
    assert [ax.get_title(loc="left") for ax in axes] == ["real_labels", "half_noise",
                                                         "random_labels"]  # fmt: skip
    for ax in axes:
        assert ax.get_legend_handles_labels()[1] == ["recomputed", "saved"]
        assert ax.get_ylim() == axes[0].get_ylim()
