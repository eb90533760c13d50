"""Targets that fit no loss are refused with what to freeze; outputs without an examples' axis."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import analyze
from tests import oracle

EXAMPLES = 7
BCE = "binary_cross_entropy_with_logits"
INPUTS = torch.randn(EXAMPLES, 4, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(EXAMPLES) % 3
GAP = torch.rand(EXAMPLES, 3).index_fill(0, torch.tensor(2), torch.nan)


def measured(model: nn.Module, targets: Tensor, loss: str = "cross_entropy", **options):
    options = {"device": "cpu", "folds": 1, "precision": "float64"} | options
    return analyze.measure(model, analyze.ProbeSet(INPUTS, targets), loss=loss, **options)


BAD = {
    "float classes": (3, CLASSES.float(), "cross_entropy", "do not fit", "targets.long()"),
    "integers one-hot": (3, F.one_hot(CLASSES), "cross_entropy", "do not fit", "targets.float()"),
    "too many axes": (3, CLASSES[:, None], "cross_entropy", "do not fit", "of that shape"),
    "one value": (1, CLASSES.float(), "mse", "do not fit", "reshape(-1, 1)"),
    "one value too many": (3, CLASSES.float(), "mse", "do not fit", "of that shape"),
    "a row for a column": (1, torch.rand(EXAMPLES), BCE, "do not fit", "reshape(-1, 1)"),
    "missing value": (3, GAP, "mse", "not finite", "leaves such entries out"),
    "missing probability": (3, GAP, BCE, "not finite", "leave these examples out"),
    "missing soft target": (3, GAP, "cross_entropy", "not finite", "leave these examples out"),
    "void": (3, CLASSES.index_fill(0, torch.tensor(1), 255), "cross_entropy", "out of range",
             "cross_entropy?ignore_index=255"),
    "from one": (3, CLASSES + 1, "cross_entropy", "out of range", "num_classes=4"),
    "one class": (1, torch.zeros(EXAMPLES).long(), "cross_entropy", "one class is always 0", BCE),
    "nothing counts": (3, torch.full((EXAMPLES,), -100), "cross_entropy", "no target counts",
                       "ignore_index"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_targets_that_do_not_fit_are_refused_with_what_to_freeze(name):
    width, targets, loss, what, fix = BAD[name]
    with pytest.raises(analyze.InputError, match=what) as caught:
        measured(nn.Linear(4, width), targets, loss)
    assert fix in caught.value.fix


def test_what_marks_no_target_is_left_out_where_that_is_said():
    targets = CLASSES.index_fill(0, torch.tensor([1, 4]), 255)
    tree = measured(nn.Linear(4, 3), targets, "cross_entropy?ignore_index=255")
    assert (tree["examples"].to_dataset()["loss"].values[0] == 0).sum() == 2
    (warning,) = json.loads(tree.attrs["provenance"])["warnings"]
    assert warning.startswith("2 of 7 probes have no target that counts")
    assert "probe 1" in warning


def test_probabilities_are_told():
    tree = measured(nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)), CLASSES)
    (warning,) = json.loads(tree.attrs["provenance"])["warnings"]
    assert warning.startswith("the model's outputs are probabilities")


OWN = """
import torch
from torch.nn import functional as F

def of_two(output, target, name):
    return getattr(F, name)(output, target, reduction="none").flatten(1).mean(1)

def broadcast(output, target):
    return (output - target).square().mean(1)

def weighted(output, target):
    weight = torch.tensor([0.5, 2.0, 1.0])
    return F.cross_entropy(output, target, weight=weight, reduction="none")

def known(output, target):
    return torch.where(target.isnan(), 0.0, output - target.nan_to_num()).square().sum(1)

def detached(output, target):
    return (output.argmax(1) != target[:, 0]).float()

def fails_backwards(output, target):
    return Wrong.apply(output).sum(1)

class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1.0
    @staticmethod
    def backward(ctx, dy):
        raise ValueError("no derivative here")
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return f"{tmp_path / 'own.py'}:"


@pytest.mark.parametrize("name", ["smooth_l1_loss", "huber_loss", "l1_loss"])
@pytest.mark.parametrize(
    ("kept", "precision"),
    [(torch.float64, "float32"), (torch.float32, "float64"), (torch.float16, "float32")],
    ids=str,
)
def test_losses_of_two_float_tensors(own, name, kept, precision):
    torch.manual_seed(1)
    model, targets = nn.Linear(4, 3), torch.randn(EXAMPLES, 3).to(kept)
    tree = measured(model, targets, f"{own}of_two?name={name}", precision=precision)
    truth = oracle.statistics(
        model, INPUTS, targets.double(), [0] * EXAMPLES, 1, loss=getattr(F, name)
    )
    found = tree["parameters"]["gradient_gram"].sel(parameter="weight").values[0]
    tight = 1e-9 if precision == "float64" else 1e-4
    assert oracle.relative_error(found, truth.gram["weight"]) < tight


def test_class_weights_that_are_written_in_float32(own):
    torch.manual_seed(1)
    model, weight = nn.Linear(4, 3), torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target, weight=weight, reduction="sum")

    truth = oracle.statistics(model, INPUTS, CLASSES, [0] * EXAMPLES, 1, loss=loss)
    for precision, tight in (("float64", 1e-9), ("float32", 1e-4)):
        tree = measured(model, CLASSES, f"{own}weighted", precision=precision)
        found = tree["parameters"]["gradient_gram"].sel(parameter="weight").values[0]
        assert oracle.relative_error(found, truth.gram["weight"]) < tight


def test_missing_entries_are_a_matter_of_the_users_loss(own):
    assert np.isfinite(measured(nn.Linear(4, 3), GAP, f"{own}known")["loss"]).all()


@pytest.mark.parametrize(
    ("name", "width", "targets", "message"),
    [("broadcast", 1, torch.tensor([1.0, 1, 1, 1, 0, 1, 1]), "mixes the examples"),
     ("detached", 3, CLASSES[:, None], "has no gradient"),
     ("fails_backwards", 3, CLASSES[:, None], "no derivative here")],
    ids=["broadcast", "detached", "fails_backwards"],
)  # fmt: skip
def test_losses_of_the_user_that_have_no_gradient_of_an_example(own, name, width, targets, message):
    with pytest.raises(analyze.InputError) as caught:
        measured(nn.Linear(4, width), targets, f"{own}{name}")
    assert message in str(caught.value)


class Squeezed(nn.Module):
    """Takes away axes of size one, and so that of the examples where there is one only."""

    def __init__(self, where: str, width: int) -> None:
        super().__init__()
        self.where = where
        self.first, self.head = nn.Linear(4, 5), nn.Linear(5, width)
        self.scale = nn.Parameter(torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x)) * self.scale
        if self.where == "inside":
            x = x[:, :, None].squeeze()
        x = self.head(x)
        if self.where == "first":
            return x.squeeze(0)
        return x.squeeze() if self.where == "end" else x


SQUEEZED = {
    "regression": ("end", 1, torch.randn(EXAMPLES), "mse", F.mse_loss),
    "binary": ("end", 1, torch.rand(EXAMPLES), BCE, F.binary_cross_entropy_with_logits),
    "classes": ("end", 3, CLASSES, "cross_entropy", F.cross_entropy),
    "inside, one value": ("inside", 1, torch.randn(EXAMPLES, 1), "mse", F.mse_loss),
    "inside, classes": ("inside", 3, CLASSES, "cross_entropy", F.cross_entropy),
    "first axis": ("first", 1, torch.randn(EXAMPLES, 1), "mse", F.mse_loss),
}


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("name", SQUEEZED)
def test_squeezed_outputs_are_measured(name, batch_size):
    where, width, targets, loss, function = SQUEEZED[name]
    torch.manual_seed(2)
    model = Squeezed(where, width)

    together = [list(range(EXAMPLES))]  # alone, the examples have no axis
    wide = targets.double() if targets.is_floating_point() else targets
    truth = oracle.statistics(
        model, INPUTS, wide, [0] * EXAMPLES, 1, loss=function, groups=together
    )
    tree = measured(model, targets, loss, batch_size=batch_size)
    for parameter, gram in truth.gram.items():
        found = tree["parameters"]["gradient_gram"].sel(parameter=parameter).values[0]
        assert oracle.relative_error(found, gram) < 1e-9, parameter
    np.testing.assert_allclose(
        tree["examples"].to_dataset()["loss"].values[0], truth.loss, rtol=1e-9
    )


def test_by_vmap_as_well(monkeypatch):
    """Where no rule is left, an example's output has no axis to take the first entry of."""
    from analyze.gradients import planner
    from analyze.gradients.plan import VMAP

    made = planner.calibrated

    def without_rules(*arguments):
        calibration = made(*arguments)
        plan = calibration.plan
        return calibration._replace(plan=plan.demoted(set(plan.by_rule)))

    monkeypatch.setattr(planner, "calibrated", without_rules)
    tree = measured(Squeezed("end", 3), CLASSES)
    assert set(tree["parameters"].to_dataset()["method"].values) == {str(VMAP)}


class Reduced(nn.Module):
    """Gives something else than one row for each example."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.head = how, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        ways = {
            "mean": lambda: x.mean(0),
            "time first": lambda: x.repeat(2, 1, 1),
            "classes": lambda: x.argmax(1),
        }
        return ways[self.how]()


@pytest.mark.parametrize(
    ("how", "targets", "message"),
    [("mean", CLASSES, "no axis of examples"),
     ("time first", CLASSES[:, None].repeat(1, 2), "no axis of examples"),
     ("classes", CLASSES, "has no gradient")],
)  # fmt: skip
def test_outputs_that_are_not_one_row_for_each_example(how, targets, message):
    with pytest.raises(analyze.InputError, match=message):
        measured(Reduced(how), targets)
