"""Measurements of the cases, what the oracle says of them, and whether the two agree."""

from __future__ import annotations

import json

import torch

import analyze
from tests import oracle
from tests.cases import Case, settled
from tests.conftest import DEVICE

TIGHT = 1e-9  # float64: only the order of rounding may differ
FOLDS = 2
SUBSETS = ["clean", "corrupted", "held_out"]
SETTINGS = {"precision": "float64", "folds": FOLDS, "batch_norm": "saved", "device": DEVICE}


def measured(case: Case, **options):
    """The case's tree in float64, and what the oracle says of it."""
    model, probes = with_probes(case)
    return analyze.measure(model, probes, **(SETTINGS | options)), expected_of(case)


def assert_exact(case: Case, **options):
    """The case's tree, whose numbers are the oracle's, by the methods that are expected."""
    tree, expected = measured(case, **options)
    parameters = tree["parameters"].to_dataset().isel(checkpoint=0)
    methods = dict(zip(parameters["parameter"].values, parameters["method"].values, strict=True))
    assert {name: methods[name] for name in case.methods} == case.methods
    assert_agrees(tree, expected)
    return tree, expected


def with_probes(case: Case) -> tuple[torch.nn.Module, analyze.ProbeSet]:
    """The case's model and examples, every third of one subset."""
    model, inputs, targets = settled(case)
    return model, analyze.ProbeSet(inputs, targets, [SUBSETS[k % 3] for k in range(len(targets))])


def expected_of(case: Case, dtype: torch.dtype = torch.float64) -> oracle.Statistics:
    """What the oracle says, or plain autograd in another precision."""
    model, inputs, targets = settled(case)
    cell = [(k % 3) * FOLDS + oracle.fold_of(k, FOLDS) for k in range(len(targets))]
    return oracle.statistics(
        model, inputs, targets, cell, 3 * FOLDS, dtype=dtype, between=reset_for(case), copied=False
    )


def reset_for(case: Case):
    """What makes a model forget between two passes, for the one that keeps things."""
    return _reset if case.name == "caching" else (lambda model: None)


def _reset(model) -> None:
    model.kept = None
    model.by_device.clear()


def assert_agrees(tree, expected: oracle.Statistics) -> None:
    """Each parameter's Gram matrix and squared norms are those of the oracle."""
    parameters = tree["parameters"].to_dataset().isel(checkpoint=0)
    zero = set(zero_to_rounding(tree))
    assert set(parameters["parameter"].values) == set(expected.gram)
    for name in expected.gram:
        at = parameters.sel(parameter=name)
        if name in zero:
            assert (at["gradient_gram"] == 0).all()
            assert (at["gradient_sqnorm"] == 0).all()
            continue
        gram = oracle.scaled_gram_error(at["gradient_gram"].values, expected.gram[name])
        norms = oracle.relative_error(at["gradient_sqnorm"].values, expected.squared_norms[name])
        assert max(gram, norms) < TIGHT, f"{name} by {at['method'].item()}: {gram:.1e}, {norms:.1e}"


def zero_to_rounding(tree) -> list[str]:
    return json.loads(tree.attrs["provenance"])["proof"]["zero_to_rounding"]
