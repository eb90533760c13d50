"""What captions say of the data: said where it is true, and nowhere else."""

from __future__ import annotations

import re
from functools import cache

import pytest
import xarray as xr

from analyze.figures.table import OF_A_RUN
from analyze.reports.page import render_page
from analyze.statistics.sizes import shown_at
from tests.synthetic import synthetic
from tests.test_report import PROVENANCE
from tests.trees import make_tree, pictures, with_chance

FEW = {"layers": 2, "checkpoints": 3, "probes": 30}


def agreeing() -> xr.DataTree:
    """Invented results of one subset, whose gradients agree beyond chance at every place."""
    tree = make_tree(subsets=("train",), held_out=())
    for name in ("network", "layers"):
        group = tree[name].to_dataset()
        tree[name] = xr.DataTree(group.assign(m_coherence=0 * group["m_coherence"] + 50))
    return with_chance(tree)


def cancelling() -> xr.DataTree:
    """Invented results whose gradients cancel beyond chance at every place."""
    tree = with_chance(make_tree())
    for name in ("network", "layers"):
        group = tree[name].to_dataset()
        value = 0 * group["m_coherence"] + 0.01
        tree[name] = xr.DataTree(group.assign(
            m_coherence=value, m_coherence_upper=2 * value, m_coherence_lower=0 * value,
            effective_dimension=0 * value + 50, p_value_adjusted=0 * value + 1,
        ))  # fmt: skip
    return tree


TREES = {
    "whole": lambda: synthetic(**FEW, subsets=3, folds=6),
    "agreeing": agreeing,
    "skipped": lambda: synthetic(**FEW, subsets=2, skipped=(1,)),
    "one fold": lambda: make_tree(folds=1),
    "untested": make_tree,
    "no skips": lambda: make_tree(held_out=()),
    "own sizes": lambda: shown_at(synthetic(**FEW, subsets=3), "own"),
    "alpha": lambda: shown_at(synthetic(**FEW, subsets=3), "alpha"),
    "batch norm": lambda: synthetic(layers=2, checkpoints=2, probes=10),
    "no batch norm": lambda: make_tree(provenance=PROVENANCE),
    "with batch norm": lambda: with_types(make_tree(provenance=PROVENANCE), "BatchNorm2d"),
    "cancelling": cancelling,
    "many checkpoints": lambda: make_tree(steps=range(90)),
}  # fmt: skip


def with_types(tree: xr.DataTree, kind: str) -> xr.DataTree:
    layers = tree["layers"].to_dataset()
    tree["layers"] = xr.DataTree(layers.assign_coords(layer_type=layers["layer_type"].copy(
        data=[kind] * layers.sizes["layer"])))  # fmt: skip
    return tree


@cache
def tree(name: str) -> xr.DataTree:
    return TREES[name]()


@cache
def captions(name: str) -> str:
    found = tree(name)
    return " ".join(entry.caption_of(found) for entry in OF_A_RUN if entry.applies(found))


@cache
def page(name: str) -> str:
    html = render_page(tree(name), pictures("training"))
    html = re.sub("<script.*?</script>|<style>.*?</style>", "", html, flags=re.DOTALL)
    return " ".join(re.sub("<[^>]*>", " ", html).replace("&nbsp;", " ").split())


# A part of each sentence that says something of the data: results for which it is true, and others.
OF_FIGURES = {
    "mean loss and accuracy (below)": (["whole"], []),
    "All: the training probes, without held": (["whole", "one fold"], ["no skips", "skipped"]),
    "every subset is shown at one size": (["whole", "alpha"], ["own sizes"]),
    "Student's t with 5 degrees of freedom": (["whole"], ["one fold", "skipped"]),
    "with fewer where single examples stand out": (["whole"], ["one fold", "untested"]),
    "Hatched: 95 % of what comes by chance": (["whole"], ["one fold", "untested"]),
    "Open markers: cannot be told from chance": (["whole"], ["agreeing", "untested"]),
    "Bars are 95 % intervals, of one in 3 checkpoints.": (["many checkpoints"], ["whole"]),
    "Skipped checkpoints leave a gap": (["skipped"], ["whole", "untested"]),
    "Hatched: what cannot be told from chance": (["whole"], ["agreeing", "untested"]),
    "Cosines between the subsets' mean gradients": (["whole", "untested"], ["agreeing"]),
    "how far a step along one subset's gradient": (["whole"], ["untested", "agreeing"]),
    "Bands are 95 % intervals.": (["whole"], ["one fold", "untested"]),
}
# Sentences that say what is drawn, and nothing of what the results are.
ALWAYS = (
    "The whole network: ", "The mean loss of all training probes falls from left to right",
    "M-coherence of ", "M-coherence, each at its own m, for each layer", "Unbiased alpha",
    "All panels share", "Grey: ", "One line for each",
    "Ratio and difference; what is not significant is hatched", "Each layer's part, in percent",
    "Bands are 95 % intervals: ",
)  # fmt: skip


@pytest.mark.parametrize("words", OF_FIGURES)
def test_a_caption_says_what_is_true_of_its_results_and_no_more(words):
    where, elsewhere = OF_FIGURES[words]
    assert all(words in captions(name) for name in where)
    assert not any(words in captions(name) for name in elsewhere)


def test_every_sentence_of_a_caption_is_in_the_table():
    for name in TREES:
        for sentence in re.split(r"(?<=\.) (?=[A-Z])", captions(name)):
            known = any(words in sentence for words in OF_FIGURES)
            assert known or sentence.startswith(ALWAYS), sentence
