"""Losses: values and seeds are torch's, but for the traps of torch's own backward passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import analyze
from analyze.gradients.device.devices import CPU, KINDS
from analyze.gradients.losses import CrossEntropy, Loss, build_loss
from analyze.gradients.losses.elementwise import BinaryCrossEntropy, SquaredError
from tests import oracle

SHAPES = [
    pytest.param((5, 4), (5,), id="classes"),
    pytest.param((5, 3, 4), (5, 3), id="sequence"),
    pytest.param((5, 4, 2, 3), (5, 2, 3), id="segmentation"),
]
OPTIONS = [{}, {"label_smoothing": 0.2}, {"ignore_index": 1}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("output_shape", "target_shape"), SHAPES)
def test_value_and_seed_are_those_of_torch(output_shape, target_shape, options):
    torch.manual_seed(0)
    output = torch.randn(output_shape, dtype=torch.float64, requires_grad=True)
    target = torch.randint(4, target_shape)
    loss = CrossEntropy(**options)
    logits = output.movedim(-1, 1) if len(output_shape) == 3 else output
    expected = torch.nn.functional.cross_entropy(logits, target, reduction="none", **options)
    expected = expected.flatten(1).sum(1) if expected.dim() > 1 else expected
    torch.testing.assert_close(loss.per_example(output, target), expected, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(expected.sum(), output)
    torch.testing.assert_close(loss.seed(output.detach(), target), gradient, rtol=1e-10, atol=1e-13)


def test_a_sequence_is_the_sum_of_its_tokens():
    output, target = torch.randn(2, 3, 4), torch.tensor([[0, 1, -100], [-100, -100, -100]])
    losses = CrossEntropy().per_example(output, target)
    single = [CrossEntropy().per_example(output[:1, t], target[:1, t]) for t in range(2)]
    assert losses[0].item() == pytest.approx(sum(s.item() for s in single))
    assert losses[1].item() == 0.0
    assert (CrossEntropy().seed(output, target)[1] == 0).all()


def test_accuracy_counts_what_counts():
    output = torch.eye(3)[None].expand(2, 3, 3)
    target = torch.tensor([[0, 2, -100], [-100, -100, -100]])
    accuracy = CrossEntropy().accuracy(output, target)
    assert accuracy[0].item() == 0.5
    assert np.isnan(accuracy[1].item())


@pytest.mark.parametrize("margin", [5.0, 17.0, 30.0, 60.0])
def test_seed_is_exact_in_float32_at_every_margin(margin):
    """The true-class entry is minus the sum of the others: in float64 to the last digits."""
    output = torch.tensor([[margin, 0.3, -0.2]])
    seed = CrossEntropy().seed(output, torch.tensor([0]))
    wide = output.double()
    others = (wide - wide.logsumexp(1, keepdim=True)).exp()[:, 1:]
    expected = torch.cat((-others.sum(1, keepdim=True), others), 1)
    np.testing.assert_allclose(seed.double(), expected, rtol=1e-6)


def fitted() -> tuple[torch.nn.Linear, torch.Tensor, torch.Tensor]:
    """A last layer that fits every example with a loss near 1e-7, each in its own direction."""
    torch.manual_seed(3)
    examples, classes, width = 40, 4, 64
    targets = torch.arange(examples) % classes
    x = torch.randn(examples, width, dtype=torch.float64)
    wanted = 18.5 * torch.eye(classes, dtype=torch.float64)[targets]
    wanted += torch.rand(examples, classes, dtype=torch.float64)
    layer = torch.nn.Linear(width, classes, bias=False)
    layer.weight.data = torch.linalg.lstsq(x, wanted).solution.T.float()
    return layer, x.float(), targets


def test_a_fitted_model_has_the_right_coherence_in_float32(monkeypatch):
    layer, x, targets = fitted()
    truth = oracle.statistics(layer, x, targets, [0] * len(x), 1)
    assert truth.loss.max() < 1e-6
    expected = truth.gram["weight"].item() / truth.squared_norms["weight"].item()

    def coherence() -> float:
        probes = analyze.ProbeSet(x, targets)
        tree = analyze.measure(layer, probes, device="cpu", folds=1)
        return tree["network"]["m_coherence"].sel(subset="all").item()

    assert coherence() == pytest.approx(expected, rel=1e-4)

    def plain(self: CrossEntropy, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        output = output.detach().requires_grad_(True)
        with torch.enable_grad():
            loss = torch.nn.functional.cross_entropy(output, target, reduction="sum")
        return torch.autograd.grad(loss, output)[0]

    monkeypatch.setattr(CrossEntropy, "seed", plain)
    monkeypatch.setattr(CrossEntropy, "losses_and_seed", Loss.losses_and_seed)
    assert coherence() != pytest.approx(expected, rel=0.05), "the plain backward must be caught"


def test_arguments_come_from_the_spec():
    loss = build_loss("cross_entropy?label_smoothing=0.1&ignore_index=3")
    assert loss == CrossEntropy(ignore_index=3, label_smoothing=0.1)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(5, 4), (5, 3, 4)], ids=str)
def test_soft_targets_are_those_of_torch(shape, smoothing):
    torch.manual_seed(1)
    output = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    target = torch.rand(shape, dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(
        output.flatten(0, -2), target.flatten(0, -2), reduction="none", label_smoothing=smoothing
    )
    loss = CrossEntropy(label_smoothing=smoothing)
    expected = expected.reshape(5, -1).sum(1)
    torch.testing.assert_close(loss.per_example(output, target), expected, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(expected.sum(), output)
    torch.testing.assert_close(loss.seed(output.detach(), target), gradient, rtol=1e-10, atol=1e-13)


def test_one_hot_soft_targets_are_as_stable_as_classes():
    output, target = torch.tensor([[30.0, 0.3, -0.2]]), torch.tensor([0])
    soft = CrossEntropy().seed(output, torch.nn.functional.one_hot(target, 3).float())
    np.testing.assert_allclose(soft, CrossEntropy().seed(output, target), rtol=1e-6)
    assert soft[0, 0] != 0


ELEMENTWISE = [
    pytest.param(SquaredError(), torch.nn.functional.mse_loss, id="mse"),
    pytest.param(
        BinaryCrossEntropy(),
        torch.nn.functional.binary_cross_entropy_with_logits,
        id="binary_cross_entropy_with_logits",
    ),
]


@pytest.mark.parametrize(("loss", "function"), ELEMENTWISE)
def test_elementwise_losses_are_those_of_torch(loss, function):
    torch.manual_seed(2)
    output = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)
    target = torch.rand(4, 3, 2, dtype=torch.float64)
    loss.check(output, target)
    expected = torch.stack([function(o, t) for o, t in zip(output, target, strict=True)])
    torch.testing.assert_close(loss.per_example(output, target), expected, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(expected.sum(), output)
    torch.testing.assert_close(loss.seed(output.detach(), target), gradient, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_binary_cross_entropy_keeps_the_gradient_of_fitted_examples(sign):
    """Torch's own backward gives 0 at a logit of 17 and a target of 1."""
    output, target = sign * torch.full((1, 1), 30.0), torch.full((1, 1), (sign + 1) / 2)
    seed = BinaryCrossEntropy().seed(output, target).item()
    assert seed == pytest.approx(-sign * np.exp(-30.0), rel=1e-6)


@pytest.mark.parametrize(
    ("spec", "targets"),
    [("mse", torch.randn(6, 3)), ("binary_cross_entropy_with_logits", torch.rand(6, 3)),
     ("cross_entropy", torch.rand(6, 3))],
    ids=["mse", "binary_cross_entropy_with_logits", "soft"],
)  # fmt: skip
def test_measured_with_every_loss(spec, targets):
    torch.manual_seed(5)
    model, x = torch.nn.Linear(4, 3), torch.randn(6, 4)
    functions = {
        "mse": torch.nn.functional.mse_loss,
        "binary_cross_entropy_with_logits":
            torch.nn.functional.binary_cross_entropy_with_logits,
        "cross_entropy": torch.nn.functional.cross_entropy,
    }  # fmt: skip
    wide = targets.double()
    truth = oracle.statistics(model, x, wide, [0] * 6, 1, loss=functions[spec])
    tree = analyze.measure(
        model, analyze.ProbeSet(x, wide), loss=spec, precision="float64", folds=1, device="cpu"
    )
    for name, gram in truth.gram.items():
        found = tree["parameters"]["gradient_gram"].sel(parameter=name).values[0]
        assert oracle.relative_error(found, gram) < 1e-9
    losses = tree["examples"].to_dataset()["loss"].values[0]
    np.testing.assert_allclose(losses, truth.loss, rtol=1e-9)


OWN = """
import torch


def absolute(output, target, power=1.0):
    return (output - target).abs().pow(power).sum(1)


def reduced(output, target):
    return (output - target).abs().mean()


def by_the_batch(output, target):
    return (output - target).abs().sum(1) / len(output)
"""


def own_loss(tmp_path, name: str):
    (tmp_path / "losses.py").write_text(OWN)
    torch.manual_seed(6)
    probes = analyze.ProbeSet(torch.randn(6, 4), torch.randn(6, 3))
    return analyze.measure(
        torch.nn.Linear(4, 3), probes, loss=f"{tmp_path / 'losses.py'}:{name}", device="cpu"
    )


def test_a_function_of_the_user(tmp_path):
    assert np.isfinite(own_loss(tmp_path, "absolute?power=1.5")["network"]["m_coherence"]).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [("reduced", "one loss per example"), ("by_the_batch", "mixes the examples"),
     ("missing", "no such function")],
)  # fmt: skip
def test_refuses_losses_that_are_not_of_one_example(tmp_path, name, message):
    with pytest.raises(analyze.InputError, match=message):
        own_loss(tmp_path, name)


def test_a_loss_that_mixes_is_told_what_of_it_may_do_so():
    x, y = torch.randn(6, 4), torch.randn(6)

    def by_the_mean(output, target):
        losses = ((output - target[:, None]) ** 2).mean(1)
        return losses / losses.detach().mean()

    def broadcast(output, target):
        return ((output - target) ** 2).mean(1)

    told = {"by_the_mean": "over the axes of one example", "broadcast": "[N, N] of [N, 1] and [N]"}
    for loss, width in ((by_the_mean, 3), (broadcast, 1)):
        with pytest.raises(analyze.InputError, match="mixes the examples") as caught:
            analyze.measure(torch.nn.Linear(4, width), (x, y), loss=loss, device="cpu")
        assert [name for name, words in told.items() if words in str(caught.value)] == [
            loss.__name__
        ]


@pytest.mark.parametrize(
    "spec",
    ["cross_entropy?label_smoothing=abc", "cross_entropy?label_smoothing=7",
     "cross_entropy?ignore_index=a", "cross_entropy?weight=1", "mse?x=1"],
)  # fmt: skip
def test_refuses_arguments_with_those_it_takes(spec):
    name = spec.partition("?")[0]
    with pytest.raises(analyze.InputError, match="does not take") as caught:
        build_loss(spec)
    assert caught.value.expected.startswith(name)


def test_a_loss_that_fails_is_not_a_traceback(tmp_path):
    with pytest.raises(analyze.InputError, match="loss function fails"):
        own_loss(tmp_path, "absolute?power=word")


@pytest.mark.parametrize(("output_shape", "target_shape"), SHAPES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_positions_a_few_at_a_time_are_all_of_them(
    output_shape, target_shape, options, monkeypatch
):
    torch.manual_seed(0)
    output, target = torch.randn(output_shape), torch.randint(4, target_shape)
    loss = CrossEntropy(**options)
    expected = loss.losses_and_seed(output, target)
    torch.testing.assert_close(expected[0], loss.per_example(output, target), rtol=1e-14, atol=0.0)
    monkeypatch.setitem(KINDS, "cpu", replace(CPU, entries=9))  # two positions
    for mine, whole in zip(loss.losses_and_seed(output, target), expected, strict=True):
        assert torch.equal(mine, whole)
