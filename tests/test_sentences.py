"""Every sentence of pages that depends on results: said where it is true, and nowhere else.

Which sentences there are is read from templates and code, so that a new one fails until it has
results for which it is said, and others for which it must not be. What the first paragraphs say is
in ``test_findings`` and ``test_comparison_sentences``, captions in ``test_captions``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import xarray as xr

import analyze
from analyze.comparison import details as comparison_details
from analyze.comparison.examples import MEANINGS
from analyze.comparison.matching import DIFFERENT, IDS
from analyze.comparison.page import render_page as comparison_html
from analyze.probes import write_probes
from analyze.rankings.probe_file import probes_of_ids
from analyze.reports import examples as report_examples
from analyze.reports.page import render_page as report_html
from analyze.statistics.sizes import shown_at
from tests import test_captions
from tests.comparisons import make_comparison
from tests.page_texts import conditional, plain, spoken
from tests.synthetic import synthetic
from tests.test_examples_page import with_inputs
from tests.test_rankings import COUNT, made, the_probes
from tests.test_report import PROVENANCE
from tests.trees import make_tree, pictures

SMALL = {"layers": 2, "checkpoints": 3, "subsets": 1, "probes": 40, "folds": 4}
SHORT = {"steps": (0, 4), "layers": ("conv1",), "subsets": ("clean", "all")}
MODULES = (
    "comparison/rows.py", "comparison/cards.py", "comparison/examples.py", "comparison/page.py",
    "reports/page.py", "reports/summary.py", "reports/examples.py", "reports/cosines.py",
    "results/summary.py",
)  # fmt: skip
NOT_ON_PAGES = (
    "Settings that differ", "checkpoints measured, ",  # on the terminal
    " side by side",  # in the heading, see below
    *MEANINGS.values(),  # in the file
)  # fmt: skip
TEMPLATES = {
    "report": ("reports/page.html", "reports/examples.html"),
    "comparison": ("comparison/page.html",),
}


# --- reports


def tokens() -> xr.DataTree:
    """Losses of whole sequences, and per token."""
    tree = make_tree(steps=(0, 1))
    return tree.assign(loss_per_token=tree["loss"] / 7)


def long() -> xr.DataTree:
    """More checkpoints than a table of a figure has rows, with most of them skipped."""
    return make_tree(steps=range(130), skipped=dict.fromkeys(range(20), "damaged"))


def examples(**options) -> str:
    """The page of a run with directions."""
    probes = options.pop("probes", None) or the_probes()
    given = options.pop("given", None)
    tree = made(options.pop("directions", ("all", "clean", "corrupted")), **options, probes=probes)
    return report_html(tree, pictures("training"), None, given or (probes, ""))


def few_on_the_map() -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_examples, "MOST_CELLS", 40)
        return examples()


def without_wrong_labels() -> str:
    tree = synthetic(layers=2, checkpoints=2, subsets=["clean"], probes=8, directions=("all",))
    return report_html(tree, pictures("training"))


def with_classes() -> xr.DataTree:
    """A run whose cells have a column."""
    tree = synthetic(**SMALL)
    parameters = tree["parameters"].to_dataset(inherit=False)
    classes = np.array(["cat", "dog"], dtype=object)[np.arange(parameters.sizes["cell"]) % 2]
    tree["parameters"] = xr.DataTree(parameters.assign_coords(cell_class=("cell", classes)))
    return tree


def images() -> analyze.ProbeSet:
    return with_inputs(np.zeros((COUNT, 1, 8, 8), dtype=np.uint8))


def drawn(tree: xr.DataTree, *names: str) -> str:
    return report_html(tree, pictures(*names))


REPORTS = {
    "asked": lambda: drawn(shown_at(make_tree(steps=(0, 1)), 100), "training"),
    "one checkpoint": lambda: drawn(make_tree(steps=(7,)), "training", "profile"),
    "tokens": lambda: drawn(tokens(), "training"),
    "long": lambda: drawn(long(), "training"),
    "proof": lambda: drawn(make_tree(provenance=PROVENANCE), "training"),
    "nothing": lambda: drawn(make_tree(steps=(0, 1), skipped={0: "x", 1: "x"}), "training"),
    "ids": lambda: examples(given=(None, "The probe file x is not there.")),
    "numbers": examples,
    "pictures": lambda: examples(probes=images()),
    "few on the map": few_on_the_map,
    "right labels": without_wrong_labels,
    "of held-out": lambda: examples(directions=("held_out",)),
    "cells by class": lambda: drawn(with_classes(), "training"),
    "own class": lambda: examples(directions=("class=cat", "class=dog", "class=owl")),
}  # fmt: skip

# --- comparisons


def seeds(count: int, strength: float = 1.0) -> dict[str, xr.DataTree]:
    return {f"{strength:g} {k}": synthetic(seed=k, strength=strength, **SMALL)
            for k in range(count)}  # fmt: skip


@cache
def compared(name: str) -> xr.DataTree:
    return TREES[name]()


def configurations(*sizes: int) -> xr.DataTree:
    """Configurations of these numbers of seeds; one alone is a run."""
    sides = [seeds(n, 1.0 + k) for k, n in enumerate(sizes)]
    groups = {f"group {k}": list(runs) for k, runs in enumerate(sides) if len(runs) > 1}
    return analyze.compare({n: t for runs in sides for n, t in runs.items()}, groups=groups)


def without_values() -> xr.DataTree:
    tree = make_comparison(**SHORT).copy(deep=True)
    for group in ("network", "layers"):
        found = tree[group].to_dataset(inherit=False)
        tree[group] = xr.DataTree(found.assign(m_coherence=np.nan * found["m_coherence"]))
    for name in ("pairs/network", "pairs/layers"):
        found = tree[name].to_dataset(inherit=False)
        tree[name] = xr.DataTree(found.assign({k: np.nan * found[k] for k in (
            "log_ratio", "log_ratio_upper", "log_ratio_lower", "p_value_adjusted")}))  # fmt: skip
    events = tree["events"].to_dataset(inherit=False)
    tree["events"] = xr.DataTree(events.assign(peak=np.nan * events["peak"]))
    return tree


def judged(by: str) -> xr.DataTree:
    tree = make_comparison(**SHORT)
    tree["probes"].values[1] = by
    return tree


def unpaired() -> xr.DataTree:
    tree = make_comparison(**SHORT)
    pairs = tree["pairs/network"].to_dataset(inherit=False)
    tree["pairs/network"] = xr.DataTree(pairs.assign(paired=~pairs["paired"]))
    return tree


def with_examples(names: tuple[str, ...], **groups: list[str]) -> xr.DataTree:
    """Runs with directions: ``one`` and ``copy``, and others in which examples are turned."""
    one = made(("all",), ("class",), the_probes())
    runs = {name: _turned(one, name) for name in names}
    return analyze.compare(runs, groups=groups)


def _turned(tree: xr.DataTree, name: str) -> xr.DataTree:
    """Examples point the other way: one in a run ``turned``, thirty in one with ``many``."""
    rows = {"turned": slice(7, 8), "many": slice(0, 30)}.get(name.split(maxsplit=1)[0], slice(0))
    copy = tree.copy()
    group = tree["examples"].to_dataset(inherit=False).copy(deep=True)
    group["alignment"].values[..., rows] *= -1
    if name not in ("one", "copy", "turned"):  # another seed
        noise = np.random.default_rng(len(name)).standard_normal(group["alignment"].shape)
        group["alignment"].values[:] *= 1.0 + 0.02 * noise
    copy["examples"] = xr.DataTree(group)
    return copy


def without_loss() -> xr.DataTree:
    tree = make_comparison(**SHORT)
    tree["loss"].values[:] = np.nan
    return tree


TREES = {
    "two": lambda: make_comparison(**SHORT, settings={"a": ["1", "2"]}),
    "of clean": lambda: make_comparison(**SHORT | {"subsets": ("clean",)}),
    "many pairs": lambda: make_comparison(runs="abcd", **SHORT),
    "lacking": lambda: make_comparison(**SHORT | {"layers": ("conv1", "fc")},
                                       lacking={"second": "fc"}),
    "no values": without_values,
    "no loss": without_loss,
    "ids": lambda: judged(IDS),
    "other probes": lambda: judged(DIFFERENT),
    "unpaired": unpaired,
    "by loss": lambda: analyze.compare(seeds(2), align="loss"),
    "asked": lambda: analyze.compare(seeds(2), at_size=20),
    "alpha": lambda: analyze.compare(seeds(2), at_size="alpha"),
    "other places": lambda: analyze.compare(
        {"a": synthetic(steps=(0, 1, 2), **SMALL), "b": synthetic(steps=(0, 2, 3), **SMALL)}
    ),
    "renamed": lambda: analyze.compare(
        seeds(2), rename=["encoder.blocks.0.conv=first"]),
    "two seeds": lambda: configurations(2, 3),
    "three seeds": lambda: configurations(3, 3),
    "run and seeds": lambda: configurations(3, 1),
    "a seed lacks a value": lambda: analyze.compare(
        seeds(2) | {"skipped": synthetic(seed=2, skipped=(2,), **SMALL)},
        groups={"a": ["1 0", "1 1", "skipped"]}),
    "a seed below 0": lambda: analyze.compare(
        seeds(3, 0.0), groups={"a": list(seeds(3, 0.0))}, at_size=1000),  # the third has 0.55
    "one group": lambda: configurations(3),
    "by chance": lambda: analyze.compare(seeds(2, 0.0)),
    "many examples": lambda: with_examples(
        ("one", "one 2", "many", "many 2"), a=["one", "one 2"], b=["many", "many 2"]),
    "same examples": lambda: with_examples(("one", "copy")),
    "turned": lambda: with_examples(("one", "turned")),
    "examples of seeds": lambda: with_examples(
        ("one", "two", "turned", "turned 2"), a=["one", "two"], b=["turned", "turned 2"]),
    "examples of equal seeds": lambda: with_examples(
        ("one", "two", "three", "four"), a=["one", "two"], b=["three", "four"]),
    "examples of a group": lambda: with_examples(("one", "two"), a=["one", "two"]),
}  # fmt: skip


def comparison(name: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        if name == "many pairs":
            patch.setattr(comparison_details, "MOST_CELLS", 10)
        return comparison_html(compared(name), pictures("training"))


@cache
def page(kind: str, name: str) -> str:
    """The words of a page."""
    if kind == "report" and name in test_captions.TREES:
        return test_captions.page(name)
    return plain(REPORTS[name]() if kind == "report" else comparison(name))


# --- the sentences

# Of each sentence the pieces that stand on the page around its values, pages on which it is true,
# and pages on which it must not be said.
OF_REPORTS = {
    "batch norm recomputed": (["with batch norm"], ["no batch norm", "whole"]),
    "Batch norm statistics recomputed": (["with batch norm"], ["no batch norm", "whole"]),
    "of … checkpoints … skipped": (["skipped", "nothing"], ["whole"]),
    "the training probes, without": (["whole"], ["no skips", "skipped"]),
    "at the end": (["whole"], ["one checkpoint"]),
    "of all … , end": (["whole"], ["one checkpoint", "own sizes"]),
    "loss per token": (["tokens"], ["whole", "untested"]),
    "by the jackknife over": (["whole"], ["one fold"]),
    "with a single fold there are none": (["one fold"], ["whole"]),
    "so everything here is what … examples are expected to show": (["whole"], ["alpha"]),
    "here each subset is shown at its own m": (["own sizes"], ["whole", "alpha"]),
    "unbiased alpha = (m-coherence": (["alpha"], ["whole", "own sizes"]),
    "Raised letters are warnings": (["whole"], ["untested"]),
    "Grey: 95 % of what comes by chance in the chosen": (["whole"], ["untested"]),
    "Shaded: there the gradients cancel": (["cancelling"], ["whole", "untested"]),
    "Close to a minimum of the training": (["whole"], ["agreeing"]),
    ", with standard errors": (["whole"], ["one fold"]),
    "the two neither help nor oppose each other": (["whole"], ["untested", "agreeing"]),
    "Engine: plan and proof": (["proof"], ["untested"]),
    "Step found by": (["proof"], ["untested"]),
    "the number of the smallest subset": (["whole"], ["asked", "alpha"]),
    "the number that was asked for": (["asked"], ["whole", "alpha"]),
    "Hatched: cannot be told from chance.": (["whole"], ["untested"]),
    "; grey: what comes by chance": (["whole"], ["untested"]),
    "no agreement beyond chance": (["whole"], ["agreeing", "untested"]),
    "no agreement; cancels beyond chance": (["cancelling"], ["whole", "agreeing"]),
    "not proven against plain autograd": (["proof"], ["untested"]),
    "How single examples pull on": (["numbers"], ["whole"]),
    "examples with the highest suspicion are here": (["few on the map"], ["numbers"]),
    "No label is known to be wrong": (["right labels"], ["numbers"]),
    "Mean product of the gradients of two examples with these labels": (
        ["cells by class"], ["right labels", "numbers"]
    ),
    "The inputs are neither images nor text": (["numbers"], ["pictures", "ids"]),
    "the other training examples": (["numbers"], ["of held-out", "own class"]),
    "the other examples of": (["of held-out"], ["numbers", "own class"]),
    "the rest of their": (["own class"], ["numbers", "of held-out"]),
}  # fmt: skip
OF_COMPARISONS = {
    ", seeds of … configuration": (["three seeds", "one group"], ["two"]),
    "To be read first": (["lacking", "two seeds"], ["two", "three seeds"]),
    "all training probes": (["two"], ["of clean"]),
    "the probes of": (["of clean"], ["two"]),
    "its part that does not grow, unbiased alpha": (["alpha"], ["two", "asked"]),
    "shown here is what … examples are expected to show": (["two", "asked"], ["alpha"]),
    "the fewest that a subset of a run has": (["two"], ["asked", "alpha"]),
    "the number that was asked for": (["asked"], ["two", "alpha"]),
    "of a configuration they have the geometric mean": (["three seeds"], ["two"]),
    "Two configurations are tested over their seeds": (["three seeds"], ["two"]),
    "A configuration is the geometric mean over its seeds": (["three seeds"], ["two"]),
    "Values are interpolated between": (["by loss"], ["two", "other places"]),
    "A line joins the checkpoints that its run has": (["other places"], ["two", "by loss"]),
    "Ratio of m-coherence. Hatched": (["two"], ["one group"]),
    "The page has the pairs with the first one": (["many pairs"], ["two"]),
    "of each run over its own probes": (["two"], ["no loss"]),
    "Share of right predictions": (["asked"], ["two"]),
    "largest significant ratio": (["two"], ["one group"]),
    "Suspicion is minus the cosine": (["turned"], ["same examples", "two"]),
    "Layers without a partner": (["lacking"], ["two"]),
    "There are none: no run has a value": (["no values"], ["two"]),
    "All settings that the results files name are the same": (["lacking"], ["two"]),
    "No run has a value of m-coherence at any checkpoint": (["no values"], ["two", "lacking"]),
    "Highest measured m-coherence of the network, of": (["two"], ["no values"]),
    "where the training loss first falls to a level": (["asked"], ["two", "no values"]),
    "examples, significant at a false discovery rate of": (["two"], ["no values", "one group"]),
    "cells of the layers": (["two"], ["no values", "one group"]),
    "has no layer": (["lacking"], ["two"]),
    "Warning: other probes than": (["other probes"], ["two", "ids"]),
    "The inputs were judged the same by the ids": (["ids"], ["two", "other probes"]),
    "Folds do not pair": (["unpaired"], ["two"]),
    "Two seeds only": (["two seeds"], ["three seeds", "one group"]),
    "seeds with a value": (["a seed lacks a value"], ["three seeds", "one group"]),
    "Where a seed has no value, the mean is over the others": (
        ["a seed lacks a value"], ["three seeds", "two", "a seed below 0"],
    ),
    "Where a seed is at or below 0, there is no geometric mean": (
        ["a seed below 0"], ["three seeds", "two", "a seed lacks a value"],
    ),
    "Without seeds of its own": (["run and seeds"], ["three seeds", "two"]),
    "no agreement beyond chance": (["by chance"], ["two", "no values"]),
    "of … examples differ": (
        ["examples of seeds"], ["turned", "examples of equal seeds"],
    ),
    "between the configurations by more than their seeds do": (
        ["examples of seeds", "examples of equal seeds"], ["turned"]
    ),
    "All of them": (["examples of seeds"], ["turned", "same examples", "many examples"]),
    "Those that differ most": (["many examples"], ["turned", "examples of seeds"]),
    "What another seed would change is not known": (["turned"], ["examples of seeds"]),
    "seeds of one configuration": (["examples of a group"], ["turned"]),
    "No example of … differs": (
        ["same examples", "examples of equal seeds"], ["turned", "examples of seeds"]
    ),
    "between the runs": (["same examples", "turned"], ["examples of equal seeds"]),
}  # fmt: skip
OF_PROBE_FILES = {
    "The probes were measured in memory": "in memory",
    "holds other examples by now": "other",
    "is not there": "gone",
    "The probe file … : --probes FILE names it": "gone",
}
TABLES = {"report": OF_REPORTS, "comparison": OF_COMPARISONS}
CHEAP = {
    "report": {*test_captions.TREES, "asked", "one checkpoint", "tokens", "nothing", "proof"},
    "comparison": {"two", "of clean", "many pairs", "lacking", "no values", "no loss", "ids",
                   "other probes", "unpaired"},
}  # fmt: skip


def has(text: str, words: str, hole: str = ".{0,90}?") -> bool:
    """Whether a text has these words, with values where the dots are."""
    return re.search(hole.join(map(re.escape, words.split(" … "))), text) is not None


def cases() -> Iterator[object]:
    """Kind and words; those that need a page that takes long are for the night."""
    for kind, table in TABLES.items():
        for words, (where, elsewhere) in table.items():
            cheap = CHEAP[kind].issuperset([*where, *elsewhere])
            yield pytest.param(kind, words, marks=[] if cheap else [pytest.mark.nightly])


@pytest.mark.parametrize(("kind", "words"), [*cases()])
def test_a_sentence_is_said_where_it_is_true_and_nowhere_else(kind, words):
    where, elsewhere = TABLES[kind][words]
    assert where
    assert elsewhere
    assert [name for name in where if not has(page(kind, name), words)] == []
    assert [name for name in elsewhere if has(page(kind, name), words)] == []


@pytest.mark.parametrize("kind", TEMPLATES)
def test_the_table_has_every_sentence_that_a_template_says_on_a_condition(kind):
    texts = [text for template in TEMPLATES[kind] for text in conditional(template)]
    assert len(texts) > 10
    assert [t for t in texts if not any(has(t, w, ".*") for w in TABLES[kind])] == []


@pytest.mark.parametrize("module", [*MODULES, "rankings/probe_file.py"])
def test_the_tables_have_every_sentence_that_the_code_says(module):
    known = [*OF_REPORTS, *OF_COMPARISONS, *OF_PROBE_FILES]
    texts = [t for t in spoken(module) if not any(words in t for words in NOT_ON_PAGES)]
    unknown = [t for t in texts if not any(has(t, w, ".*") or t in w for w in known)]
    assert unknown == []


def test_why_there_are_no_pictures(tmp_path):
    ids = the_probes().id
    other = tmp_path / "other.safetensors"
    write_probes(other, images())
    recorded = {"in memory": {}, "gone": {"path": str(tmp_path / "gone")},
                "other": {"path": str(other)}}  # fmt: skip
    said = {name: probes_of_ids(ids, {"probes": of})[1] for name, of in recorded.items()}
    for words, name in OF_PROBE_FILES.items():
        assert has(said[name], words, ".*")  # paths of any length
        assert not has(said["in memory" if name != "in memory" else "gone"], words, ".*")


@pytest.mark.nightly
def test_the_heading_says_what_stands_side_by_side():
    assert "4 runs side by side" in page("comparison", "many pairs")
    four = comparison_html(configurations(2, 2, 2, 2), pictures("training"))
    assert "4 configurations side by side" in plain(four)
