"""Random numbers in eval mode: whatever draws them, and for however few probes, is found."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import analyze
from analyze.errors import CheckpointError

MARKED = (7, 23, 31)  # of 40 probes: three in ways that no probe that is looked at has


class Noisy(nn.Module):
    """Two layers, and numbers drawn for the probes whose first entry is large."""

    def __init__(self, noise) -> None:
        super().__init__()
        self.first, self.last, self.noise = nn.Linear(6, 8), nn.Linear(8, 3), noise

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).tanh()
        marked = (x[:, 0] == 0.125).unsqueeze(1)
        return self.last(torch.where(marked, self.noise(hidden), hidden))


class BackwardOnly(torch.autograd.Function):
    """The input; its gradient is multiplied by a random number."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad * (1 + torch.rand(1))


USED = {
    "dropout": lambda x: nn.functional.dropout(x, 0.5, training=True),
    "noise of torch": lambda x: x + 0.1 * torch.randn_like(x),
    "noise of Python": lambda x: x * (1 + random.random()),
    "noise of numpy": lambda x: x * (1 + np.random.rand()),
    "in the backward pass": BackwardOnly.apply,
}
UNUSED = {
    "torch": lambda x: x + 0.0 * torch.rand(1),
    "Python": lambda x: x if random.random() < 2 else -x,
    "numpy": lambda x: x if np.random.rand() < 2 else -x,
}


def probes() -> analyze.ProbeSet:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 6, generator=generator)
    inputs[list(MARKED), 0] = 0.125
    return analyze.ProbeSet(inputs, torch.arange(40) % 3)


def model(noise) -> nn.Module:
    torch.manual_seed(1)
    return Noisy(noise)


@pytest.mark.parametrize("noise", USED.values(), ids=USED)
def test_noise_for_few_probes_is_refused(noise):
    with pytest.raises(CheckpointError, match="draws random numbers") as caught:
        analyze.measure(model(noise), probes(), device="cpu", folds=1, batch_size=8)
    assert "model.eval()" in caught.value.fix


@pytest.mark.parametrize("draw", UNUSED.values(), ids=UNUSED)
def test_numbers_that_nothing_depends_on_may_be_drawn(draw):
    options = {"device": "cpu", "folds": 1, "batch_size": 8}
    drawn = analyze.measure(model(draw), probes(), **options)
    quiet = analyze.measure(model(lambda x: x), probes(), **options)
    np.testing.assert_allclose(
        drawn["network"]["m_coherence"], quiet["network"]["m_coherence"], rtol=1e-6
    )
