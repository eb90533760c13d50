"""Whole models as people have them, unmodified, against the oracle; and how much runs by rules.

Their norms and Gram matrices, and their examples' dot products with directions.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import analyze
from analyze.gradients.engine import Engine
from analyze.gradients.losses import CrossEntropy
from analyze.gradients.measurement import Settings
from tests import oracle
from tests.architectures import ARCHITECTURES, EXAMPLES, settled
from tests.conftest import DEVICE
from tests.nightly import of_every_run

BOUND = 1e-9
DIRECTIONS = ("all", "update", "weights")
BY_RULE = 0.99  # share of the parameter elements that receive a gradient
EVERY_RUN = {  # each kind of block once, in the smallest model that has it
    "resnet18", "shufflenet-v2", "convnext", "swin-v2", "vision-transformer", "timm-vit-everything",
    "timm-nfnet", "transformer", "transformer-encoder-time-major", "gpt2", "bert",
    "lstm-classifier", "volumes", "u-net",
    "small-inception", "small-resnet-group-norm",
}  # fmt: skip


@pytest.mark.parametrize("architecture", of_every_run(ARCHITECTURES, EVERY_RUN))
def test_ordinary_models_are_exact_and_run_by_rules(architecture):
    model, inputs, targets = settled(architecture)
    tree = analyze.measure(
        model, analyze.ProbeSet(inputs, targets), precision="float64", batch_norm="saved", folds=2,
        device=DEVICE,
    )  # fmt: skip
    parameters = tree["parameters"].to_dataset().isel(checkpoint=0)
    cells = [oracle.fold_of(k, 2) for k in range(EXAMPLES)]
    # Some models keep tensors made from parameters until they are trained again.
    expected = oracle.statistics(
        model, inputs, targets, cells, 2, between=lambda m: m.train().eval(), copied=False
    )
    rounding = set(json.loads(tree.attrs["provenance"])["proof"]["zero_to_rounding"])
    errors = {}
    for parameter in set(expected.gram) - rounding:
        at = parameters.sel(parameter=parameter)
        errors[parameter] = max(
            oracle.relative_error(at["gradient_sqnorm"].values, expected.squared_norms[parameter]),
            oracle.scaled_gram_error(at["gradient_gram"].values, expected.gram[parameter]),
        )
    worst = max(errors, key=errors.__getitem__)
    assert errors[worst] < BOUND, f"{worst}: {errors[worst]:.1e}"
    by_rule = ~np.isin(parameters["method"].values, ["vmap(grad)", "one at a time"])
    used = parameters["method"].values != "never used"
    sizes = parameters["parameter_count"].values
    slow = parameters["parameter"].values[~by_rule & used]
    assert sizes[by_rule & used].sum() >= BY_RULE * sizes[used].sum(), slow


@pytest.mark.parametrize(
    "architecture", of_every_run(ARCHITECTURES, {"small-resnet-group-norm", "transformer"})
)
def test_alignments_of_ordinary_models_are_exact(architecture):
    model, inputs, targets = settled(architecture)
    weights = {n: p.detach().double() for n, p in model.named_parameters()}
    after = {n: p + 0.1 * torch.randn(p.shape).double() for n, p in weights.items()}
    settings = Settings(
        precision="float64", batch_norm="saved", folds=1, device=DEVICE, directions=DIRECTIONS
    )
    engine = Engine(analyze.ProbeSet(inputs, targets), CrossEntropy(), settings)
    engine.prepare([settled(architecture)[0]])
    found = engine.measure(settled(architecture)[0], following=after)
    gradients = oracle.gradients(model, inputs, targets, between=lambda m: m.train().eval())
    for p, name in enumerate(found.parameters):
        if name in engine.proof.zero_to_rounding:
            continue
        if name not in gradients:
            assert (found.alignment[:, p] == 0).all()
            continue
        sums = gradients[name].sum(0)
        vectors = [sums, (after[name] - weights[name]).flatten(), weights[name].flatten()]
        for v, vector in enumerate(map(np.asarray, vectors)):
            off = np.abs(found.alignment[v, p] - gradients[name] @ vector)
            scale = np.linalg.norm(gradients[name], axis=1) * np.linalg.norm(vector)
            assert (off <= BOUND * scale).all(), f"{name} along {DIRECTIONS[v]}: {off.max():.1e}"
