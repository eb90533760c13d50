"""Dot products of gradients with directions: every way to them, in every precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analyze.gradients.engine import Engine
from analyze.gradients.forms import Form, OuterProducts
from analyze.gradients.forms.dots import dot_products, dot_products_of_pairs
from analyze.gradients.forms.outer_products import SINGLY_BY_ONEDNN
from analyze.gradients.losses import CrossEntropy
from analyze.gradients.measurement import Settings
from analyze.gradients.step.along import Along
from tests import oracle
from tests.agreement import SUBSETS, reset_for, with_probes
from tests.cases import NAMED, settled
from tests.conftest import DEVICE
from tests.test_directions import measured

SIZES = [(1, 3), (5, 1024), (3, 64 * 1500), (2, 3 * 5 * 7 * 640)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize(("count", "size"), SIZES)
def test_products_are_those_of_float64(count, size, dtype):
    """Off by less than a rounding of float32 of the lengths, however many entries there are."""
    torch.manual_seed(0)
    values, directions = torch.randn(count, size, dtype=dtype), torch.randn(3, size, dtype=dtype)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    exact = (directions.to(wide).conj() @ values.to(wide).T).real
    lengths = directions.norm(dim=1)[:, None] * values.norm(dim=1)
    found = dot_products(values, directions)
    assert found.dtype == torch.float64
    assert ((found - exact).abs() <= 1e-7 * lengths).all()
    pairs = dot_products_of_pairs(values, directions[:1].expand(count, -1))
    assert ((pairs - exact[0]).abs() <= 1e-7 * lengths[0]).all()


def test_no_product_is_lost_that_float32_has_no_room_for():
    """Sums of gradients of fitted examples are tiny, and so are the gradients themselves."""
    torch.manual_seed(0)
    values, directions = 1e-15 * torch.randn(2, 64 * 1500), 1e-30 * torch.randn(2, 64 * 1500)
    exact = directions.double() @ values.double().T
    along = Along.scaled({"w": directions.clone()}, alone=True)
    found = along.unscaled("w", dot_products(values, along.of("w")))
    np.testing.assert_allclose(found.numpy(), exact.numpy(), rtol=1e-4)


OUTER = [
    "conv1d", "conv2d", "conv2d-groups", "conv2d-depthwise", "conv2d-all-options",
    "conv2d-same-even",
    "transposed-1d", "transposed-2d", "transposed-all-options", "transposed-large-output-padding",
    "windows-after-examples", "windows-before-examples", "called-twice", "linear-2-position-axes",
    "time-major", "matmul-groups", "einsum", "lstm",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTER)
def test_all_ways_to_the_products_agree(name, monkeypatch):
    """By outputs, and by gradients that each algorithm makes, as by explicit gradients."""
    seen = set()

    def by_all_ways(self, directions, algorithm="direct"):
        expected = Form.dots(self, directions)
        ways = {"outputs": lambda: torch.stack([self._dots_of_outputs(v) for v in directions])}
        if self.uses:
            ways = {"uses": lambda: sum(use.dots(directions) for use in self.uses)}
        made = {"direct", "transposed", "singly", *self.makers, *self.single_makers, *self.making}
        for maker in made - {SINGLY_BY_ONEDNN}:
            ways[maker] = lambda maker=maker: self._dots_of_gradients(directions, maker)
        for way, make in ways.items():
            assert torch.allclose(make(), expected, rtol=1e-9, atol=1e-9), (way, self.key)
        seen.update(ways)
        return expected

    monkeypatch.setattr(OuterProducts, "dots", by_all_ways)
    measured(NAMED[name])
    assert {"direct", "transposed", "singly"} <= seen
    assert ("outputs" in seen) or ("uses" in seen)


@pytest.mark.parametrize("name", ["conv2d", "linear-wide", "layer-norm", "token-and-position"])
def test_float32_is_as_good_as_plain_autograd(name):
    """At most three times as far from float64 as plain autograd in float32, in a layer's worst."""
    case = NAMED[name]
    model, probes = with_probes(case)
    settings = Settings(device=DEVICE, batch_norm="saved", folds=2, directions=("clean", "weights"))
    engine = Engine(probes, CrossEntropy(), settings)
    engine.prepare([with_probes(case)[0]])
    found = engine.measure(model)
    rows = np.array([SUBSETS[k % 3] == "clean" for k in range(len(found.loss))])
    exact, plain = ({}, {})
    for gradients, dtype in ((exact, torch.float64), (plain, torch.float32)):
        model, inputs, targets = settled(case)
        own = {n: oracle.real_parts(p.detach()).double().flatten().numpy()
               for n, p in model.named_parameters()}  # fmt: skip
        groups = [[*range(len(targets))]]
        of_all = oracle.gradients(
            model, inputs, targets, between=reset_for(case), dtype=dtype, groups=groups
        )
        for n, g in of_all.items():
            gradients[n] = g @ g[rows].sum(0), g @ own[n], np.linalg.norm(g, axis=1)
    for p, parameter in enumerate(found.parameters):
        if parameter in engine.proof.zero_to_rounding or parameter not in exact:
            continue
        for v in range(2):
            scale = exact[parameter][2].max() * found.direction_squares[v, p] ** 0.5
            ours = np.abs(found.alignment[v, p] - exact[parameter][v]).max() / scale
            theirs = np.abs(plain[parameter][v] - exact[parameter][v]).max() / scale
            assert ours <= 3 * max(theirs, np.finfo(np.float32).eps), (parameter, v)
