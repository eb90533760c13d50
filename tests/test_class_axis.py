"""The output's axis of classes: the one that fits, as torch takes it; of two that fit, none."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import analyze
from analyze.gradients.losses import CrossEntropy, Facts, build_loss
from tests import oracle

EXAMPLES = 6


def over(axis: int):
    """Torch's own loss of one example, with the classes on an axis of its output."""

    def loss(output: Tensor, target: Tensor) -> Tensor:
        moved = target.movedim(axis, 1) if target.is_floating_point() else target
        return F.cross_entropy(output.movedim(axis, 1), moved, reduction="sum")

    return loss


class Reversed(nn.Module):
    """A convolution whose axes are set the other way round: nothing says which has the classes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Conv1d(3, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).transpose(1, 2)


class Resized(nn.Module):
    """Segmentation: two branches at half the size, added, brought to the size of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 4, 2, stride=2), nn.Conv2d(3, 4, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        both = self.one(x) + 0.5 * self.other(x).relu()
        return F.interpolate(both, size=x.shape[2:], mode="bilinear")[:, :, :4, :4]


def images(side: int) -> Tensor:
    return torch.randn(EXAMPLES, 3, side, side)


CONVOLVED = {
    "square": (nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)), images(4), (4, 4)),
    "signal": (nn.Conv1d(3, 5, 1), torch.randn(EXAMPLES, 3, 5), (5,)),
    "batch_norm": (nn.Sequential(nn.Conv1d(3, 5, 1), nn.BatchNorm1d(5)),
                   torch.randn(EXAMPLES, 3, 5), (5,)),
    "transposed": (nn.ConvTranspose2d(3, 4, 2, stride=2), images(2), (4, 4)),
    "resized": (Resized(), images(6), (4, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVOLVED)
def test_where_two_fit_a_convolution_tells_and_it_is_told(name):
    torch.manual_seed(0)
    model, x, positions = CONVOLVED[name]
    targets = torch.randint(0, positions[0], (EXAMPLES, *positions))
    assert_measured(model, x, targets, axis=1)
    assert "axis 1" in warnings_of(measured(model, x, targets))[0]


def measured(model, x, targets, loss="cross_entropy"):
    probes = analyze.ProbeSet(x, targets)
    return analyze.measure(
        model, probes, loss=loss, device="cpu", folds=1, precision="float64", batch_norm="saved"
    )


def warnings_of(tree) -> list[str]:
    return json.loads(tree.attrs["provenance"])["warnings"]


def assert_measured(model, x, targets, axis, loss="cross_entropy"):
    truth = oracle.statistics(model, x, targets, [0] * EXAMPLES, 1, loss=over(axis))
    tree = measured(model, x, targets, loss)
    for name, gram in truth.gram.items():
        found = tree["parameters"]["gradient_gram"].sel(parameter=name).values[0]
        assert oracle.relative_error(found, gram) < 1e-9, name
    accuracy = tree["accuracy"].sel(subset="all").item()
    output = model.double().eval()(x.double()).movedim(axis, -1)
    model.float()
    classes = targets.argmax(axis) if targets.is_floating_point() else targets
    assert accuracy == pytest.approx((output.argmax(-1) == classes).double().mean().item())


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_where_two_fit_and_nothing_tells_both_are_named_and_can_be_asked_for(axis):
    torch.manual_seed(1)
    x, targets = torch.randn(EXAMPLES, 3, 5), torch.randint(0, 5, (EXAMPLES, 5))
    model = Reversed(5)
    with pytest.raises(analyze.InputError, match="two axes") as caught:
        measured(model, x, targets, "cross_entropy?label_smoothing=0.0&ignore_index=-7")
    for choice in (1, -1):
        assert f"cross_entropy?ignore_index=-7&class_axis={choice}'" in caught.value.fix
        assert f"axis {choice}" in caught.value.found
    assert_measured(model, x, targets, axis, f"cross_entropy?class_axis={axis}")


def test_a_linear_layer_does_not_tell():
    """Torch takes axis 1 of what it gives, a language model means the last one."""
    x, targets = torch.randn(EXAMPLES, 5, 3), torch.randint(0, 5, (EXAMPLES, 5))
    with pytest.raises(analyze.InputError, match="two axes"):
        measured(nn.Linear(3, 5), x, targets)


SOFT = {
    "classes_first": (nn.Conv1d(3, 5, 1), torch.randn(EXAMPLES, 3, 7), 1),
    "classes_last": (nn.Linear(3, 5), torch.randn(EXAMPLES, 7, 3), -1),
    "images": (nn.Conv2d(3, 5, 1), images(2), 1),
}


@pytest.mark.parametrize("name", SOFT)
@pytest.mark.parametrize("hard", [False, True], ids=["soft", "one_hot"])
def test_soft_targets_sum_to_one_along_the_classes(name, hard):
    torch.manual_seed(2)
    model, x, axis = SOFT[name]
    scores = torch.randn(model(x).shape)
    targets = scores.softmax(axis).half().float()
    if hard:
        targets = torch.zeros_like(scores).scatter_(axis, scores.argmax(axis, keepdim=True), 1.0)
    assert_measured(model, x, targets, axis)


def test_soft_targets_with_padding_are_told_by_the_rest():
    torch.manual_seed(3)
    targets = torch.randn(EXAMPLES, 7, 5).softmax(-1)
    targets[1, 3:] = 0.0
    assert_measured(nn.Linear(3, 5), torch.randn(EXAMPLES, 7, 3), targets, -1)


@pytest.mark.parametrize("scale", [1.0, 3.0], ids=["along both", "along none"])
def test_soft_targets_that_do_not_tell_are_refused(scale):
    x, targets = torch.randn(EXAMPLES, 3, 5), scale * torch.eye(5).repeat(EXAMPLES, 1, 1)
    with pytest.raises(analyze.InputError, match="two axes") as caught:
        measured(Reversed(5), x, targets)
    assert "class_axis=-1" in caught.value.fix
    assert_measured(Reversed(5), x, targets, 1, "cross_entropy?class_axis=1")


def test_an_axis_that_does_not_fit_is_refused():
    x, targets = torch.randn(EXAMPLES, 3, 7), torch.randint(0, 5, (EXAMPLES, 7))
    for axis in (-1, 3, -3):
        with pytest.raises(analyze.InputError, match="do not fit") as caught:
            measured(nn.Conv1d(3, 5, 1), x, targets, f"cross_entropy?class_axis={axis}")
        assert f"axis {axis}" in caught.value.found


@pytest.mark.parametrize("spec", ["class_axis=0", "class_axis=last", "shift=-1", "shift=true"])
def test_what_is_no_axis_or_shift_is_no_argument(spec):
    with pytest.raises(analyze.InputError, match="does not take"):
        build_loss(f"cross_entropy?{spec}")


def test_batches_of_soft_targets_are_taken_as_the_whole():
    """A single example may be a distribution along both axes."""
    both, first = torch.eye(3)[None], torch.tensor([[[0.5, 0.0, 0.0], [0.5, 1, 0], [0, 0, 1]]])
    targets, output = torch.cat([both, first]), torch.randn(2, 3, 3)
    loss = CrossEntropy()
    assert loss.check(output, targets, Facts()) == []
    expected = F.cross_entropy(output[:1], both, reduction="none").sum(1)
    torch.testing.assert_close(loss.per_example(output[:1], both).float(), expected)
