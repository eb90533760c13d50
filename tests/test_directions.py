"""Dot products of examples' gradients with directions: against one-at-a-time plain autograd."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from analyze import ProbeSet, measure
from analyze.errors import CheckpointError, InputError
from analyze.gradients.checks.proving import NO_DERIVATIVE
from analyze.gradients.engine import Engine
from analyze.gradients.forms import Explicit, OuterProducts, Placed, PulledBack, ScatteredRows, Sum
from analyze.gradients.losses import CrossEntropy
from analyze.gradients.measurement import Measurement, Settings
from analyze.gradients.rules.one_call import OfOneCall
from tests import oracle
from tests.agreement import FOLDS, SUBSETS, TIGHT, reset_for, with_probes
from tests.cases import CASES, NAMED, Case, settled
from tests.conftest import DEVICE
from tests.nightly import variants

NAMES = ("clean", "all", "held_out", "update", "weights")
Vectors = dict[str, np.ndarray]  # by parameter, ``[values]``


def following(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Other weights, as a step of training would leave them."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: p.detach() + 0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for name, p in model.named_parameters()
        if p.is_floating_point() or p.is_complex()
    }


def measured(case: Case, **options) -> tuple[Engine, Measurement]:
    """The case along directions of all kinds, and the engine that measured it."""
    settings = {"precision": "float64", "device": DEVICE, "batch_norm": "saved"} | options
    (model, probes), after = with_probes(case), following(with_probes(case)[0])
    engine = Engine(probes, CrossEntropy(), Settings(folds=FOLDS, directions=NAMES, **settings))
    engine.prepare([with_probes(case)[0]])
    return engine, engine.measure(model, following=after)


def expected_vectors(case: Case, gradients: Vectors) -> dict[str, Vectors]:
    """The directions by name: sums of the oracle's gradients, and weights."""
    model = settled(case)[0]
    count = len(next(iter(gradients.values())))
    subset = np.array([SUBSETS[k % 3] for k in range(count)])
    members = {name: subset == name for name in SUBSETS} | {"all": subset != "held_out"}
    sums = {k: {n: g[rows].sum(0) for n, g in gradients.items()} for k, rows in members.items()}
    weights = {n: flat(p.detach()) for n, p in model.named_parameters()}
    update = {n: flat(p) - weights[n] for n, p in following(model).items()}
    return sums | {"update": update, "weights": weights}


def flat(values: torch.Tensor) -> np.ndarray:
    return oracle.real_parts(values).double().flatten().numpy()


@pytest.mark.parametrize("case", variants(CASES, lambda case: case.rules))
def test_alignments_agree_with_the_oracle_and_the_gram_matrix(case):
    engine, found = measured(case)
    model, inputs, targets = settled(case)
    gradients = oracle.gradients(model, inputs, targets, between=reset_for(case))
    vectors = expected_vectors(case, gradients)
    for p, name in enumerate(found.parameters):
        if name in engine.proof.zero_to_rounding:
            continue
        for v, direction in enumerate(NAMES):
            norm, values = found.direction_squares[v, p] ** 0.5, found.alignment[v, p]
            if name not in gradients:
                assert (values == 0).all()
                continue
            gradient, vector = gradients[name], vectors[direction][name]
            assert norm == pytest.approx(np.linalg.norm(vector), rel=TIGHT)
            off = np.abs(values - gradient @ vector)
            allowed = TIGHT * np.linalg.norm(gradient, axis=1) * norm
            assert (off <= allowed).all(), f"{name} along {direction}: {off.max():.1e}"
    assert_adds_up(found)
    assert NO_DERIVATIVE not in engine.notes


def assert_adds_up(found: Measurement) -> None:
    """Alignments with sums add up to products of sums, to 1e-10 of the lengths added up."""
    cells = [name for name in SUBSETS for _ in range(FOLDS)]
    subset = np.array([SUBSETS[k % 3] for k in range(len(found.loss))])
    for v, direction in enumerate(NAMES[:3]):
        along = [name == direction or (direction == "all" and name != "held_out") for name in cells]
        for other in SUBSETS:
            rows, own = subset == other, np.array(cells) == other
            expected = np.nan_to_num(found.gram[:, own][:, :, along].sum((1, 2)))
            squares = np.nan_to_num(found.squared_norms[:, own].sum(1))
            scale = np.sqrt(rows.sum() * squares * found.direction_squares[v])
            off = np.abs(found.alignment[v][:, rows].sum(1) - expected)
            assert (off <= 1e-10 * scale).all()


SPOILT = {
    "linear-wide": OuterProducts, "embedding": ScatteredRows, "batch-norm-1d": Explicit,
    "low-rank": PulledBack, "tables": Placed, "tied-embedding": Sum, "queries": OfOneCall,
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a_wrong_product_gives_way_to_another_method(name, monkeypatch):
    """Products are proven like norms, and what is wrong is measured by the next method."""
    kind, case = SPOILT[name], NAMED[name]
    right = kind.dots
    monkeypatch.setattr(kind, "dots", lambda self, *how: 1.00001 * right(self, *how))
    engine, found = measured(case)
    assert {"vmap(grad)", "one at a time"} & {*engine.plan.named_methods.values()}
    monkeypatch.setattr(kind, "dots", right)
    expected = measured(case)[1]
    np.testing.assert_allclose(found.alignment, expected.alignment, rtol=1e-8, atol=1e-9)


def test_a_wrong_product_that_no_proven_probe_shows_is_found_in_the_run(monkeypatch):
    """In batches of other sizes than the proof's: by the Gram matrix, which is refused."""
    right = Explicit.dots

    def wrong(self, *how):
        return right(self, *how) * (1.0 if self.count <= 3 else 1.01)

    monkeypatch.setattr(Explicit, "dots", wrong)
    with pytest.raises(CheckpointError, match="two ways to one dot product disagree") as refused:
        measured(NAMED["batch-norm-1d"])
    assert "along 'clean'" in refused.value.found


class Reversed(torch.nn.Linear):
    """A layer with a gradient that is not its derivative, as adversarial training has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        if y.requires_grad:
            y.register_hook(torch.neg)
        return y


@pytest.mark.parametrize(("layer", "told"), [(Reversed, True), (torch.nn.Linear, False)])
def test_gradients_that_are_no_derivatives_are_told(layer, told):
    """The forward pass of dual numbers knows nothing of the backward pass."""
    torch.manual_seed(0)
    model, probes = layer(5, 3), ProbeSet(torch.randn(12, 5), torch.arange(12) % 3)
    tree = measure(model, probes, device=DEVICE, directions=["all"])
    assert (NO_DERIVATIVE in json.loads(tree.attrs["provenance"])["warnings"]) == told


@pytest.mark.parametrize("directions", [[1], [None], ["all", 2.0], [b"all"], [("all",)]])
def test_a_direction_is_a_text(directions):
    probes = ProbeSet(np.ones((4, 2), np.float32), np.array([0, 1, 0, 1]), ["a"] * 4)
    with pytest.raises(InputError, match="a list of texts"):
        measure(torch.nn.Linear(2, 2), probes, directions=directions)


@pytest.mark.parametrize("name", ["conv2d", "language-model"])
def test_threads_that_share_the_batches_give_the_bits_of_one(name):
    """In both passes, whichever thread has a batch."""
    found = []
    for shares in (1, 2):
        (model, probes), after = with_probes(NAMED[name]), following(with_probes(NAMED[name])[0])
        settings = Settings("cpu", batch_norm="saved", batch_size=2, directions=NAMES)
        engine = Engine(probes, CrossEntropy(), settings)
        engine.prepare([with_probes(NAMED[name])[0]])
        engine.threads, engine._state = shares, replace(engine.current, shares=shares)
        found.append(engine.measure(model, following=after))
    one, two = found
    assert one.alignment.tobytes() == two.alignment.tobytes()
    assert one.direction_squares.tobytes() == two.direction_squares.tobytes()
