"""Every algorithm of a form gives the same numbers, whichever is chosen."""

from __future__ import annotations

import math
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import analyze
from analyze.gradients.costs.costs import Costs
from analyze.gradients.data.example_axes import ExampleAxis
from analyze.gradients.data.segments import Segments
from analyze.gradients.device.devices import CPU, KINDS
from analyze.gradients.engine import Engine
from analyze.gradients.forms import (
    Explicit,
    OuterProducts,
    ScatteredRows,
    Sum,
    combined,
    gathered,
    onednn,
    outer_products,
)
from analyze.gradients.forms.form import chunk_length
from analyze.gradients.forms.outer_products import SINGLY, SINGLY_BY_ONEDNN
from analyze.gradients.forms.unfolded import PRODUCTS
from analyze.gradients.losses import CrossEntropy
from analyze.gradients.measurement import Settings
from analyze.gradients.rules import RULES, geometry, normalization
from analyze.gradients.rules.convolution import convolution_forms
from tests import oracle
from tests.agreement import SETTINGS, TIGHT, expected_of, with_probes
from tests.cases import CASES, Case
from tests.nightly import variants

ANY = ["direct", "transposed", *SINGLY, "gram"]
UNFOLDED = {"transposed-1d", "transposed-2d", "transposed-3d", "transposed-all-options",
            "transposed-large-output-padding", "conv2d-same-even", "windows-after-examples",
            "windows-before-examples"}  # fmt: skip
COMBINED = {"called-twice", "siamese", "low-rank", "spectral-norm"}  # used twice, or derived


def algorithms_of(case: Case) -> list[str]:
    """The algorithms that some call of the case has, beside those that give up."""
    if not any(rule.startswith("conv") for rule in case.rules) or case.name in COMBINED:
        return ANY
    if case.name in UNFOLDED:
        return [*ANY, *PRODUCTS]
    depthwise = ["correlated"] if "depthwise" in case.name else []
    return [*ANY, *PRODUCTS, "alone", "grouped", *depthwise]


def forced() -> list[tuple[Case, str]]:
    """The cases with outer products, each with every algorithm, each beginning with another."""
    pairs = []
    for case in CASES:
        if any(rule.startswith(("conv", "linear")) for rule in case.rules):
            algorithms = algorithms_of(case)
            first = len(pairs) % len(algorithms)
            pairs += [(case, name) for name in algorithms[first:] + algorithms[:first]]
    return pairs


def reached(case: Case, algorithm: str) -> set[tuple[str, str]]:
    """Each kind of method by each algorithm, and each convolution by one of them."""
    pairs = {(method, algorithm) for method in case.methods.values() if "linear" in method}
    pairs |= {(rule, algorithm) for rule in case.rules if rule.startswith("conv")}
    return pairs | ({("", case.name)} if algorithms_of(case) != ANY else set())


@pytest.mark.parametrize(("case", "algorithm"), variants(forced(), reached))
def test_forced_algorithms_agree_with_the_oracle(case, algorithm, monkeypatch):
    seen = force(algorithm, monkeypatch)
    monkeypatch.setitem(PRODUCTS, "unfolded by oneDNN", torch.mm)  # it has no float64
    monkeypatch.setattr(onednn, "product", torch.mm)
    agrees_with_the_oracle(case)
    assert seen <= set(algorithms_of(case)), "an algorithm that is not tried"
    assert algorithm in seen or not seen


def test_every_run_tries_each_rule_with_each_algorithm():
    often = [p.values for p in variants(forced(), reached) if not p.marks]
    tried = {(rule, algorithm) for case, algorithm in often for rule in case.rules}
    rules = {rule.name for rule in RULES.values() if rule.name.startswith(("conv", "linear"))}
    assert {(rule, algorithm) for rule in rules for algorithm in ANY} <= tried
    plain = {rule for rule in rules if rule.startswith("conv")}
    assert {(rule, algorithm) for rule in plain for algorithm in PRODUCTS} <= tried
    forward = {rule for rule in plain if "transpose" not in rule}
    assert {(rule, name) for rule in forward for name in ("alone", "grouped")} <= tried
    assert ("conv2d", "correlated") in tried
    assert {case.name for case, _ in often} >= {c.name for c, _ in forced() if "conv" in c.name}


def force(algorithm: str, monkeypatch) -> set[str]:
    """Have every call measured by it, however dear, where it has it; all that some call has."""
    seen = set()

    def algorithms(form):
        has = {*ANY, *form.makers, *form.single_makers}
        has |= PRODUCTS.keys() if form.unfolded else set()
        if form.dims[0] > 1:
            has.remove(SINGLY_BY_ONEDNN)  # a product for each group would be too many
        seen.update(has)
        return (algorithm,) if algorithm in has else ("direct",)

    monkeypatch.setattr(OuterProducts, "algorithms", property(algorithms))
    return seen


@pytest.mark.skipif(not onednn.can_multiply(torch.empty(0)), reason="torch without oneDNN")
@pytest.mark.parametrize(("rows", "shared", "columns"), [(1, 1, 1), (5, 7, 3), (64, 128, 576)])
def test_products_by_onednn_are_those_of_float64(rows, shared, columns):
    torch.manual_seed(0)
    left, right = torch.randn(rows, shared), torch.randn(shared, columns)
    expected = left.double() @ right.double()
    for one, other in ((left, right), (left.t().contiguous().t(), right.t().contiguous().t())):
        found = onednn.product(one, other).double()
        assert ((found - expected).norm() / expected.norm()).item() < 1e-6


@pytest.mark.parametrize(
    ("size", "stride", "copied"),
    [
        ((4, 3), (3, 1), False),
        ((4, 3), (1, 4), False),
        ((4, 3), (7, 1), False),
        ((4, 3), (1, 1), True),  # overlapping windows
        ((4, 3), (8, 2), True),
        ((1, 3), (1, 2), True),
        ((1, 3), (9, 1), False),
        ((4, 1), (1, 5), False),
        ((1, 1), (3, 3), False),
    ],
)
def test_onednn_gets_no_matrix_that_it_is_slow_for(size, stride, copied):
    """Neither rows nor columns that lie together: a thousand times as long."""
    matrix = torch.arange(64.0).as_strided(size, stride)
    plain = onednn._plain(matrix)
    assert (plain.data_ptr() != matrix.data_ptr()) == copied
    assert torch.equal(plain, matrix)


def test_products_by_onednn_are_not_offered_where_they_are_not(monkeypatch):
    assert not onednn.can_multiply(torch.empty(0, dtype=torch.float64))
    for problem in (AttributeError, RuntimeError, TypeError):
        monkeypatch.setattr(onednn, "product", lambda left, right, p=problem: raised(p))
        assert not onednn._is_there.__wrapped__()
    monkeypatch.setattr(onednn, "product", lambda left, right: left @ right + 1)
    assert not onednn._is_there.__wrapped__(), "wrong"


def raised(problem: type[Exception]):
    raise problem


def agrees_with_the_oracle(case: Case) -> None:
    """By the rules that the case names, none of which turned out to be wrong.

    The engine alone: all that follows from its sums takes longer than they do.
    """
    model, probes = with_probes(case)
    engine = Engine(probes, CrossEntropy(), Settings(**SETTINGS))
    engine.prepare([model])
    found, expected = engine.measure(model), expected_of(case)
    assert set(found.parameters) == set(expected.gram)
    for place, name in enumerate(found.parameters):
        if name in engine.proof.zero_to_rounding:
            continue
        if name in case.methods:
            used = str(engine.plan.methods[name])
            assert used == case.methods[name], "demoted: the algorithm is wrong"
        gram = oracle.scaled_gram_error(found.gram[place], expected.gram[name])
        norms = oracle.relative_error(found.squared_norms[place], expected.squared_norms[name])
        assert max(gram, norms) < TIGHT, name


NONE, ALL = 0, 1 << 60
SIZES = [
    (normalization, "FEW", NONE, "batch_norm"),
    (normalization, "FEW", ALL, "batch_norm"),
    (geometry, "MATRIX", NONE, "conv"),
    (geometry, "MATRIX", ALL, "conv"),
    (outer_products, "FEW_POSITIONS", NONE, "conv"),
    (outer_products, "FEW_POSITIONS", ALL, "conv"),
    (outer_products, "TOGETHER", NONE, "conv"),
    (outer_products, "TOGETHER", ALL, "conv"),
    (gathered, "SMALL", NONE, ""),
    (gathered, "SMALL", ALL, ""),
    (gathered, "FULL", NONE, ""),
]

OF_SIZE = {"MATRIX": "gram", "FEW_POSITIONS": "unfolded", "TOGETHER": "singly"}  # that depend on it


def resized() -> list[tuple[Case, ModuleType, str, int]]:
    """The cases with a rule that goes another way from some size on, each with every size moved."""
    return [
        (case, module, name, size)
        for module, name, size, start in SIZES
        for case in CASES
        if any(rule.startswith(start) for rule in case.rules)
    ]


def moved(case: Case, module: ModuleType, name: str, size: int) -> set[tuple[Any, ...]]:
    """Each rule with each size."""
    return {(rule, module, name, size) for rule in case.rules}


@pytest.mark.parametrize(("case", "module", "name", "size"), variants(resized(), moved))
def test_a_way_that_is_chosen_by_size_agrees_at_any_size(case, module, name, size, monkeypatch):
    monkeypatch.setattr(module, name, size)
    if name in OF_SIZE:
        force(OF_SIZE[name], monkeypatch)
    agrees_with_the_oracle(case)


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("most", [1, 3, 4, 100])
@pytest.mark.parametrize("count", [1, 2, 9, 32])
def test_chunks_give_each_worker_as_much(count, most, workers):
    length = chunk_length(count, most, workers)
    chunks = math.ceil(count / length)
    assert length == 1 or length % workers == 0
    assert length < most + workers
    assert chunks <= math.ceil(count / most), "more of them than there must be"


def forms() -> list:
    torch.manual_seed(0)
    rows = torch.randint(4, (5, 3))
    scattered = ScatteredRows(rows, torch.randn(5, 3, 2, dtype=torch.float64), 4)
    explicit = Explicit(torch.randn(5, 4, 2, dtype=torch.float64))
    x, dy = torch.randn(5, 1, 6, 2).double(), torch.randn(5, 1, 6, 4).double()
    outer = OuterProducts(
        5, torch.Size((4, 2)), (1, 6, 4, 2), lambda a, b: (x[a:b], dy[a:b]),
        lambda: torch.einsum("ngto,ngtk->ok", dy, x), x,
    )  # fmt: skip
    return [explicit, scattered, outer]


@pytest.mark.parametrize("second", range(3))
@pytest.mark.parametrize("first", range(3))
def test_forms_of_any_kind_add_up(first, second):
    """A parameter used in two ways: the cross term counts."""
    a, b = forms()[first], forms()[second]
    expected = a.explicit(0, 5) + b.explicit(0, 5)
    both = combined([a, b])
    for algorithm in both.algorithms:
        totals, norms, _ = both.summarise(algorithm)
        torch.testing.assert_close(totals, expected.sum(0, keepdim=True))
        torch.testing.assert_close(norms, expected.flatten(1).square().sum(1))


@pytest.mark.parametrize("lengths", [[5], [2, 3], [1, 1, 3], [1] * 5], ids=str)
@pytest.mark.parametrize("chunk", [1, 1 << 30])
def test_every_algorithm_sums_each_segment_of_a_batch(chunk, lengths, monkeypatch):
    """Whether a chunk of examples holds several segments, or a segment several chunks."""
    monkeypatch.setitem(KINDS, "cpu", replace(CPU, chunk=chunk))
    scattered, explicit, outer = forms()
    for one in (scattered, explicit, outer, combined([scattered, outer])):
        expected = torch.stack([part.sum(0) for part in one.explicit(0, 5).split(lengths)])
        for algorithm in one.algorithms:
            totals, *_ = one.summarise(algorithm, Segments(lengths))
            torch.testing.assert_close(totals, expected, msg=algorithm)


def test_small_gradients_of_many_parameters_are_summed_by_segments_too():
    waiting = gathered.Gathered(Segments([2, 3]))
    explicit = {str(k): Explicit(torch.randn(5, k, 2)) for k in range(1, 4)}
    for name, one in explicit.items():
        waiting.add(name, one, "direct")
    for name, (totals, norms, _) in waiting.summaries().items():
        values = explicit[name].values
        torch.testing.assert_close(totals, torch.stack([values[:2].sum(0), values[2:].sum(0)]))
        torch.testing.assert_close(norms.float(), values.flatten(1).square().sum(1))


WALKS = [
    {},
    {"stride": 2},
    {"stride": 2, "padding": 1},
    {"stride": 3, "padding": 2, "dilation": 2},
    {"dilation": 3},
    {"padding": 4},  # wider than what it is correlated with
    {"padding": "same"},
]


@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("walk", WALKS, ids=str)
def test_correlations_are_gradients_of_depthwise_convolutions(walk, spatial, kernel):
    """However the kernel walks, in any number of dimensions, an even kernel padded to "same"."""
    torch.manual_seed(0)
    function = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1]
    x = torch.randn(3, 4, *[8, 7, 9][:spatial], dtype=torch.float64)
    weight = torch.randn(4, 1, *[kernel] * spatial, dtype=torch.float64)
    output = function(x, weight, groups=4, **walk)
    dy = torch.randn_like(output)
    arguments = RULES[function].bind((x, weight), {"groups": 4, **walk})
    axis = ExampleAxis(0)
    form = convolution_forms(spatial, arguments, dy, axis, frozenset({"weight"}))["weight"]
    assert isinstance(form, OuterProducts)
    correlated = form.makers["correlated"](0, 3)
    for n in range(3):
        leaf = weight.clone().requires_grad_()
        function(x[n : n + 1], leaf, groups=4, **walk).backward(dy[n : n + 1])
        torch.testing.assert_close(correlated[n], leaf.grad)


class Both(nn.Module):
    """A linear layer and a convolution with the same matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.convolution = nn.Linear(4, 6), nn.Conv2d(4, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # [N, T, 4]
        return self.linear(tokens).sum(1) + self.convolution(x).sum((2, 3))


@pytest.mark.parametrize("fastest", ["alone", "grouped"])
def test_no_call_gets_an_algorithm_that_only_another_one_has(fastest, monkeypatch):
    """What is chosen for one call is used for calls of the same kind alone."""

    def cheapest(costs, form):
        return fastest if fastest in form.algorithms else min(form.algorithms)

    monkeypatch.setattr(Costs, "cheapest", cheapest)
    probes = analyze.ProbeSet(torch.randn(6, 4, 3, 3), torch.arange(6))
    tree = analyze.measure(Both(), probes, folds=1, device="cpu")
    methods = tree["parameters"].to_dataset()["method"].values
    assert set(methods) == {"linear", "conv2d"}


def test_an_unknown_algorithm_is_refused():
    with pytest.raises(ValueError, match="no algorithm 'magic'"):
        Sum(tuple(forms())).summarise("magic")


def test_tiny_gradients_do_not_underflow():
    """Squares of 1e-30 are below float32's smallest number."""
    _, norms, _ = Explicit(torch.full((2, 3), 1e-30)).summarise()
    torch.testing.assert_close(
        norms, torch.full((2,), 3e-60, dtype=torch.float64), rtol=1e-6, atol=0
    )
