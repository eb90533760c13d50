"""No number goes wrong unseen: what a plan and its proof cannot know shows while measuring.

Models whose rows, mates or parameters depend on data that a few probes do not show. The numbers
must be those of plain autograd, or the model refused with the probes at fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import analyze
from analyze.gradients.checks.verification import ExpectedSeconds
from analyze.gradients.data.batches import batches
from analyze.gradients.step.collector import Collector
from analyze.gradients.sums.observation import Watch, watch
from analyze.gradients.workload import extremes, telling
from analyze.results.agreement import agreement
from tests import oracle

EXAMPLES = 60
CLASSES = 4
SETTINGS = {"precision": "float64", "folds": 1, "device": "cpu", "batch_norm": "saved"}
TIGHT = 1e-9


def measured(model: nn.Module, inputs, targets: Tensor, **options):
    return analyze.measure(model, analyze.ProbeSet(inputs, targets), **(SETTINGS | options))


def assert_right(model: nn.Module, inputs, targets: Tensor, tight: float = TIGHT, **options):
    """Every parameter's numbers are those of plain autograd, one example at a time."""
    tree = measured(model, inputs, targets, **options)
    expected = oracle.statistics(model.double(), inputs, targets, [0] * len(targets), 1)
    found = tree["parameters"].to_dataset().isel(checkpoint=0, cell=0, cell_other=0)
    for name in expected.gram:
        own = found.sel(parameter=name)
        norms = expected.squared_norms[name][0]
        assert own["gradient_sqnorm"].item() == pytest.approx(norms, rel=tight), name
        assert own["gradient_gram"].item() == pytest.approx(
            expected.gram[name][0, 0], rel=1e3 * tight, abs=tight * norms
        ), name
    return tree


def vectors(count: int = EXAMPLES, width: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def classes(count: int = EXAMPLES, seed: int = 1) -> Tensor:
    return torch.randint(CLASSES, (count,), generator=torch.Generator().manual_seed(seed))


def hidden(x: Tensor, mark: Callable[[Tensor, int], None], count: int = 1) -> Tensor:
    """The examples with some of them marked, none of which a plan is made or proven on."""
    for first in range(20, len(x) - count):
        marked = x.clone()
        rows = range(first, first + count)
        for row in rows:
            mark(marked, row)
        if set(telling(extremes({"": marked.numpy()}), len(x), 8)).isdisjoint(rows):
            return marked
    raise AssertionError("every example stands out")


def provenance(tree) -> dict:
    return json.loads(tree.attrs["provenance"])


class Body(nn.Module):
    """Two layers, with room for what a subclass does in between."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.head = nn.Linear(width, 8), nn.Linear(8, CLASSES)


# Rows that depend on the data


class Reordered(Body):
    """Works on its batch in another order where the marked example is in it, and puts it back."""

    def __init__(self, order: Callable[[Tensor], Tensor], marked: float) -> None:
        super().__init__()
        self.order, self.marked = order, marked

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(len(x))
        if bool((x[:, 0] == self.marked).any()):
            places = self.order(x)
        h = torch.tanh(self.first(x[places]))
        return self.head(h)[torch.argsort(places)]


class SortedByLength(nn.Module):
    """The usual idiom before packing: longest first, and back at the end."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embed = nn.Embedding(30, 8)
        self.recurrent = nn.GRU(8, 8, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, ids: Tensor, length: Tensor) -> Tensor:
        length, order = torch.sort(length, descending=True)
        states, _ = self.recurrent(self.embed(ids[order]))
        last = states.gather(1, (length - 1)[:, None, None].expand(-1, 1, 8))[:, 0]
        return self.head(last)[torch.argsort(order)]


def test_a_batch_that_is_sorted_by_length_is_measured_right():
    length = torch.full((EXAMPLES,), 6)
    length[[7, 11, 26, 42, 52]] = torch.tensor([3, 5, 2, 4, 1])
    ids = torch.randint(30, (EXAMPLES, 6), generator=torch.Generator().manual_seed(0))
    assert_right(SortedByLength(), {"ids": ids, "length": length}, classes())


ORDERS = {
    "reversed": lambda x: torch.arange(len(x)).flip(0),
    "shifted": lambda x: torch.arange(len(x)).roll(1),
    "by-first-value": lambda x: torch.argsort(x[:, 0]),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_rows_in_another_order_in_one_batch_are_found(order, precision):
    """Nothing of it shows in calibration and proof; then it is measured by another method."""
    x = hidden(vectors(128), lambda x, row: x[row, :1].fill_(0.125))
    model = Reordered(ORDERS[order], marked=0.125)
    tight = TIGHT if precision == "float64" else 1e-4
    x = x.double() if precision == "float64" else x
    tree = assert_right(model, x, classes(128), tight, batch_size=16, precision=precision)
    assert "another gradient than by plain autograd" in str(provenance(tree)["warnings"])
    assert "linear" not in set(tree["parameters"]["method"].values)


# Mates


class Mixing(Body):
    """Mixes examples where one of them is special."""

    def __init__(self, scale: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x * self.scale(x))))


def in_window(x: Tensor) -> Tensor:
    """The marked example, which is extreme in nothing."""
    return (x[:, 1] > 0.5) & (x[:, 1] < 0.5001)


MIXTURES = {
    "norm": lambda x: 1 / (4 * x * in_window(x)[:, None]).norm().clamp_min(1.0),
    "any": lambda x: torch.where(in_window(x).any(), 0.5, 1.0),
    "count": lambda x: 1.0 + in_window(x).sum(),
}


def mark(x: Tensor, row: int) -> None:
    """Into the window."""
    x[row, 1] = 0.50005


@pytest.mark.parametrize("kind", MIXTURES)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_mixing_by_one_example_is_refused_with_the_probes(kind, precision):
    probes = analyze.ProbeSet(hidden(vectors(128), mark), classes(128), id=1000 + np.arange(128))
    options = SETTINGS | {"precision": precision, "batch_size": 16}
    with pytest.raises(analyze.InputError, match="mixes the examples") as refusal:
        analyze.measure(Mixing(MIXTURES[kind]), probes, **options)
    assert "beside probes 10" in refusal.value.found


class Averaging(Body):
    """The marked example is taken for the mean of its batch."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        return self.head(torch.where(in_window(x)[:, None], h.mean(0, keepdim=True), h))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_an_example_that_its_mates_disturb_is_refused_though_only_they_are_looked_at(precision):
    """What shows is a mate, whose rows have the gradient of the marked example's loss as well."""
    x = hidden(vectors(128), mark)
    row = int(in_window(x).nonzero())
    probes = analyze.ProbeSet(x, classes(128), id=1000 + np.arange(128))
    options = SETTINGS | {"precision": precision, "batch_size": 16}
    with pytest.raises(analyze.InputError, match="mixes the examples") as refusal:
        analyze.measure(Averaging(), probes, **options)
    assert refusal.value.found.startswith(f"probe {1000 + row}: loss")
    assert "with another in its place" in refusal.value.found


def test_mixing_by_an_outlier_is_refused_before_anything_is_measured():
    """Probes that stand out are among those by which a model is found out."""
    x = vectors(128).clamp(-3, 3)
    x[:, 4] = 3.0
    x[55, 0] = 30.0
    model = Mixing(lambda x: 1 / x.abs().max())
    with pytest.raises(analyze.InputError, match="mixes the examples") as refusal:
        measured(model, x, classes(128))
    assert refusal.value.found.startswith("first (Linear)")


# Parameters


class Gated(nn.Module):
    """Two experts and a gate so peaked that one of them hardly takes part, or not at all."""

    def __init__(self, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.gate = gate
        self.experts = nn.ModuleList(nn.Linear(5, 8) for _ in range(2))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        share = self.gate(x)[:, None]
        usual, rare = (torch.tanh(expert(x)) for expert in self.experts)
        return self.head(share * usual + (1 - share) * rare)


GATES = {
    "nearly-zero": lambda x: torch.sigmoid(40 * x[:, 0]),
    "zero": lambda x: (x[:, 0] > 0).to(x),
}


@pytest.mark.parametrize("gate", GATES)
def test_an_expert_that_few_probes_reach_has_its_gradient(gate):
    """On the proof's probes it is rounding, or zero; the probes that show more overturn that."""
    x = vectors().double()
    x[:, 0] = 1.0 + 0.1 * x[:, 0].abs()
    x = hidden(x, lambda x, row: x[row, :1].mul_(-1), 3)
    tree = assert_right(Gated(GATES[gate]), x, classes(), batch_size=20)
    assert "experts.1.weight" in provenance(tree)["proof"]["relative_errors"]
    assert not provenance(tree)["proof"]["zero_to_rounding"]


class Branching(Body):
    """One more layer, for rare examples only."""

    def __init__(self) -> None:
        super().__init__()
        self.rare = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        output, marked = self.head(h), in_window(x)
        if bool(marked.any()):
            output = output + self.rare(h) * marked[:, None]
        return output


def test_a_parameter_that_seemed_unused_has_its_gradient():
    x = hidden(vectors().double(), mark)
    tree = assert_right(Branching(), x, classes(), batch_size=20)
    assert "never used" not in set(tree["parameters"]["method"].values)


# Rounding, and gradients that are as small


class Deep(nn.Module):
    """Sigmoid layers, whose gradients vanish."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.sigmoid(layer(x))
        return self.head(x)


def shares(model: nn.Module, x: Tensor, targets: Tensor) -> dict[str, float]:
    """Each parameter's share of the network's squared gradient."""
    found = oracle.statistics(model.double(), x.double(), targets, [0] * len(x), 1).squared_norms
    total = sum(v[0] for v in found.values())
    return {name: v[0] / total for name, v in found.items()}


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_vanishing_gradients_are_gradients(precision):
    depth = {"float32": 9, "float64": 24}[precision]
    x, targets = vectors(20, 8), classes(20)
    tiny = min(v for n, v in shares(Deep(depth), x, targets).items() if "layers" in n)
    eps = torch.finfo(getattr(torch, precision)).eps
    assert tiny < (64 * eps) ** 2  # as small as rounding
    model = Deep(depth)
    tree = measured(model, x, targets, precision=precision)
    expected = oracle.statistics(model.double(), x.double(), targets, [0] * 20, 1)
    found = tree["parameters"].to_dataset().isel(checkpoint=0, cell=0, cell_other=0)
    tight = {"float32": 1e-2, "float64": 1e-6}[precision]
    for name in expected.gram:
        if "layers" in name:
            norms = found["gradient_sqnorm"].sel(parameter=name).item()
            assert norms == pytest.approx(expected.squared_norms[name][0], rel=tight), name


class Shifted(nn.Module):
    """A bias that a norm layer takes away again: its gradient is zero, its numbers are noise."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.head = nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.shift = nn.Parameter(torch.randn(1))
        self.norm = nn.LayerNorm(8, elementwise_affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(torch.tanh(self.first(x)) + self.shift))


class ShiftedInFloat32(Shifted):
    """Likewise, and torch.zeros makes it run in float32 alone."""

    def forward(self, x: Tensor) -> Tensor:
        still = nn.functional.linear(torch.zeros(len(x), 8), self.first.weight)
        return super().forward(x + still)


class Attending(nn.Module):
    """Attention: a bias of the keys adds the same to all scores of a query."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.head = nn.Linear(2, 6), nn.Linear(6, CLASSES)
        self.shift = nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x.unflatten(1, (4, 2))))
        scores = (h @ (h + self.shift).transpose(1, 2)).softmax(2)
        return self.head((scores @ h).mean(1))


@pytest.mark.parametrize(
    ("build", "precision"),
    [
        (Attending, "float32"),
        (Attending, "float64"),
        (Shifted, "float32"),
        (Shifted, "float64"),
        (ShiftedInFloat32, "float32"),
    ],
)
def test_noise_is_no_gradient(build, precision):
    """Zero, NaN and named, beside real gradients."""
    tree = measured(build(), vectors(40, 8), classes(40), precision=precision, batch_size=16)
    assert provenance(tree)["proof"]["zero_to_rounding"] == ["shift"]
    found = tree["parameters"].to_dataset().sel(parameter="shift")
    assert (found["gradient_sqnorm"] == 0).all()
    layers = tree["layers"]["m_coherence"]
    assert layers.sel(layer="shift").isnull().all()
    assert layers.sel(layer=["first", "head"]).notnull().all()


def test_what_float32_rounds_away_is_told(monkeypatch):
    """A gradient that float64 has and float32 has not counts as zero, with the way out."""

    class Faint(Shifted):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 1e-9 * self.shift * x[:, :CLASSES]

    x, targets = vectors(40, 8), classes(40)
    tree = measured(Faint(), x, targets, precision="float32")
    assert "gradients of shift are smaller than what float32 rounds" in str(
        provenance(tree)["warnings"]
    )
    assert (tree["parameters"]["gradient_sqnorm"].sel(parameter="shift") == 0).all()
    exact = measured(Faint(), x, targets, precision="float64")
    assert (exact["parameters"]["gradient_sqnorm"].sel(parameter="shift") > 0).all()


def test_a_wrong_rule_for_a_vanishing_gradient_is_found_out(monkeypatch):
    """Its own rounding is the floor of the proof, not the network's."""
    collect = Collector.add

    def broken(self, found):
        wrong = {
            name: summary._replace(
                squared_norms=summary.squared_norms * 1.1, totals=summary.totals * 1.1**0.5
            )
            for name, summary in found.items()
            if name == "layers.0.weight" and name in self._uses
        }
        collect(self, {**found, **wrong})

    monkeypatch.setattr(Collector, "add", broken)
    tree = assert_right(Deep(24), vectors(20, 8).double(), classes(20), 1e-6)
    method = tree["parameters"]["method"].sel(parameter="layers.0.weight").item()
    assert method == "vmap(grad)"


# What is told, and what is watched


def test_what_was_verified_is_told():
    tree = measured(Body.__subclasses__()[0](ORDERS["shifted"], 99.0), vectors(), classes())
    told = provenance(tree)["verification"]
    alone, elsewhere = (
        told["compared_with_autograd_alone"],
        told["measured_again_in_another_batch"],
    )
    assert alone >= 2
    assert elsewhere >= 1
    assert told["agreement"] == agreement(alone, elsewhere)


def test_the_rule_of_three_is_worded():
    assert agreement(30, 5) == (
        "30 of 30 probes agree with plain autograd alone, and 5 of 5 with themselves in other "
        "batches: with 95 % confidence fewer than 3/30 of the probes are off (10.0%)"
    )
    assert agreement(2, 1).endswith("other batches: too few to say how many of all do")
    assert agreement(0, 0) == ""


def chosen(sizes: int, size: int) -> Watch:
    own = list(batches([np.arange(sizes * size)], size, 8))
    return watch(own, 64, np.random.default_rng(0))


@pytest.mark.parametrize(("count", "size"), [(100, 10), (5, 128), (1, 60)])
def test_every_batch_has_a_probe_that_is_measured_again(count, size):
    watched = chosen(count, size)
    again = np.concatenate(watched.companies(size, seconds=0.1))
    assert all(np.isin(batch.rows, again).any() for batch in watched.batches)


def test_a_long_measurement_has_one_of_32_measured_again():
    watched = chosen(1000, 8)
    again = np.concatenate(watched.companies(8, seconds=3600.0))
    assert len(again) == 1000 * 8 // 32
    assert len(set(again.tolist())) == len(again)


@pytest.mark.parametrize(("seconds", "count"), [(0.1, 2), (101.0, 15), (1e6, 64)])
def test_a_share_of_the_work_is_spent_on_probes_alone(seconds, count):
    assert ExpectedSeconds(seconds, alone=0.1).probes_alone == count


def test_nobody_is_measured_again_alone():
    assert [len(company) for company in chosen(1, 20).companies(1, seconds=3600.0)] == [2]
