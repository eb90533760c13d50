"""``concat``: the trees of single models of one training as the tree of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from analyze.errors import InputError, counted, listed
from analyze.results.agreement import agreement
from analyze.results.display import Results
from analyze.results.tree import with_derived
from analyze.statistics.regrouping import provenance
from analyze.statistics.warnings import lagging_sentence, warnings_of_the_run

# Settings that must be the same, as numbers of different ones are no series. Their names in the
# provenance, with words for a message.
SETTINGS = {
    "inputs_sha256": "other probes", "probes_sha256": "other labels or subsets of the probes",
    "model": "another model", "loss": "another loss", "precision": "another precision",
    "batch_norm": "other batch norm statistics", "folds": "another number of folds",
    "cells": "other cells", "selected": "other layers or parameters",
    "directions": "other directions", "held_out": "other subsets held out",
}  # fmt: skip
LAYERS = ("layer", "layer_type", "parameter_count")


def concat(trees: Sequence[xr.DataTree], *, name: str = "training loop") -> xr.DataTree:
    """One tree of the trees that ``measure`` gave in a training, as a run would have given it.

    Checkpoints are put in the order of their steps, or of their epochs where no step is known.
    All that is derived from the sums is derived anew.

    Args:
        trees: Results of one model on one probe set by one setting, each with ``step=`` or
            ``epoch=``; results of several checkpoints may be among them.
        name: What the run is called, on pages and in comparisons.

    Returns:
        A results tree, which ``report``, ``compare``, ``show`` and ``examples`` take.

    Raises:
        InputError: no trees, other probes or settings, two of one step, or one without a step.

    Example:
        ``analyze.concat([analyze.measure(net, probes, step=k) for k in training()])``

    Cost: a copy of the sums, and what is derived from them again.
    """
    trees = list(trees)
    _check_trees(trees)
    origins = [provenance(tree) for tree in trees]
    _check_settings(trees, origins)
    _check_parameters(trees)
    order = _order(trees)
    groups = {group: _joined(trees, group, order) for group in ("/", "parameters")}
    with_examples = all("examples" in tree.children for tree in trees)
    if with_examples:
        groups["examples"] = _joined(trees, "examples", order)
    measured = {("/" if group == "/" else f"/{group}"): table for group, table in groups.items()}
    layers = trees[0]["layers"].to_dataset()
    coordinates = {key: layers[key] for key in LAYERS if key != "layer"}
    notes = [] if with_examples else _without_examples(trees)
    tree = with_derived(measured, coordinates, _origin(trees, origins, order, name, notes))
    return Results.of(tree)


def _check_trees(trees: Sequence[Any]) -> None:
    """Refuse what are no results, or none at all."""
    wrong = [type(tree).__name__ for tree in trees if not isinstance(tree, xr.DataTree)]
    wrong += ["a tree without /parameters" for tree in trees
              if isinstance(tree, xr.DataTree) and "parameters" not in tree.children]  # fmt: skip
    if wrong or not trees:
        raise InputError(
            "there is nothing to put in a series",
            found=listed(wrong) or "no trees",
            expected="results of analyze.measure, analyze.run or analyze.open_results",
            fix="analyze.concat([analyze.measure(net, probes, step=0), ...])",
        )


def _check_settings(trees: Sequence[xr.DataTree], origins: Sequence[Mapping[str, Any]]) -> None:
    """Refuse trees that were measured in another way than the first, with both ways."""
    for tree, origin in zip(trees[1:], origins[1:], strict=True):
        differing = [key for key in SETTINGS if origins[0].get(key) != origin.get(key)]
        if not differing:
            continue
        facts = [
            f"{SETTINGS[key]}: {_short(origins[0].get(key))} and {_short(origin.get(key))}"
            for key in differing
        ]
        raise InputError(
            "the trees were measured in different ways",
            found=f"{_names(trees[0])} and {_names(tree)}: {listed(facts, 4)}",
            expected="one model, one probe set and one setting along a series: differences would "
            "look like training",
            fix="measure all in one way, or analyze.compare({'one': first, 'other': second})",
        )


def _check_parameters(trees: Sequence[xr.DataTree]) -> None:
    """Refuse trees with other parameters or layers than the first."""
    first = trees[0]["parameters"].to_dataset()
    for tree in trees[1:]:
        table = tree["parameters"].to_dataset()
        for key in ("parameter", "layer", "parameter_count", "cell"):
            ours, theirs = first[key].values.tolist(), table[key].values.tolist()
            if ours != theirs:
                apart = [str(v) for v in theirs if v not in ours] or [f"{len(theirs)} of them"]
                raise InputError(
                    "the trees are of different models",
                    found=f"{_names(tree)} has other values of {key} than {_names(trees[0])}: "
                    f"{listed(apart, 4)}",
                    expected="the same parameters in the same layers along a series",
                    fix="concat the trees of each model apart, and compare them",
                )


def _order(trees: Sequence[xr.DataTree]) -> np.ndarray:
    """The places of all checkpoints, one tree after the other, in the order of training."""
    steps, epochs = (
        np.concatenate([tree.to_dataset()[key].values.astype(float) for tree in trees])
        for key in ("step", "epoch")
    )
    along, word = (epochs, "epoch") if np.isnan(steps).all() else (steps, "step")
    names = [str(n) for tree in trees for n in tree.to_dataset()["checkpoint"].values]
    if np.isnan(along).any():
        missing = [n for n, value in zip(names, along, strict=True) if np.isnan(value)]
        raise InputError(
            "the order of the trees is not known",
            found=f"{counted(len(missing), 'tree')} without {word}: {listed(missing, 4)}",
            expected="a step for each, or an epoch for each where none has a step",
            fix="analyze.measure(net, probes, step=step)",
        )
    values, counts = np.unique(along, return_counts=True)
    if len(values) != len(along):
        twice = [f"{value:g}" for value in values[counts > 1]]
        raise InputError(
            "two trees are of the same step",
            found=f"{word} {listed(twice, 4)}, more than once",
            expected=f"one tree for each {word}",
            fix=f"leave one out, or give them their own {word}s",
        )
    if len(set(names)) != len(names):
        raise InputError(
            "two checkpoints have the same name",
            found=listed([n for n in dict.fromkeys(names) if names.count(n) > 1], 4),
            expected="a name for each: they are the checkpoints of one training",
            fix="leave one out: results of two runs are compared, by analyze.compare",
        )
    return np.argsort(along)


def _joined(trees: Sequence[xr.DataTree], group: str, order: np.ndarray) -> xr.Dataset:
    """A group of all trees along the checkpoints; what these have in common is the first's."""
    tables = [tree.to_dataset() if group == "/" else tree.children[group].to_dataset()
              for tree in trees]  # fmt: skip
    shared = set.intersection(*(set(table.variables) for table in tables))
    tables = [table[[name for name in tables[0].data_vars if name in shared]] for table in tables]
    tables = [table.drop_vars(set(table.coords) - shared) for table in tables]
    joined = xr.concat(
        tables, "checkpoint", data_vars="minimal", coords="minimal", compat="override",
        join="override", combine_attrs="override",
    )  # fmt: skip
    return joined.isel(checkpoint=order)


def _origin(
    trees: Sequence[xr.DataTree],
    origins: Sequence[Mapping[str, Any]],
    order: np.ndarray,
    name: str,
    notes: list[str],
) -> dict[str, Any]:
    """The provenance of all, as that of one run."""
    records = [
        record
        for tree, origin in zip(trees, origins, strict=True)
        for record in origin.get("checkpoints")
        or [{"checkpoint": str(n)} for n in tree.to_dataset()["checkpoint"].values]
    ]
    warnings = [text for tree in trees for text in _lasting(tree)]
    alone, elsewhere = (
        sum(int(origin.get("verification", {}).get(key, 0)) for origin in origins)
        for key in ("compared_with_autograd_alone", "measured_again_in_another_batch")
    )
    return {
        **origins[-1],
        "run": {"name": name},
        "checkpoints": [records[k] for k in order] if len(records) == len(order) else records,
        "proof": _proof([origin["proof"] for origin in origins if origin.get("proof")]),
        "verification": {
            "compared_with_autograd_alone": alone,
            "measured_again_in_another_batch": elsewhere,
            "agreement": agreement(alone, elsewhere),
        },
        "warnings": [*dict.fromkeys([*warnings, *_other(origins), *notes])],
    }


def _lasting(tree: xr.DataTree) -> list[str]:
    """The warnings of one tree, but for the one that is found again for all checkpoints."""
    return [text for text in warnings_of_the_run(tree) if text not in lagging_sentence(tree)]


def _proof(proofs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The largest errors of all proofs; a parameter is unproven where none of them proves it."""
    errors: dict[str, Any] = {}
    for proof in proofs:
        for parameter, error in proof.get("relative_errors", {}).items():
            known = [e for e in (errors.get(parameter), error) if e is not None]
            errors[parameter] = max(known, default=None)
    common = {
        key: sorted(set.intersection(*(set(proof.get(key, ())) for proof in proofs)))
        for key in ("zero_to_rounding", "unproven")
        if proofs
    }
    examples = sum(int(proof.get("examples") or 0) for proof in proofs)
    return {**(proofs[-1] if proofs else {}), **common, "examples": examples,
            "relative_errors": errors}  # fmt: skip


def _other(origins: Sequence[Mapping[str, Any]]) -> list[str]:
    """Warnings where versions, devices or methods are not the same along the series."""
    programs = {str(origin.get("versions", {}).get("gradient-coherence")) for origin in origins}
    devices = {str(origin.get("device")).partition(":")[0] for origin in origins}
    methods = [origin.get("plan", {}).get("methods", {}) for origin in origins]
    parameters = [n for n in methods[0] if any(m.get(n) != methods[0][n] for m in methods)]
    sentences = []
    if len(programs) > 1:
        sentences.append(f"measured by several versions of the program: {listed(sorted(programs))}")
    if len(devices) > 1:
        sentences.append(
            f"measured on several kinds of devices ({listed(sorted(devices))}): numbers agree "
            "within rounding, and differences as small as that mean nothing"
        )
    if parameters:
        sentences.append(
            f"{listed(parameters, 3)} measured by other methods at some checkpoints than "
            "/parameters says: all of them are exact"
        )
    return sentences


def _without_examples(trees: Sequence[xr.DataTree]) -> list[str]:
    lacking = [_names(tree) for tree in trees if "examples" not in tree.children]
    if len(lacking) == len(trees):
        return []
    return [f"single examples are left out, as {listed(lacking, 3)} has none"]


def _names(tree: xr.DataTree) -> str:
    return listed([str(name) for name in tree.to_dataset()["checkpoint"].values], 2)


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text
