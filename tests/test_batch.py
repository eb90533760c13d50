"""One batch by a plan: what is not as planned is noticed, never measured."""

from __future__ import annotations

import copy
import gc
import weakref
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from analyze.gradients.calibrate.calibration import calibrate
from analyze.gradients.checks.proof import Proof
from analyze.gradients.checks.proving import prove
from analyze.gradients.checks.reference import Autograd
from analyze.gradients.data.loader import Examples
from analyze.gradients.forms.outer_products import SINGLY
from analyze.gradients.losses import CrossEntropy
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica
from analyze.gradients.plan import FALLBACKS, Plan
from analyze.gradients.step.batch import measure_batch
from analyze.gradients.step.conditions import measuring
from analyze.gradients.step.intercept import ForwardChangedError
from tests.cases import CASES, CLASSES, NAMED, Case, settled
from tests.nightly import variants

CPU = torch.device("cpu")


def planned(model: nn.Module, inputs: Tensor):
    replica = Replica.copy_of(model, CPU, torch.float64)
    batch = Inputs({"": inputs})
    return replica, batch, calibrate(replica, batch)


def measure(replica: Replica, batch: Inputs, plan):
    return measure_batch(replica, batch, torch.arange(len(batch)) % CLASSES, CrossEntropy(), plan)


def test_a_parameter_used_past_the_calls_is_noticed():
    model, inputs, _ = settled(NAMED["token-and-position"])
    replica, batch, plan = planned(model, inputs)
    without = [c for c in plan.calls if ("position",) not in c.weights.values()]
    with pytest.raises(ForwardChangedError, match="past the calls"):
        measure(replica, batch, replace(plan, calls=tuple(without)))


class Keeping(nn.Module):
    """Does to its attributes whatever a forward pass can do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(CLASSES, 3))
        self.seen, self.names, self.passing, self.scale = [], {"old"}, 1, 2.0

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        self.names.add("new")
        self.cached = self.weight * 2
        self.scale = 3.0
        del self.passing
        self.training = True
        return x @ self.cached.T


def test_what_a_forward_pass_leaves_on_a_module_is_undone():
    replica = Replica(Keeping(), CPU, torch.float64)
    module = replica.model
    before = {name: copy.copy(value) for name, value in vars(module).items()}
    for _ in range(2):
        replica(Inputs({"": torch.ones(2, 3, dtype=torch.float64)}))
        assert vars(module) != before
        replica.forget()
        assert vars(module) == before


class Changeable(nn.Module):
    """Does something else once ``then`` is set."""

    def __init__(self, then: str) -> None:
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.inner = nn.Linear(5, CLASSES)
        self.scale = nn.Parameter(torch.ones(5))
        self.register_buffer("changed", torch.zeros(()))
        self.then = then

    def forward(self, x: Tensor) -> Tensor:
        changed = self.then if float(self.changed) else ""
        x = self.first(x)
        if changed == "another weight":
            return self.inner(x * (self.scale + self.first.bias))
        if changed == "another functional":
            return self.inner(x - self.scale)
        x = x * (self.scale + 1.0)
        y = self.inner(x)
        if changed == "writes over its input":
            x.add_(1.0)
        if changed == "one call more":
            return self.inner(x)
        return y


@pytest.mark.parametrize(
    ("then", "message"),
    [
        ("another weight", r"mul of \['first.bias', 'scale'\] instead of \['scale'\]"),
        ("another functional", "linear instead of mul"),
        ("writes over its input", "input of linear was changed in place"),
        ("one call more", "past the calls"),
    ],
)
def test_another_forward_pass_is_noticed(then, message):
    replica, batch, plan = planned(Changeable(then), torch.randn(4, 5))
    measure(replica, batch, plan)
    replica.model.changed.fill_(1.0)
    replica.keep_buffers()
    with pytest.raises(ForwardChangedError, match=message):
        measure(replica, batch, plan)


def test_other_numbers_of_calls_than_planned_are_noticed():
    model, inputs, _ = settled(NAMED["linear"])
    replica, batch, plan = planned(model, inputs)
    more = (*plan.calls, replace(plan.calls[-1], number=99))
    with pytest.raises(ForwardChangedError, match="2 calls instead of 3"):
        measure(replica, batch, replace(plan, calls=more))


class Ragged(nn.Module):
    """A layer that sees as many of the examples as a number among the inputs says."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        count = int((x[:, 0] > 0).sum())
        return torch.cat((self.inner(x[:count]), x.new_zeros(len(x) - count, CLASSES)))


def test_a_call_that_sees_other_rows_than_planned_is_noticed():
    inputs = torch.randn(4, 5)
    inputs[:, 0] = 1.0
    replica, batch, plan = planned(Ragged(), inputs)
    measure(replica, batch, plan)
    inputs[3, 0] = -1.0
    with pytest.raises(ForwardChangedError, match=r"linear saw \[3, 5\]"):
        measure(replica, Inputs({"": inputs}), plan)


def test_the_plan_remembers_which_algorithms_were_chosen():
    model, inputs, _ = settled(NAMED["linear-1-position-axis"])
    replica, batch, plan = planned(model, inputs)
    measure(replica, batch, plan)
    assert set(plan.algorithms.values()) <= {"direct", "transposed", *SINGLY, "gram"}
    kept = dict(plan.algorithms)
    measure(replica, batch, plan)
    assert plan.algorithms == kept


def by_rule() -> list[Case]:
    """The cases of which nothing is left to the fallbacks."""
    return [case for case in CASES if set(case.methods.values()).isdisjoint(map(str, FALLBACKS))]


def proven_plan(replica: Replica, batch: Inputs, targets: Tensor) -> Plan:
    autograd = Autograd(replica, CrossEntropy(), torch.float64)
    return prove(autograd, Examples(batch, targets), calibrate(replica, batch), Proof())[0]


@pytest.mark.parametrize("case", variants(by_rule(), lambda case: case.methods.values()))
def test_no_tensor_of_a_batch_waits_for_the_garbage_collector(case):
    """One in a reference cycle holds memory, and keeps autograd from adding up in place."""
    model, inputs, targets = settled(case)
    batch = Inputs(inputs if isinstance(inputs, dict) else {"": inputs})
    replica = Replica.copy_of(model, CPU, torch.float64)
    with measuring():
        plan = proven_plan(replica, batch, targets)
        measure_batch(replica, batch, targets, CrossEntropy(), plan)
        gc.freeze()  # or all that has been imported would be looked through
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            measure_batch(replica, batch, targets, CrossEntropy(), plan)
            gc.collect()
            assert [g.shape for g in gc.garbage if isinstance(g, Tensor)] == []
        finally:
            gc.set_debug(0)
            gc.garbage.clear()


@pytest.mark.parametrize("case", variants(CASES, lambda case: case.methods.values()))
def test_totals_are_the_same_where_they_are_taken_when_they_are_there(case):
    model, inputs, targets = settled(case)
    batch = Inputs(inputs if isinstance(inputs, dict) else {"": inputs})
    replica = Replica.copy_of(model, CPU, torch.float64)
    taken: dict[str, Tensor] = {}

    def take(name: str, totals: Tensor, unscale: Tensor) -> None:
        assert name not in taken
        taken[name] = totals * unscale

    with measuring():
        proven = proven_plan(replica, batch, targets)
        kept = measure_batch(replica, batch, targets, CrossEntropy(), proven)
        found = measure_batch(replica, batch, targets, CrossEntropy(), proven, take=take)
    assert found.scaled_totals == {}
    assert {*found.names} == taken.keys() == kept.scaled_totals.keys()
    for name, totals in taken.items():
        assert torch.allclose(totals[0], kept.total(name), rtol=1e-12, atol=1e-15), name


def test_no_more_than_one_large_gradient_is_held():
    model = nn.Sequential(*(nn.Linear(300, 300, bias=False) for _ in range(5)))
    replica, batch = Replica(model, CPU, torch.float64), Inputs({"": torch.randn(4, 300).double()})
    plan = calibrate(replica, batch)
    alive: list[weakref.ref] = []

    def take(name: str, totals: Tensor, unscale: Tensor) -> None:
        assert [ref for ref in alive if ref() is not None] == []
        alive.append(weakref.ref(totals))

    measure_batch(replica, batch, torch.arange(4), CrossEntropy(), plan, take=take)
    assert len(alive) == 5


@pytest.mark.parametrize(("margin", "scaled"), [(0.0, False), (3.0, False), (80.0, True)])
def test_faint_seeds_keep_the_precision_of_float32(margin: float, scaled: bool) -> None:
    """Gradients of an example that is fitted to 1e-35 are small numbers times that."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2))
    with torch.no_grad():
        model[1].weight.mul_(1e-4)
        model[1].bias.copy_(torch.tensor([margin, 0.0]))
    inputs, targets = torch.randn(3, 4), torch.zeros(3, dtype=torch.long)
    replica, batch = Replica.copy_of(model, CPU, torch.float32), Inputs({"": inputs})
    plan = calibrate(replica, batch)
    result = measure_batch(replica, batch, targets, CrossEntropy(), plan)
    assert (result.scale != 1.0) == scaled
    exact = copy.deepcopy(model).double()
    for n in range(3):
        log_p = exact(inputs[n : n + 1].double()).log_softmax(-1)
        # -log p of the first class, from the second: nothing is rounded away
        loss = torch.log1p((log_p[0, 1] - log_p[0, 0]).exp())
        grads = torch.autograd.grad(loss, [*exact.parameters()])
        for (name, _), grad in zip(exact.named_parameters(), grads, strict=True):
            found = result.squared_norms[result.names.index(name), n]
            assert found == pytest.approx(grad.square().sum().item(), rel=1e-4), name
