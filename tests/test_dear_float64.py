"""Where float64 is dear, float32 is as exact: of whole cases, of Gram matrices, of doubts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from analyze.gradients.device import float64
from analyze.gradients.engine import Engine
from analyze.gradients.forms import (
    Explicit,
    Form,
    OuterProducts,
    ScatteredRows,
    Sum,
    doubts,
    gathered,
    squares,
)
from analyze.gradients.forms.doubts import Doubts, Norms
from analyze.gradients.losses import CrossEntropy
from analyze.gradients.measurement import Settings
from analyze.gradients.sums import gram_matrices
from tests import oracle
from tests.against_oracle import FLOAT32_MEDIAN, FLOAT32_RATIO
from tests.agreement import SETTINGS, expected_of, with_probes
from tests.cases import CASES, Case
from tests.nightly import variants

FORCED = ["gram", "direct", "unfolded"]


@pytest.fixture
def dear(monkeypatch):
    """The processor computes as if float64 were dear there, however little there is to compute."""
    monkeypatch.setattr(float64, "is_dear", lambda device: True)
    monkeypatch.setattr(squares, "FEW", 0)
    monkeypatch.setattr(gathered, "SMALL", 0)
    monkeypatch.setattr(gram_matrices, "FEW_CELLS", 1)


def forced() -> list[tuple[Case, str]]:
    """Every case with every algorithm, each beginning with another."""
    turns = [FORCED[k % 3 :] + FORCED[: k % 3] for k in range(len(CASES))]
    return [(case, name) for case, turn in zip(CASES, turns, strict=True) for name in turn]


@pytest.mark.parametrize(
    ("case", "algorithm"), variants(forced(), lambda case, name: {(m, name) for m in case.rules})
)
def test_every_case_keeps_the_bounds_of_float32(case, algorithm, dear, monkeypatch):
    def algorithms(form):
        has = {"gram", "direct"} | ({"unfolded"} if form.unfolded else set())
        return (algorithm if algorithm in has else "direct",)

    monkeypatch.setattr(OuterProducts, "algorithms", property(algorithms))
    model, probes = with_probes(case)
    engine = Engine(probes, CrossEntropy(), Settings(**(SETTINGS | {"precision": "float32"})))
    engine.prepare([model])
    found, expected = engine.measure(model), expected_of(case)
    plain = expected_of(case, torch.float32)
    for place, name in enumerate(found.parameters):
        if name in engine.proof.zero_to_rounding:
            continue
        allowed = FLOAT32_RATIO * error(plain.gram[name], plain.squared_norms[name], expected, name)
        ours = error(found.gram[place], found.squared_norms[place], expected, name)
        assert ours <= max(FLOAT32_MEDIAN, allowed), name


def error(gram, squared, expected: oracle.Statistics, name: str) -> float:
    of_gram = oracle.scaled_gram_error(gram, expected.gram[name])
    return max(of_gram, oracle.relative_error(squared, expected.squared_norms[name]))


def outer(x: torch.Tensor, dy: torch.Tensor) -> OuterProducts:
    """The gradients of a linear layer, of factors ``[N, T, K]`` and ``[N, T, O]``."""
    (count, positions, inputs), outputs = x.shape, dy.shape[2]

    def factors(start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        return x[start:stop, None], dy[start:stop, None]

    def batch_sum(start: int, stop: int) -> torch.Tensor:
        return torch.einsum("nto,ntk->ok", dy[start:stop], x[start:stop])

    dims, shape = (1, positions, outputs, inputs), torch.Size([outputs, inputs])
    return OuterProducts(count, shape, dims, factors, batch_sum, x)


def exact(x: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    """The squared norms of these gradients by float64."""
    return torch.einsum("nto,ntk->nok", dy.double(), x.double()).square().sum((1, 2))


def settled(one: Form, algorithm: str) -> torch.Tensor:
    """The norms after all doubts."""
    found, waiting = one.summarise(algorithm), Doubts()
    waiting.add(Norms(found.squared_norms, found.unsure), one.certain, 0)
    waiting.settle()
    return found.squared_norms


def factors_of(scale_of_x: float, scale_of_dy: float) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    x, dy = torch.randn(3, 7, 50, generator=draw), torch.randn(3, 7, 30, generator=draw)
    return x * scale_of_x, dy * scale_of_dy


SCALES = [(1.0, 1.0), (1e10, 1e-21), (1e15, 1e-22), (1e-22, 1e15), (1e20, 1e-20), (1e-20, 1e20),
          (1.0, 1e-22), (1e-22, 1.0), (1e-19, 1e-19), (1e15, 1.0), (1e18, 1e18),
          (1e4, 1e-38)]  # fmt: skip


@pytest.mark.parametrize("algorithm", ["gram", "direct"])
@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("where", ["on a processor", "where float64 is dear"])
def test_factors_of_any_size_have_exact_norms(where, scales, algorithm, request):
    """One may hide that the squares of the other are below float32's smallest number."""
    if where != "on a processor":
        request.getfixturevalue("dear")
    x, dy = factors_of(*scales)
    found = settled(outer(x, dy), algorithm)
    torch.testing.assert_close(found, exact(x, dy), rtol=2e-6, atol=0.0)


@pytest.mark.parametrize("scales", [(1.0, 1.0), (1e10, 1e-10), (1e-8, 1.0)], ids=str)
def test_only_norms_that_may_be_wrong_are_made_again(scales, dear):
    for algorithm in ("gram", "direct"):
        assert not outer(*factors_of(*scales)).summarise(algorithm).unsure.any()


@pytest.mark.parametrize("left", [0.5, 1e-2, 1e-5])
@pytest.mark.parametrize("where", ["on a processor", "where float64 is dear"])
def test_terms_that_cancel_leave_exact_norms(where, left, request):
    """As behind a norm layer: nearly equal inputs, whose gradients add up to nearly nothing."""
    if where != "on a processor":
        request.getfixturevalue("dear")
    x, dy = factors_of(left, 1.0)
    x, dy = x + torch.linspace(-1, 1, 50), dy - dy.mean(1, keepdim=True)
    x[0] -= torch.linspace(-1, 1, 50)  # one example in which they do not
    plain = torch.einsum("nto,ntk->nok", dy, x).double().square().sum((1, 2))
    allowed = max(1e-6, 3 * (plain / exact(x, dy) - 1).abs().max().item())
    found = outer(x, dy).summarise("gram")
    assert found.unsure is None or found.unsure.tolist() == [False, left < 0.5, left < 0.5]
    torch.testing.assert_close(settled(outer(x, dy), "gram"), exact(x, dy), rtol=allowed, atol=0.0)


@pytest.mark.parametrize("algorithm", ["gram", "direct"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(value, algorithm, dear):
    x, dy = factors_of(1.0, 1.0)
    dy[1, 2, 3] = value
    found = settled(outer(x, dy), algorithm)
    assert found.isfinite().tolist() == [True, False, True]


@pytest.mark.parametrize("algorithm", ["gram", "direct"])
def test_zero_stays_zero(algorithm, dear):
    x, dy = factors_of(1.0, 1.0)
    dy[1] = 0.0
    found = settled(outer(x, dy), algorithm)
    assert found[1] == 0.0
    assert found[0] > 0.0


def test_the_doubts_of_a_batch_are_looked_at_together(dear, monkeypatch):
    looks = []
    cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: looks.append(tensor) or cpu(tensor))
    waiting, norms = Doubts(), []
    for scale in (1e-22, 1.0, 1e-22):
        one = outer(*factors_of(scale, 1.0))
        found = one.summarise("gram")
        norms.append(found.squared_norms)
        waiting.add(Norms(found.squared_norms, found.unsure), one.certain, 1)
    assert not looks
    waiting.settle()
    assert len(looks) == 1
    for scale, found in zip((1e-22, 1.0, 1e-22), norms, strict=True):
        torch.testing.assert_close(found, exact(*factors_of(scale, 1.0)), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize(("held", "left"), [(1, 4), (40, 1), (1000, 0)])
def test_doubts_hold_no_more_memory_than_a_share_of_a_batch(held, left, monkeypatch):
    monkeypatch.setattr(doubts, "largest_batch_bytes", lambda device: 100 * doubts.SHARE)
    waiting, unsure = Doubts(), torch.zeros(2, dtype=torch.bool)
    for _ in range(4):
        waiting.add(Norms(torch.ones(2), unsure), lambda examples: torch.ones(2), held)
    assert len(waiting._waiting) == left


def test_norms_in_no_doubt_hold_nothing():
    waiting = Doubts()
    waiting.add(Norms(torch.ones(2)), lambda examples: torch.ones(2), 1 << 60)
    assert not waiting._waiting


@pytest.mark.parametrize("most", [1, 2, 5])
def test_examples_in_doubt_are_made_again_some_at_a_time(most, monkeypatch):
    made = []

    class Counted(Explicit):
        def explicit(self, start, stop):
            made.append((start, stop))
            return super().explicit(start, stop)

        def chunk(self, algorithm, workers=None):
            return most

    one = Counted(torch.arange(24.0).view(8, 3))
    examples = [0, 2, 3, 4, 7]
    found = one.certain(examples)
    torch.testing.assert_close(found, one.values[examples].double().square().sum(1))
    assert [n for start, stop in made for n in range(start, stop)] == examples
    assert max(stop - start for start, stop in made) == min(most, 3)


CARDS = {
    "A100": ((8, 0), True), "H200": ((9, 0), True), "RTX 4090": ((8, 9), False),
    "RTX 3090": ((8, 6), False), "T4": ((7, 5), False), "B300": ((10, 3), False),
    "RTX 5090": ((12, 0), False),
}  # fmt: skip


@pytest.mark.parametrize(("capability", "fast"), CARDS.values(), ids=CARDS)
def test_cards_that_are_fast_in_float64_are_known(capability, fast):
    card = SimpleNamespace(major=capability[0], minor=capability[1], name="NVIDIA", gcnArchName="")
    assert float64.is_fast(card) == fast


@pytest.mark.parametrize(
    ("architecture", "fast"),
    [("gfx90a:sramecc+:xnack-", True), ("gfx942", True), ("gfx1100", False)],
)
def test_of_amd_the_architecture_counts(architecture, fast, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.4")
    card = SimpleNamespace(major=9, minor=0, gcnArchName=architecture)
    assert float64.is_fast(card) == fast


def test_of_intel_the_name_counts():
    assert float64.is_fast(SimpleNamespace(name="Intel(R) Data Center GPU Max 1550"))
    assert not float64.is_fast(SimpleNamespace(name="Intel(R) Arc(TM) B580 Graphics"))


def test_float64_is_not_dear_on_a_processor():
    assert not float64.is_dear(torch.device("cpu"))


def tied(size_of_rows: float, opposite: float) -> Sum:
    """A table that is looked up and multiplied with, 6 rows of 4 values.

    The example at 1 looks up in two calls as much as the products take away but for ``opposite``.
    """
    draw = torch.Generator().manual_seed(0)
    x, dy = torch.randn(3, 7, 4, generator=draw), torch.randn(3, 7, 6, generator=draw)
    dy *= size_of_rows
    rows = torch.arange(6).repeat(3, 1)  # [N, T]
    table = torch.einsum("nto,ntk->nok", dy, x)
    looked_up = torch.randn(3, 6, 4, generator=draw) * size_of_rows
    looked_up[1] = opposite * looked_up[1] - table[1]
    return Sum((ScatteredRows(rows, looked_up, 6), outer(x, dy)))


@pytest.mark.parametrize("opposite", [1.0, 1e-2, 1e-4, 0.0])
@pytest.mark.parametrize("size", [1.0, 1e-22, 1e20])
@pytest.mark.parametrize("where", ["on a processor", "where float64 is dear"])
def test_uses_that_cancel_leave_exact_norms(where, size, opposite, request):
    if where != "on a processor":
        request.getfixturevalue("dear")
    one = tied(size, opposite)
    expected = one.explicit(0, 3).double().square().sum((1, 2))
    assert "cross" in one.algorithms
    for algorithm in one.algorithms:
        torch.testing.assert_close(settled(one, algorithm), expected, rtol=3e-6, atol=0.0)


def test_uses_that_do_not_cancel_are_not_made_again(dear):
    unsure = tied(1.0, 1e-3).summarise("cross").unsure
    assert unsure.tolist() == [False, True, False]
