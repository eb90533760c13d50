"""``examples``: single examples ranked by a score, and what the rank is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import xarray as xr

from analyze.errors import InputError, like, listed, unknown
from analyze.probes.subsets import ALL
from analyze.rankings.evaluation import FEWEST, evaluate, worth
from analyze.rankings.labels import Labels, labels_of
from analyze.rankings.probe_file import probes_of
from analyze.rankings.reference import Reference, pull, reference, references
from analyze.rankings.scores import SCORES, over_all, ranks
from analyze.rankings.signals import NETWORK, in_layer, layer_names
from analyze.results.file import tree_of
from analyze.results.rows import matching_checkpoints
from analyze.statistics.labelled_examples import check_directions, direction_names
from analyze.statistics.regrouping import example_table, held_out

UNKNOWN_WORTH = (
    "No label is known to be wrong beside right ones, so the rank is not known to find any: that "
    "takes a subset corrupted beside clean, or the columns class and true_class of the probe file."
)


TURNING = ("suspicion", "prototype")  # scores whose sign is that of the pull


@dataclass(frozen=True)
class Ranking:
    """Examples in the order of a score, and what signals of wrong labels are worth in this run."""

    by: str
    meaning: str
    against: str  # what each example is compared with
    layer: str
    checkpoint: str  # or ``all``
    rows: list[dict[str, object]]  # rank, probe, subset, given_class, true_class, score
    signals: list[dict[str, object]]  # areas and average precisions; empty where nothing is known
    sentences: list[str]


def examples(
    results: str | Path | xr.DataTree,
    *,
    by: str = "suspicion",
    layer: str | None = None,
    checkpoint: str | None = None,
    against: str | None = None,
    probes: str | Path | None = None,
    signals: bool = False,
) -> Ranking:
    """Single examples ranked by how they pull on others: ``analyze examples``.

    Args:
        results: A results file of a run with ``directions``, or the tree of one.
        by: ``suspicion``, ``prototype``, ``influence`` or ``change``; ``docs/examples.md`` defines
            each.
        layer: A layer, or a glob of layers that are taken together; None: the whole network.
        checkpoint: A checkpoint, or a glob that fits one; None: the mean over all.
        against: What an example is compared with: a subset, ``all``, or a column, for the rest of
            its own label. None: its given class where the run has directions for all classes, else
            ``all``.
        probes: The probe file, which has classes; None: where the run read it.
        signals: Whether to give every signal in every layer and at every checkpoint, in place of
            the best of each.

    Returns:
        A ``Ranking``: its ``rows`` from rank 1 on, and where the labels that are wrong are known
        ``signals`` with the area under the receiver operating characteristic and the average
        precision of each, and ``sentences`` about the best.

    Raises:
        InputError: no results file, no directions in it, no such score, layer, checkpoint or
            direction, other probes, or ``signals`` where wrong labels are not known.

    Example:
        ``analyze.examples("half_noise.h5", by="suspicion").rows[0]["probe"]``
    """
    if by not in SCORES:
        raise unknown("there is no such score", f"--by {by}", SCORES, "--by suspicion")
    tree = tree_of(results)
    check_directions(tree)
    beside = None if isinstance(results, xr.DataTree) else Path(results).parent
    probe_set, missing = probes_of(tree, probes, beside)
    labels = labels_of(tree, probe_set)
    compared = reference(tree, against or _default(tree, labels))
    layer = NETWORK if layer is None else _layer(tree, layer)
    place = None if checkpoint is None else _checkpoint(tree, checkpoint)
    score = _score(tree, by, compared, layer, place)
    found = evaluate(tree, labels)
    if signals and found is None:
        raise _not_known(labels)
    known, turned = worth(score, SCORES[by].wrong_is_high, labels)
    cancels = _cancels(tree, compared) if by in TURNING and (turned or found is None) else ""
    of_it = (missing, _without_score(score, by, place), known, cancels)
    sentences = [said for said in of_it if said]
    sentences += [UNKNOWN_WORTH] if found is None else found.sentences
    if found is not None and compared.name.partition("=")[0] in labels.telling:
        sentences.append(
            f"{compared.name} is made of what tells wrong labels; the signals do not use it."
        )
    return Ranking(
        by, SCORES[by].meaning, compared.name, layer, "all" if place is None else place,
        _rows(tree, labels, score), [] if found is None else found.rows(signals), sentences,
    )  # fmt: skip


def _cancels(results: xr.DataTree, compared: Reference) -> str:
    """Why the sum of all training gradients may turn a ranking around, and what to do; or empty."""
    if compared.name != ALL:
        return ""
    held, measured = held_out(results), direction_names(results)
    known = [name for name in held if name in measured]
    hint = "held-out probes in the probe file, whose labels are right, would tell"
    if known:
        hint = f"--against {known[0]}"
    elif held:
        wanted = ",".join([*measured, held[0]])
        hint = f"analyze run RUN --directions {wanted} --output OUT.h5, then --against {held[0]}"
    return (
        "The sum of all training gradients is, near a minimum, what is left where right and wrong "
        f"labels cancel: the cosine with it may turn its sign. To fix: {hint}."
    )


def _default(results: xr.DataTree, labels: Labels) -> str:
    """What examples are compared with where the user does not say."""
    possible = references(results, labels)
    if not possible:
        measured = direction_names(results)
        telling = [name for name in measured if name in labels.telling]
        known = f"--against {telling[0]}, which uses what is known of the labels; or " * bool(
            telling
        )
        raise InputError(
            "there is nothing to compare examples with",
            found=f"directions that tell which labels are wrong, or movements of the weights: "
            f"{listed(measured)}",
            expected="the sum of all training probes, or of each given class",
            fix=f"{known}analyze run RUN --directions {','.join([*measured, ALL])} --output OUT.h5",
        )
    return possible[0]


def _layer(results: xr.DataTree, wanted: str) -> str:
    """A layer, or a glob that fits some."""
    names = layer_names(results)[1:]
    if not any(fnmatchcase(name, wanted) for name in names):
        close = [*like(wanted, names), names[0]][0]
        raise InputError(
            "no such layer in the results",
            found=f"--layer {wanted!r}",
            expected=f"a layer, or a pattern that fits some of {listed(names)}",
            fix=f"--layer {close!r}, or none for the whole network",
        )
    return wanted


def _checkpoint(results: xr.DataTree, wanted: str) -> str:
    """The measured checkpoint of a name, or of a glob that fits one."""
    found = matching_checkpoints(results, wanted)
    if len(found) > 1:
        raise InputError(
            "more than one checkpoint fits",
            found=f"{wanted!r}: {listed(found)}",
            expected="one of them, or none for the mean over all",
            fix=f"--checkpoint {found[-1]!r}",
        )
    status = str(results.to_dataset()["status"].sel(checkpoint=found[0]).item())
    if status != "ok":
        raise InputError(
            "the checkpoint was not measured",
            found=f"{found[0]}: {status}",
            expected="one that was",
            fix="leave --checkpoint out for the mean over all",
        )
    return found[0]


def _score(
    results: xr.DataTree, by: str, compared: Reference, layer: str, checkpoint: str | None
) -> np.ndarray:
    """The score of every example, ``[N]``."""
    group = in_layer(results, layer)
    values = SCORES[by].of(pull(group, compared))
    if checkpoint is None:
        return over_all(values)
    return values[list(group["checkpoint"].values).index(checkpoint)]


def _without_score(score: np.ndarray, by: str, checkpoint: str | None) -> str:
    """How many examples have no score, and why; empty where all have one."""
    count = int(np.isnan(score).sum())
    if not count:
        return ""
    why = "no gradient, or no others with one, where it was measured"
    if by == "change" and count == len(score):
        where = "the run" if checkpoint is None else checkpoint
        why = f"{where} has no cosine, or none was measured before it to compare with"
    return f"{count:,} of {len(score):,} examples have no score, and no rank: {why}."


def _rows(results: xr.DataTree, labels: Labels, score: np.ndarray) -> list[dict[str, object]]:
    """A row for each example, in the order of their ranks; equal ones by their ids."""
    table = example_table(results)
    number, subset = table["probe"].values, table["subset"].values.astype(str)
    rank = ranks(score)
    order = np.lexsort((number, np.nan_to_num(rank, nan=math.inf)))
    return [
        {
            "rank": None if np.isnan(rank[k]) else int(rank[k]),
            "probe": int(number[k]),
            "subset": str(subset[k]),
            **({} if labels.given is None else {"given_class": str(labels.given[k])}),
            **({} if labels.true is None else {"true_class": str(labels.true[k])}),
            "score": None if np.isnan(score[k]) else float(score[k]),
        }
        for k in order
    ]


def _not_known(labels: Labels) -> InputError:
    known = "no label is known to be wrong" if labels.wrong is None else labels.known_by
    return InputError(
        "it is not known which labels are wrong",
        found=known,
        expected=f"{FEWEST} wrong labels and {FEWEST} right ones at least, by the subsets "
        "corrupted and clean, or by the column true_class of the probe file",
        fix="analyze probes build PROBES.safetensors --noise true_labels:FILE, or no --signals",
    )
