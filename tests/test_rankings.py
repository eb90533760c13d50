"""Rankings of single examples: scores by their definition, labels, and the command."""

from __future__ import annotations

import json

import numpy as np
import pytest

import analyze
from analyze.errors import InputError
from analyze.probes import ProbeSet, write_probes
from analyze.probes.facts import probes_hash
from analyze.probes.subsets import Column
from analyze.rankings import signals
from analyze.rankings.labels import labels_of
from analyze.rankings.probe_file import probes_of
from analyze.rankings.reference import pull, reference, references
from analyze.rankings.scores import over_all, ranks
from analyze.results.file import write_results
from tests.conftest import assert_input_error, assert_three_facts, call
from tests.synthetic import synthetic, with_alignments

COUNT, LAYERS, CHECKPOINTS = 60, 2, 4
CLASSES = ("cat", "dog", "owl")
SKIPPED = 2


def the_probes(subset=("clean", "corrupted", "held_out")) -> ProbeSet:
    """Wrong labels are those of the next class."""
    names = [subset[k * len(subset) // COUNT] for k in range(COUNT)]
    true = np.arange(COUNT) % 3
    given = np.where(np.array(names) == "corrupted", (true + 1) % 3, true)
    columns = {"class": Column(given, CLASSES), "true_class": Column(true, CLASSES)}
    inputs = np.random.default_rng(1).normal(size=(COUNT, 2)).astype(np.float32)
    return ProbeSet(inputs, given, names, np.arange(100, 100 + COUNT), columns=columns)


def the_gradients(wrong: float = -0.5) -> list[np.ndarray | None]:
    """Those of wrong labels point the other way, so far."""
    random = np.random.default_rng(2)
    sign = np.where(np.arange(COUNT) // 20 == 1, wrong, 1.0)
    found: list[np.ndarray | None] = []
    for k in range(CHECKPOINTS):
        g = random.normal(size=(LAYERS, COUNT, 6))
        g[..., 0] += sign
        found.append(None if k == SKIPPED else g)
    return found


def made(directions, columns=("class",), probes=None, wrong=-0.5):
    """A tree of these gradients, with ``directions`` and columns of the cells."""
    probes = probes or the_probes()
    tree = synthetic(layers=LAYERS, checkpoints=CHECKPOINTS, probes=20, skipped=(SKIPPED,))
    origin = json.loads(tree.attrs["provenance"]) | {"probes_sha256": probes_hash(probes)}
    tree.attrs["provenance"] = json.dumps(origin)
    labels = {c: [probes.columns[c].names[k] for k in probes.columns[c].codes] for c in columns}
    losses = np.where(np.arange(CHECKPOINTS)[:, None] == SKIPPED, np.nan, 0.5)
    losses = losses + np.linspace(0, 1, COUNT)
    return with_alignments(tree, the_gradients(wrong), probes, losses, directions, labels)


@pytest.fixture(scope="module")
def tree():
    return made(("all", "clean", "corrupted", "held_out"))


def cosines(members, layers=slice(None)) -> np.ndarray:
    """Of each example with the sum of the others among ``members[i]``, by the gradients."""
    found = np.full((CHECKPOINTS, COUNT), np.nan)
    for t, g in enumerate(the_gradients()):
        if g is None:
            continue
        flat = np.concatenate(list(g[layers]), axis=1)
        for i in range(COUNT):
            rows = [j for j in np.flatnonzero(members(i)) if j != i]
            rest = flat[rows].sum(0)
            found[t, i] = flat[i] @ rest / np.linalg.norm(flat[i]) / np.linalg.norm(rest)
    return found


TRAINING = np.arange(COUNT) < 40
GIVEN = the_probes().targets


@pytest.mark.parametrize("layer", [None, "encoder.blocks.0.norm"])
def test_suspicion_is_minus_the_cosine_with_the_others(tree, layer):
    expected = cosines(lambda i: TRAINING, slice(None) if layer is None else slice(1, 2))
    found = analyze.examples(tree, layer=layer, against="all")
    by_probe = {row["probe"]: row["score"] for row in found.rows}
    values = [by_probe[100 + i] for i in range(COUNT)]
    np.testing.assert_allclose(values, -np.nanmean(expected, axis=0), rtol=1e-4, atol=1e-5)
    at = analyze.examples(tree, layer=layer, against="all", checkpoint="step_00001.pt")
    by_probe = {row["probe"]: row["score"] for row in at.rows}
    np.testing.assert_allclose([by_probe[100 + i] for i in range(COUNT)], -expected[1], rtol=1e-3)
    assert [row["rank"] for row in at.rows] == list(range(1, COUNT + 1))


def test_a_class_is_compared_with_the_rest_of_its_own_label():
    tree = made([f"class={name}" for name in CLASSES])
    found = analyze.examples(tree)
    assert found.against == "class"
    expected = -np.nanmean(cosines(lambda i: GIVEN[i] == GIVEN), axis=0)
    by_probe = {row["probe"]: row["score"] for row in found.rows}
    values = [by_probe[100 + i] for i in range(COUNT)]
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)


def test_a_sum_of_directions_serves_as_well(tree):
    whole = analyze.examples(tree, against="all")
    parts = analyze.examples(made(("clean", "corrupted")))
    assert parts.against == "all"
    for a, b in zip(whole.rows, parts.rows, strict=True):
        assert a["probe"] == b["probe"]
        assert a["score"] == pytest.approx(b["score"], abs=1e-5)


def test_the_other_scores(tree):
    group = signals.in_layer(tree, signals.NETWORK)
    p = pull(group, reference(tree, "all"))
    c = cosines(lambda i: TRAINING)
    moved = np.abs(np.stack([c[1] - c[0], c[3] - c[1]]))
    expected = {
        "prototype": over_all(p.others), "influence": over_all(np.abs(p.others)),
        "change": moved.mean(0),
    }  # fmt: skip
    for by, values in expected.items():
        rows = analyze.examples(tree, by=by, against="all").rows
        found = {row["probe"]: row["score"] for row in rows}
        np.testing.assert_allclose([found[100 + i] for i in range(COUNT)], values, rtol=2e-3)
    last = analyze.examples(tree, by="change", against="all", checkpoint="*3.pt").rows
    found = {row["probe"]: row["score"] for row in last}
    np.testing.assert_allclose([found[100 + i] for i in range(COUNT)], moved[1], rtol=2e-3)
    first = analyze.examples(tree, by="change", against="all", checkpoint="*0.pt").rows
    assert {row["score"] for row in first} == {None}
    assert {row["rank"] for row in first} == {None}


def test_examples_without_a_score_are_counted_with_the_reason(tree):
    def said(by="suspicion", checkpoint=None):
        found = analyze.examples(tree, by=by, against="all", checkpoint=checkpoint)
        return next((s for s in found.sentences if "have no score" in s), "")

    assert said() == said("change") == said("suspicion", "*0.pt") == ""
    assert said("change", "*0.pt").startswith("60 of 60 examples have no score, and no rank:")
    assert "none was measured before it" in said("change", "*0.pt")


def test_others_are_products_of_gradients(tree):
    p = pull(signals.in_layer(tree, signals.NETWORK), reference(tree, "all"))
    g = the_gradients()[1]
    assert g is not None
    flat = np.concatenate(list(g), axis=1)
    rest = flat[TRAINING].sum(0) - flat * TRAINING[:, None]
    np.testing.assert_allclose(p.others[1], (flat * rest).sum(1), rtol=1e-4, atol=1e-3)


def test_no_score_uses_what_tells_the_answer(tree):
    labels = labels_of(tree, the_probes())
    assert references(tree, labels) == ["all", "held_out"]
    columned = made(
        ("true_class=cat", "true_class=dog", "true_class=owl", "noise"), ("true_class",)
    )
    assert references(columned, labels) == []
    with pytest.raises(InputError) as refused:
        analyze.examples(columned)
    assert_three_facts(str(refused.value))
    told = analyze.examples(tree, against="clean")
    assert "clean is made of what tells wrong labels" in told.sentences[-1]
    parts = made(("clean", "corrupted", "true_class=cat"), ("true_class",))
    by_class = analyze.examples(parts, against="true_class=cat").sentences
    assert "true_class=cat is made of what tells wrong labels" in by_class[-1]
    for one in (tree, parts):  # which the signals do use, whatever directions it is the sum of
        assert "is made of" not in " ".join(analyze.examples(one, against="all").sentences)
    same = [row["auroc"] for row in analyze.examples(tree).signals]
    assert [row["auroc"] for row in told.signals] == same


def test_ranks_of_equal_scores_are_equal_and_nothing_has_none():
    np.testing.assert_array_equal(
        ranks(np.array([0.5, np.nan, 2.0, 0.5, -1.0])), [2, np.nan, 1, 2, 4]
    )


def test_forgetting_by_hand():
    margin = np.array([
        [1.0, -1, 1, -1, 1], [np.nan] * 5, [-1, -1, 1, 1, 0], [1, -1, 1, -1, 1], [-1, -1, 1, 1, 1],
    ])  # fmt: skip
    inf, nan = np.inf, np.nan
    expected = [[0, inf, 0, inf, 0], [nan] * 5, [1, inf, 0, 0, 1], [1, inf, 0, 1, 1],
                [2, inf, 0, 1, 1]]  # fmt: skip
    np.testing.assert_array_equal(signals.forgetting(margin), expected)


def test_without_wrong_labels_the_rank_is_not_said_to_find_any():
    tree = made(("all",), (), the_probes(("train", "more", "held_out")))
    found = analyze.examples(tree)
    assert found.signals == []
    assert "not known to find any" in found.sentences[-1]
    with pytest.raises(InputError) as refused:
        analyze.examples(tree, signals=True)
    assert_three_facts(str(refused.value))


# --- what the ranking and signals are worth


def test_what_the_ranking_itself_is_worth_is_said(tree):
    found = analyze.examples(tree, signals=True)
    said = next(s for s in found.sentences if s.startswith("This ranking finds wrong labels"))
    at = {(r["signal"], r["layer"], r["checkpoint"]): r for r in found.signals}
    assert f"an AUROC of {at['suspicion', 'whole network', 'all']['auroc']:.3f} (" in said
    assert "last" not in said
    assert not any("may turn its sign" in s for s in found.sentences)


@pytest.mark.parametrize(
    ("directions", "fix"),
    [
        (("all",), "analyze run RUN --directions all,held_out --output OUT.h5"),
        (("all", "held_out"), "To fix: --against held_out."),
    ],
)
@pytest.mark.parametrize(
    ("by", "order"), [("suspicion", "last, not first"), ("prototype", "first, not last")]
)
def test_a_ranking_that_is_the_wrong_way_around_says_so_and_what_to_do(directions, fix, by, order):
    tree = made(directions, (), wrong=-6.0)
    said = " ".join(analyze.examples(tree, by=by).sentences)
    assert f"it puts the wrong labels {order}." in said
    assert fix in said
    if "held_out" in directions:
        better = " ".join(analyze.examples(tree, by=by, against="held_out").sentences)
        assert "it puts" not in better
        assert "may turn" not in better


def test_where_no_label_is_known_the_sum_of_all_is_warned_of():
    probes = the_probes(("train", "more", "held_out"))
    assert "may turn its sign" in " ".join(analyze.examples(made(("all",), (), probes)).sentences)
    by_class = made(("class=cat", "class=dog", "class=owl"), ("class",), probes)
    assert "may turn its sign" not in " ".join(analyze.examples(by_class).sentences)


def test_signals_of_a_planted_truth(tree):
    found = analyze.examples(tree, signals=True)
    at = {(r["signal"], r["layer"], r["checkpoint"]): r for r in found.signals}
    assert at["loss", "output", "all"]["auroc"] == 1.0  # as invented: it rises with the row
    assert at["margin, reversed", "output", "step_00001.pt"]["auroc"] == 1.0
    assert at["loss", "output", "all"]["auroc_lower"] is None
    one = at["suspicion", "whole network", "all"]
    assert 0.7 < one["auroc"] < 1
    assert one["auroc_lower"] < one["auroc"] < one["auroc_upper"]
    assert one["average_precision_lower"] <= one["average_precision"]
    assert not {name for name, _, _ in at} & {"EL2N"}
    assert ("suspicion", "whole network", "step_00002.pt") not in at  # which was skipped
    ours = [r for r in found.signals if r["family"] == "alignment"]
    layers = {r["layer"] for r in ours}
    assert layers == {"whole network", "encoder.blocks.0.conv", "encoder.blocks.0.norm"}
    assert any(r["signal"] == "suspicion, against held_out" for r in ours)
    assert found.sentences[-3].startswith("Highest AUROC of the signals from alignments: ")
    assert found.sentences[-2].startswith("Highest AUROC of what is used today: ")
    assert "pairs that were tried" in found.sentences[-1]


def test_the_short_table_has_the_best_of_each_signal(tree):
    short, every = (analyze.examples(tree, signals=s).signals for s in (False, True))
    for signal in {r["signal"] for r in every}:
        of = [r["auroc"] for r in every if r["signal"] == signal]
        assert max(r["auroc"] for r in short if r["signal"] == signal) == max(of)
        assert any(r["checkpoint"] == "all" for r in short if r["signal"] == signal)
    assert [r["auroc"] for r in short] == sorted((r["auroc"] for r in short), reverse=True)


# --- the probe file


def recorded(tree, path):
    """The tree of a run that read its probes from this path."""
    origin = json.loads(tree.attrs["provenance"]) | {"probes": {"path": str(path)}}
    copy = tree.copy()
    copy.attrs = tree.attrs | {"provenance": json.dumps(origin)}
    return copy


def test_the_probe_file_is_found_and_believed_by_its_hash(tree, tmp_path):
    path = tmp_path / "probes.safetensors"
    write_probes(path, the_probes())
    found, missing = probes_of(recorded(tree, path))
    assert (len(found), missing) == (COUNT, "")
    found, _ = probes_of(recorded(tree, "elsewhere/probes.safetensors"), beside=tmp_path)
    assert found is not None
    assert probes_of(recorded(tree, "nowhere.safetensors"))[1].endswith(
        "is not there: --probes FILE names it."
    )
    write_probes(path, the_probes(("clean", "held_out")))
    found, missing = probes_of(recorded(tree, path))
    assert found is None
    assert "holds other examples by now" in missing
    with pytest.raises(InputError) as refused:
        probes_of(tree, path)
    assert_three_facts(str(refused.value))


# --- the command


@pytest.fixture(scope="module")
def file(tmp_path_factory, tree):
    folder = tmp_path_factory.mktemp("examples")
    write_probes(folder / "probes.safetensors", the_probes())
    write_results(recorded(tree, "probes.safetensors"), folder / "out.h5")
    return folder / "out.h5"


def test_the_table_names_the_first_and_says_what_it_is(file):
    text = call("examples", str(file), "--first", "3").stdout
    lines = text.splitlines()
    assert lines[0] == "suspicion against all, whole network, over all checkpoints"
    assert lines[1].split() == ["rank", "probe", "subset", "given_class", "true_class", "score"]
    assert lines[2].split()[0] == "1"
    assert lines[6] == "57 more: --first 60, or --csv FILE"
    assert "What tells wrong labels, with 95 % intervals" in text


def test_json_and_csv_have_all_rows(file, tmp_path):
    found = json.loads(call("examples", str(file), "--json").stdout)
    assert len(found["rows"]) == COUNT
    assert found["rows"] == analyze.examples(file).rows
    printed = call("examples", str(file), "--csv").stdout
    assert printed.splitlines()[0] == "rank,probe,subset,given_class,true_class,score"
    assert len(printed.splitlines()) == COUNT + 1
    target = tmp_path / "suspects.csv"
    for _ in range(2):  # an older one of the same kind is replaced
        assert call("examples", str(file), "--csv", str(target)).stdout == f"Wrote {target}\n"
    assert target.read_text() == printed
    result = call("examples", str(file), "--signals", "--csv", str(target))
    assert_input_error(result, "the table cannot be written", "other columns")
    assert target.read_text() == printed
    signals_csv = call("examples", str(file), "--signals", "--csv").stdout
    assert signals_csv.startswith("signal,family,layer,checkpoint,auroc,auroc_lower,auroc_upper,")


# Wrong uses, and what the message has.
MISUSES = {
    "score": (("--by", "beauty"), "one of suspicion, prototype, influence, change"),
    "layer": (("--layer", "blocks.9"), "no such layer", "--layer 'encoder."),
    "checkpoint": (("--checkpoint", "step_9.pt"), "no such checkpoint"),
    "checkpoints": (("--checkpoint", "step*"), "more than one checkpoint fits"),
    "skipped": (("--checkpoint", "step_00002.pt"), "was not measured", "damaged: x"),
    "against": (("--against", "owls"), "no such direction", "--against all"),
    "probes": (("--probes", "none.safetensors"), "the probe file is missing"),
}


@pytest.mark.parametrize("case", MISUSES)
def test_a_wrong_use_is_refused(file, case):
    options, *facts = MISUSES[case]
    assert_input_error(call("examples", str(file), *options), *facts)


def test_a_subset_that_was_no_direction_says_how_to_measure_it(tmp_path):
    path = tmp_path / "out.h5"
    write_results(made(("all",)), path)
    result = call("examples", str(path), "--against", "held_out")
    assert_input_error(result, "--directions all,held_out --output OUT.h5")


def test_results_without_directions_say_what_to_type(measured):
    result = call("examples", str(measured.output))
    assert_input_error(result, "analyze run RUN --directions all,held_out --output OUT.h5")


def test_json_or_csv(file):
    result = call("examples", str(file), "--json", "--csv")
    assert result.exit_code == 2
    assert "--json or --csv, not both" in result.stderr
