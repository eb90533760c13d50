"""Memory that runs out inside of a model is told as that, not as a fault of the model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import analyze

NO_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB"


class OutOfMemoryInBackward(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        raise RuntimeError(NO_MEMORY)


class Network(nn.Module):
    """Runs out of memory at one place."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.fc, self.where = nn.Linear(4, 3), where

    def forward(self, x):
        if self.where == "forward" or (self.where == "graph" and torch.is_grad_enabled()):
            raise RuntimeError(NO_MEMORY)
        y = self.fc(x)
        return OutOfMemoryInBackward.apply(y) if self.where == "backward" else y

    def __deepcopy__(self, memo):
        if self.where == "copy":
            raise RuntimeError(NO_MEMORY)
        made = Network(self.where)
        made.load_state_dict(self.state_dict())
        return made


@pytest.mark.parametrize("where", ["forward", "graph", "backward", "copy"])
def test_it_is_told_wherever_it_runs_out(where):
    probes = torch.randn(8, 4), torch.randint(0, 3, (8,))
    with pytest.raises(analyze.InputError, match="does not fit into memory") as told:
        analyze.measure(Network(where).eval(), probes, device="cpu")
    assert "out of memory on cpu" in told.value.found
