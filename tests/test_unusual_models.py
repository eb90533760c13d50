"""Models that are unusual and sound: their numbers are those of autograd, or they are refused.

What is measured by which method is told elsewhere; here every model is measured as its user would.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import analyze
from analyze.gradients.forms import onednn
from tests import oracle
from tests.agreement import assert_agrees

SETTINGS = {"precision": "float64", "folds": 1, "batch_norm": "saved", "device": "cpu"}


def assert_measured(build, inputs, batch_size="auto", alike=None) -> None:
    """The numbers of a model are the oracle's, of it or of one that computes the same plainly."""
    count = len(next(iter(inputs.values())))
    torch.manual_seed(0)
    model = build().double()
    torch.manual_seed(0)
    plain = (alike or build)().double()
    targets = torch.arange(count) % 3
    expected = oracle.statistics(plain, inputs, targets, [0] * count, 1)
    probes = analyze.ProbeSet(inputs, targets)
    assert_agrees(analyze.measure(model, probes, batch_size=batch_size, **SETTINGS), expected)


def normal(count: int, *shape: int) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1)).double()


class AdapterOfTask(nn.Module):
    """A layer for each task, called for the examples of the task; tasks are in the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 5), nn.Linear(5, 3)
        self.adapters = nn.ModuleDict({str(task): nn.Linear(5, 5) for task in range(4)})

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        changed = h.clone()
        for one in task.unique().tolist():
            rows = task == one
            changed[rows] = h[rows] + self.adapters[str(one)](h[rows])
        return self.head(changed)


@pytest.mark.parametrize("batch_size", [1, 7, "auto"])
def test_a_parameter_of_one_probe_is_found_where_no_rule_measures_any(batch_size):
    """The plan is made on probes of other tasks, each of which makes other calls."""
    task = torch.arange(40) % 3
    task[27] = 3
    assert_measured(AdapterOfTask, {"x": normal(40, 4), "task": task}, batch_size)


class GradientByFunctions(nn.Module):
    """``torch.func.grad`` inside of ``forward``, which forbids hooks on saved tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 5), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        energy = torch.func.grad(lambda one: torch.tanh(self.first(one)).square().sum())
        return self.head(torch.func.vmap(energy)(x))


def test_a_gradient_by_torch_func_inside():
    assert_measured(GradientByFunctions, {"x": normal(12, 4)})


class Equilibrium(nn.Module):
    """A fixed point whose backward pass a hook solves, by gradients of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.step, self.head = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        shift, z = self.first(x), torch.zeros(len(x), 5, dtype=x.dtype)

        def advanced(z: Tensor) -> Tensor:
            return torch.tanh(0.3 * self.step(z) + shift)

        with torch.no_grad():
            for _ in range(60):
                z = advanced(z)
        z = advanced(z)
        if z.requires_grad:
            at = z.detach().requires_grad_()
            once = advanced(at)

            def solved(arrived: Tensor) -> Tensor:
                found = arrived
                for _ in range(60):
                    found = torch.autograd.grad(once, at, found, retain_graph=True)[0] + arrived
                return found

            z.register_hook(solved)
        return self.head(z)


def test_a_hook_that_takes_gradients_in_the_backward_pass():
    assert_measured(Equilibrium, {"x": normal(12, 4)})


class WritesIntoState(nn.Module):
    """Keeps what it computes in a tensor made beforehand, as caches of state space models do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        state = torch.zeros(len(x), 5, dtype=x.dtype)
        state.copy_(h * 2)
        return self.head(h) + state.sum(1, keepdim=True)


@pytest.mark.parametrize("batch_size", [1, 7, "auto"])
def test_what_was_written_over_is_no_weight(batch_size):
    assert_measured(WritesIntoState, {"x": normal(20, 4)}, batch_size)


class CalledExperts(nn.Module):
    """Experts that are called where a batch has an example for them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)
        self.experts = nn.ModuleList(nn.Linear(4, 5) for _ in range(4))

    def forward(self, x: Tensor, one_hot: Tensor) -> Tensor:
        h = torch.zeros(len(x), 5, dtype=x.dtype)
        for k, layer in enumerate(self.experts):
            rows = one_hot[:, k].nonzero()[:, 0]
            if len(rows):
                h = h.index_add(0, rows, torch.tanh(layer(x[rows])))
        return self.head(h)


def test_calls_that_it_takes_more_than_two_examples_to_make():
    expert = torch.zeros(24, dtype=torch.long)
    expert[[7, 11, 16]] = torch.tensor([1, 2, 3])
    one_hot = nn.functional.one_hot(expert).double()
    assert_measured(CalledExperts, {"x": normal(24, 4), "one_hot": one_hot}, 24)


class Plain(nn.Module):
    """Takes numbers, ids and truth values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.table, self.head = nn.Linear(4, 5), nn.Embedding(9, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor, ids: Tensor, kept: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x * 2 * ~kept) + self.table(ids + 1)))


class WritesIntoInputs(Plain):
    """Computes the same in place."""

    def forward(self, x: Tensor, ids: Tensor, kept: Tensor) -> Tensor:
        kept.logical_not_()
        x.mul_(2).mul_(kept)
        ids += 1
        return self.head(torch.tanh(self.first(x) + self.table(ids)))


@pytest.mark.parametrize("batch_size", [1, 7, "auto"])
def test_a_model_that_writes_into_its_inputs(batch_size):
    x = normal(20, 4)
    inputs = {"x": x, "ids": torch.arange(20) % 8, "kept": x > 1}
    assert_measured(WritesIntoInputs, inputs, batch_size, alike=Plain)


IN_PLACE = """
def loss(output, target):
    output -= output.mean(1, keepdim=True).detach()
    target *= 2
    return ((output - target) ** 2).mean(1)
"""
RANDOM = """
import torch

def loss(output, target):
    return ((output + torch.randn_like(output) - target) ** 2).mean(1)
"""


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_loss_that_writes_into_output_and_targets(tmp_path, precision):
    """It is called several times on the same: float32 targets were doubled each time."""
    (tmp_path / "loss.py").write_text(IN_PLACE)
    torch.manual_seed(0)
    model, x, targets = nn.Linear(4, 3), normal(12, 4).float(), normal(12, 3).float()

    def plain(output: Tensor, target: Tensor) -> Tensor:
        return ((output - output.mean(1, keepdim=True).detach() - 2 * target) ** 2).mean()

    expected = oracle.statistics(model, x, targets.double(), [0] * 12, 1, loss=plain)
    probes, settings = analyze.ProbeSet(x, targets), SETTINGS | {"precision": precision}
    tree = analyze.measure(model, probes, loss=f"{tmp_path}/loss.py:loss", **settings)
    squared = tree["parameters"].to_dataset()["gradient_sqnorm"].values.ravel()
    tolerance = 1e-9 if precision == "float64" else 1e-5
    for own, name in zip(squared, expected.squared_norms, strict=True):
        assert oracle.relative_error(own, expected.squared_norms[name].sum()) < tolerance


def test_a_random_loss_is_not_taken_for_one_that_mixes_examples(tmp_path):
    (tmp_path / "loss.py").write_text(RANDOM)
    probes = analyze.ProbeSet(normal(12, 4), normal(12, 3))
    with pytest.raises(analyze.InputError, match="the loss function is not deterministic"):
        analyze.measure(nn.Linear(4, 3), probes, loss=f"{tmp_path}/loss.py:loss", **SETTINGS)


@pytest.mark.skipif(not onednn.can_multiply(torch.zeros(1)), reason="torch has no such product")
def test_a_product_by_onednn_of_windows_that_overlap():
    """A convolution over one channel: its rule failed and gave way to ``vmap(grad)``."""
    windows = normal(120).float().as_strided((39, 5), (3, 1))
    left = normal(8, 39).float()
    torch.testing.assert_close(onednn.product(left, windows), left @ windows)


class RoutedExperts(CalledExperts):
    """The same, by the values of ``x``: each probe of a few makes other calls."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, nn.functional.one_hot(x.argmax(1), 4))


@pytest.mark.parametrize("batch_size", [2, 30])
def test_experts_of_which_each_sees_some_examples_are_measured_by_rule(batch_size):
    """A batch, and the probes of the proof, make calls that only some of them make together."""
    torch.manual_seed(0)
    model, x = RoutedExperts().double(), normal(60, 4)
    assert_measured(RoutedExperts, {"x": x}, batch_size)
    tree = analyze.measure(model, analyze.ProbeSet({"x": x}, torch.arange(60) % 3), **SETTINGS)
    methods = set(tree["parameters"].to_dataset()["method"].values.tolist())
    assert methods == {"linear", "linear, rows traced"}


RARELY_MIXING = """
import torch


def hard(output, target):
    losses = torch.nn.functional.cross_entropy(output, target, reduction="none")
    hard = losses > losses.new_tensor(THRESHOLD)
    return torch.where(hard, losses / hard.sum().clamp_min(1), losses)
"""


def test_a_loss_that_mixes_only_rare_hard_examples_is_refused(tmp_path):
    """Every two examples of a batch are parted once; the two that disturb each other as well."""
    torch.manual_seed(0)
    model, x, targets = nn.Linear(5, 3).double(), normal(120, 5), torch.arange(120) % 3
    losses = nn.functional.cross_entropy(model(x), targets, reduction="none").detach()
    threshold = float(losses.sort().values[-3:-1].mean())  # two are above
    code = tmp_path / "hard.py"
    code.write_text(RARELY_MIXING.replace("THRESHOLD", str(threshold)))
    probes = analyze.ProbeSet(x, targets)
    with pytest.raises(analyze.InputError, match="mixes the examples") as refusal:
        analyze.measure(model, probes, loss=f"{code}:hard", **SETTINGS)
    assert "beside half of them" in refusal.value.found


def test_a_lazy_model_in_memory_that_got_its_weights_is_measured():
    x, targets = normal(12, 5), torch.arange(12) % 3
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    lazy = nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.LazyLinear(3)).double()
    lazy.load_state_dict(plain.state_dict())
    expected = oracle.statistics(plain, x, targets, [0] * 12, 1)
    assert_agrees(analyze.measure(lazy, analyze.ProbeSet(x, targets), **SETTINGS), expected)
    assert type(lazy[0]) is nn.LazyLinear
