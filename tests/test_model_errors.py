"""A model that fails says so itself, with the module; probes do not fit only where it is so."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import analyze

EXAMPLES = 6
UNFIT = "the model cannot take the probe inputs"
FAILS = "the model's forward pass fails"
VECTORS = torch.randn(EXAMPLES, 4)


class Between(nn.Module):
    """A layer, what is done to its output, and another layer."""

    def __init__(self, what, **modules: nn.Module) -> None:
        super().__init__()
        self.first, self.last, self.what = nn.Linear(4, 5), nn.Linear(5, 3), what
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.what(self, self.first(x)))


class Masked(nn.Module):
    """Takes two arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, tokens: Tensor, mask: Tensor, scale: float = 1.0) -> Tensor:
        return self.head(tokens * mask)


class Wrapped(nn.Module):
    """Hands its arguments on."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Tensor, **named: Tensor) -> Tensor:
        return self.inner(*args, **named)


class Positions(nn.Module):
    """A table that is too small for its own indices."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(3, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.table(torch.arange(x.shape[1])).mean(0) + x.new_zeros(len(x), 5))


def embedded() -> nn.Module:
    return nn.Sequential(nn.Embedding(9, 5), nn.Flatten(), nn.Linear(20, 3))


def ids(largest: int) -> Tensor:
    found = torch.zeros(EXAMPLES, 4, dtype=torch.int64)
    found[3, 1] = largest  # none of the probes with which the model is tried
    return found


# Model, inputs, what is said, what is found, what is expected.
CASES = {
    "an argument missing": (Masked(), VECTORS, UNFIT, "'mask', in the model itself (Masked)",
                            "tokens, mask, scale=1.0"),
    "another name": (Masked(), {"tokens": VECTORS, "weight": VECTORS}, UNFIT, "'weight'",
                     "tokens, mask, scale=1.0"),
    "another width": (nn.Sequential(nn.Linear(5, 3)), VECTORS, UNFIT,
                      "RuntimeError: mat1 and mat2 shapes cannot be multiplied (5x4 and 5x3), in 0 "
                      "(Linear)", "shapes fit"),
    "in a wrapper": (Wrapped(nn.Sequential(nn.ReLU(), nn.Linear(5, 3))), VECTORS, FAILS,
                     "in inner.1 (Linear) after inner.0 (ReLU)", "shapes fit"),
    "integers": (nn.Linear(4, 3), ids(1), UNFIT, "got Long", "floating point inputs"),
    "floats for ids": (embedded(), VECTORS, UNFIT, "in 0 (Embedding)", "integers"),
    "channels": (nn.Conv1d(3, 5, 1), VECTORS[:, None], UNFIT, "to have 3 channels",
                 "shapes fit"),
    "id too large": (embedded(), ids(9), "a token id is out of range",
                     "id 9 in the inputs (the first such probe is 3", "ids 0 to 8: 0 (Embedding)"),
    "id below zero": (embedded(), ids(-1), "a token id is out of range", "id -1", "ids 0 to 8"),
    "its own indices": (Positions(), VECTORS, FAILS, "IndexError: index out of range in self, in "
                        "table (Embedding)", "below the size of the table"),
    "later width": (nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(6, 3)), VECTORS, FAILS,
                    "in 2 (Linear) after 1 (ReLU)", "shapes fit"),
    "complex": (Between(lambda m, x: torch.fft.fft(x)), VECTORS, FAILS,
                "in last (Linear) after first (Linear)", "takes complex numbers"),
    "mask of integers": (Between(lambda m, x: x.masked_fill(torch.ones(5).long(), 0)), VECTORS,
                         FAILS, "in the model itself (Between) after first (Linear)", "booleans"),
    "two precisions": (Between(lambda m, x: x.double()), VECTORS, FAILS, "in last (Linear)",
                       "one precision"),
    "an error of its own": (Between(lambda m, x: x / 0 / {}["nothing"]), VECTORS, FAILS,
                            "KeyError: 'nothing', in the model itself (Between) after first",
                            "forward pass that runs"),
    "before anything": (Wrapped(nn.Linear(4, 3)), {"x": VECTORS}, FAILS, "TypeError",
                        "forward pass that runs"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_torchs_own_error_the_module_and_the_cause(name):
    model, inputs, what, found, expected = CASES[name]
    with pytest.raises(analyze.InputError) as caught:
        measured(model, inputs)
    assert caught.value.what == what
    assert found in caught.value.found
    assert expected in caught.value.expected


def normed(channels: int) -> nn.Module:
    """A network with batch norm, whose statistics take the first pass over the probes."""
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3)
    )


class WithLoss(nn.Module):
    """Takes the targets as well, as models that give their own loss do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = normed(1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.inner(x), y)


IMAGES = torch.randn(EXAMPLES, 1, 6, 6)
NORMED = {
    "size": (normed(1), torch.randn(EXAMPLES, 1, 9, 9), FAILS, "in 3 (Linear) after 2 (Flatten)"),
    "channels": (normed(1), IMAGES.repeat(1, 3, 1, 1), UNFIT, "to have 1 channels, but got 3"),
    "channels last": (normed(1), IMAGES.movedim(1, -1), UNFIT, "in 0 (Conv2d)"),
    "flat": (normed(1), IMAGES.flatten(1), UNFIT, "probes: inputs [36]"),
    "no channel": (normed(1), IMAGES[:, 0], UNFIT, "probes: inputs [6, 6]"),
    "uint8 without mean and std": (normed(1), IMAGES.to(torch.uint8), UNFIT, "in 0 (Conv2d)"),
    "targets too": (WithLoss(), IMAGES, UNFIT, "'y', in the model itself (WithLoss)"),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMED)
def test_a_model_with_batch_norm_is_refused_like_any_other(name):
    model, inputs, what, found = NORMED[name]
    with pytest.raises(analyze.InputError) as caught:
        measured(model, inputs)
    assert caught.value.what == what
    assert found in caught.value.found


def measured(model: nn.Module, inputs: Tensor | dict[str, Tensor]):
    probes = analyze.ProbeSet(inputs, torch.arange(EXAMPLES) % 3)
    return analyze.measure(model, probes, device="cpu", folds=1)


class Columns(nn.Module):
    """Cuts its input to size in place, and looks up one column of it, and all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.head = nn.Embedding(2, 5), nn.Embedding(3, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x.clamp_(0, 2)
        return self.head(self.one(x[:, 0]) + self.other(x).sum(1))


def test_ids_that_the_model_changes_first_are_its_own_matter():
    inputs = ids(9)
    inputs[:, 3] = -5
    assert measured(Columns(), inputs)["network"]["m_coherence"].notnull().all()


def test_one_example_alone_is_told_as_that():
    model = Between(lambda m, x: x[:, :, None].squeeze().flatten(1))
    with pytest.raises(analyze.InputError, match="one example alone") as caught:
        measured(model, VECTORS)
    assert "squeeze(-1)" in caught.value.fix


def test_out_of_memory_is_no_matter_of_the_inputs(monkeypatch):
    def full(module: nn.Module, x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(analyze.InputError, match="does not fit into memory"):
        measured(Between(full), VECTORS)
