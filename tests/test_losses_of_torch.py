"""Losses of torch as functions and modules: each example's is its part of the batch's."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import analyze
from analyze.gradients.losses import build_loss, loss_in_python, spec_in_python
from analyze.gradients.losses.from_torch import OWN, REDUCED

torch.manual_seed(0)
N, C = 6, 4
WIDE = torch.float64
LOGITS, CLASSES = torch.randn(N, C, dtype=WIDE), torch.arange(N) % C
TOKENS = torch.randn(N, C, 3, dtype=WIDE), torch.randint(C, (N, 3))
NUMBERS, SIGNS = torch.randn(N, C, dtype=WIDE), torch.randn(N, C, dtype=WIDE).sign()
SHARES = torch.rand(N, C, dtype=WIDE)
WEIGHT = torch.tensor([1.0, 2.5, 0.0, 0.25])
LOGARITHMS = LOGITS.log_softmax(1)
LOSSES = {
    "CrossEntropyLoss": [
        (nn.CrossEntropyLoss(), LOGITS, CLASSES), (F.cross_entropy, LOGITS, CLASSES),
        (nn.CrossEntropyLoss(reduction="sum"), LOGITS, CLASSES),
        (nn.CrossEntropyLoss(label_smoothing=0.1), LOGITS, SHARES / SHARES.sum(1, keepdim=True)),
        (nn.CrossEntropyLoss(ignore_index=1, label_smoothing=0.2), *TOKENS),
        (partial(F.cross_entropy, ignore_index=2), *TOKENS),
        (nn.CrossEntropyLoss(WEIGHT.double()), LOGITS, CLASSES),
        (nn.CrossEntropyLoss(WEIGHT.double(), ignore_index=0, label_smoothing=0.3), *TOKENS),
        (nn.CrossEntropyLoss(WEIGHT.double()), LOGITS, SHARES / SHARES.sum(1, keepdim=True)),
    ],
    "MSELoss": [(nn.MSELoss(), LOGITS, NUMBERS), (F.mse_loss, LOGITS, NUMBERS)],
    "BCEWithLogitsLoss": [
        (nn.BCEWithLogitsLoss(), LOGITS, SHARES),
        (F.binary_cross_entropy_with_logits, LOGITS, SHARES),
    ],
    "BCELoss": [(nn.BCELoss(), LOGITS.sigmoid(), SHARES)],
    "HuberLoss": [(nn.HuberLoss(delta=0.3), LOGITS, NUMBERS)],
    "L1Loss": [(nn.L1Loss(), LOGITS, NUMBERS), (F.l1_loss, LOGITS, NUMBERS)],
    "PoissonNLLLoss": [(nn.PoissonNLLLoss(full=True), LOGITS, SHARES)],
    "SmoothL1Loss": [(partial(F.smooth_l1_loss, beta=0.2), LOGITS, NUMBERS)],
    "SoftMarginLoss": [(nn.SoftMarginLoss(), LOGITS, SIGNS)],
    "MultiLabelMarginLoss": [
        (nn.MultiLabelMarginLoss(), LOGITS, torch.tensor([[0, 2, -1, 1]]).repeat(N, 1))
    ],
    "MultiLabelSoftMarginLoss": [(nn.MultiLabelSoftMarginLoss(), LOGITS, SHARES.round())],
    "MultiMarginLoss": [(nn.MultiMarginLoss(margin=0.5), LOGITS, CLASSES)],
    "NLLLoss": [
        (nn.NLLLoss(), LOGARITHMS, CLASSES), (nn.NLLLoss(ignore_index=1), *TOKENS),
        (F.nll_loss, LOGARITHMS, CLASSES),
    ],
}  # fmt: skip


def test_every_loss_that_is_taken_is_tested():
    assert LOSSES.keys() == {*OWN, *REDUCED}


@pytest.mark.parametrize(
    ("loss", "output", "target"),
    [pytest.param(*case, id=f"{name}-{k}") for name in LOSSES for k, case in
     enumerate(LOSSES[name])],
)  # fmt: skip
def test_an_examples_loss_is_its_part_of_the_batchs(loss, output, target):
    """The gradient of torch's own reduced loss is that of all examples' losses, but for a factor.

    A factor that differs between examples would weigh them otherwise than the training did.
    """
    mine = build_loss(spec_in_python(loss))
    leaf = output.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(loss(leaf, target), leaf)
    found = mine.seed(output, target)
    largest = expected.abs().flatten().argmax()
    factor = (found.flatten()[largest] / expected.flatten()[largest]).item()
    assert factor > 0
    torch.testing.assert_close(found, factor * expected, rtol=1e-9, atol=1e-12)
    both = mine.losses_and_seed(output, target)
    torch.testing.assert_close(both[0], mine.per_example(output, target), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(both[1], found, rtol=1e-12, atol=1e-14)


def test_options_are_those_of_the_spec():
    assert spec_in_python(F.cross_entropy) == "cross_entropy"
    smoothed = nn.CrossEntropyLoss(label_smoothing=0.1, ignore_index=3)
    assert spec_in_python(smoothed) == "cross_entropy?ignore_index=3&label_smoothing=0.1"
    weighted = nn.CrossEntropyLoss(WEIGHT)
    assert spec_in_python(weighted) == "cross_entropy?weight=1,2.5,0,0.25"
    assert spec_in_python(nn.HuberLoss(delta=0.5)) == "torch.nn:HuberLoss?delta=0.5"
    assert spec_in_python("mse") == "mse"


@pytest.mark.parametrize(
    ("loss", "message"),
    [(nn.MSELoss(reduction="sum"), "a sum over elements"),
     (nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)), r"pos_weight=a tensor \[3\]"),
     (nn.BCELoss(weight=torch.ones(3)), r"weight=a tensor \[3\]"),
     (nn.NLLLoss(weight=torch.ones(3)), r"weight=a tensor \[3\]"),
     (nn.KLDivLoss(), "KLDivLoss: a loss of torch that is not known"), (F.kl_div, "kl_div"),
     (nn.TripletMarginLoss(), "TripletMarginLoss"), (F.ctc_loss, "ctc_loss"),
     (partial(F.l1_loss, delta=2), "delta"), (print, "builtin_function"), (3, "type int"),
     (nn.CrossEntropyLoss(torch.tensor([1.0, float("nan")])), "does not take these arguments")],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_refuses_what_means_nothing_for_one_example(loss, message):
    with pytest.raises(analyze.InputError, match=message):
        loss_in_python(loss)


def test_a_function_of_ones_own_is_for_a_model_in_memory_only():
    def absolute(output, target):
        return (output - target).abs().sum(1)

    name, mine = loss_in_python(absolute)
    assert name.endswith("<locals>.absolute")
    torch.testing.assert_close(mine.per_example(LOGITS, NUMBERS), absolute(LOGITS, NUMBERS))
    with pytest.raises(analyze.InputError, match=r"FILE\.py:FUNCTION"):
        spec_in_python(absolute)


def test_weights_of_another_number_than_the_classes_are_refused():
    loss = build_loss("cross_entropy?weight=1,2,3")
    with pytest.raises(analyze.InputError, match="3 weights, 1, 2, 3, and 4 classes"):
        loss.check(LOGITS, CLASSES)


@pytest.mark.parametrize("margin", [17.0, 60.0])
def test_a_weighted_seed_is_exact_in_float32_at_every_margin(margin):
    """As without weights, where the true class's term would be rounded away."""
    output = torch.tensor([[margin, 0.3, -0.2]])
    seed = build_loss("cross_entropy?weight=2.5,1,7").seed(output, torch.tensor([0]))
    plain = build_loss("cross_entropy").seed(output, torch.tensor([0]))
    torch.testing.assert_close(seed, 2.5 * plain, rtol=1e-6, atol=0.0)
    assert seed[0, 0] != 0
