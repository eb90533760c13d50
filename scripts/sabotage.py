"""Spoil measurements on purpose, and count how many are found out.

Each trial measures 1,000 probes in batches of 10 with a small model that does something wrong for
one probe, drawn at random, or for few of them, of which calibration and proof know nothing: it
works on one batch in a random order, it mixes the examples of the batch in which an outlier is, or
it has a parameter that 5 probes alone reach. Found out is what ends with the numbers of plain
autograd, or with a refusal. Exits with 1 where fewer than 95 of 100 are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

import analyze

PROBES, SIZE, CLASSES, WIDTH = 1000, 10, 4, 6
MARK = 0.125  # a value that no other probe has, and that is extreme in nothing
RARE = 5
FOUND = 0.95
NEAR = 1e-3  # float32


class Spoilt(nn.Module):
    """Two layers, and the place where something goes wrong."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.first, self.other = nn.Linear(WIDTH, 8), nn.Linear(WIDTH, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs of the batch."""
        return self.head(torch.tanh(self.first(x)) + 0 * self.other(x))


class Permuted(Spoilt):
    """Works on the batch with the marked probe in a random order, and puts it back."""

    def forward(self, x: Tensor) -> Tensor:
        order = torch.arange(len(x))
        if bool((x[:, 0] == MARK).any()) and len(x) > 1:
            order = torch.randperm(len(x), generator=torch.Generator().manual_seed(self.seed))
        hidden = torch.tanh(self.first(x[order]) + self.other(x[order]))
        return self.head(hidden)[torch.argsort(order)]


class Mixed(Spoilt):
    """Scales the batch by whether the marked probe is in it."""

    def forward(self, x: Tensor) -> Tensor:
        scale = 1.0 + 0.1 * (x[:, :1] == MARK).any()
        return self.head(torch.tanh(self.first(scale * x) + self.other(x)))


class Rare(Spoilt):
    """A layer that only the marked probes reach; for the others its gradient is below rounding."""

    def forward(self, x: Tensor) -> Tensor:
        share = torch.where(x[:, :1] == MARK, 1.0, 1e-12)
        return self.head(torch.tanh(self.first(x)) + share * torch.tanh(self.other(x)))


KINDS = {"permuted batch": (Permuted, 1), "mixing outlier": (Mixed, 1), "rare layer": (Rare, RARE)}


def trial(model: nn.Module, marked: int, seed: int) -> bool:
    """Whether a spoilt measurement is found out, or right all the same."""
    draws = np.random.default_rng(seed)
    inputs = torch.from_numpy(draws.normal(size=(PROBES, WIDTH)).astype("float32"))
    inputs[draws.choice(PROBES, marked, replace=False), 0] = MARK
    targets = torch.from_numpy(draws.integers(0, CLASSES, PROBES))
    probes = analyze.ProbeSet(inputs, targets)
    try:
        tree = analyze.measure(model, probes, folds=1, batch_size=SIZE, device="cpu")
    except analyze.InputError:
        return True
    expected = truth(model, inputs, targets)
    found = tree["examples"].to_dataset()["gradient_sqnorm"].isel(checkpoint=0)
    return all(
        np.allclose(found.sel(layer=layer).values, norms, rtol=NEAR, atol=NEAR * norms.max())
        for layer, norms in expected.items()
    )


def truth(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, np.ndarray]:
    """Each layer's squared norms ``[N]``, by plain autograd, one example at a time."""
    found = {name: np.zeros(len(inputs)) for name, _ in model.named_children()}
    for k in range(len(inputs)):
        model.zero_grad()
        output = model(inputs[k : k + 1])
        nn.functional.cross_entropy(output, targets[k : k + 1]).backward()
        for name, layer in model.named_children():
            grads = [p.grad for p in layer.parameters() if p.grad is not None]
            found[name][k] = sum(float(g.double().square().sum()) for g in grads)
    return found


def rate(build: Callable[[int], nn.Module], marked: int, trials: int) -> float:
    """The share of trials that are found out."""
    found = 0
    for seed in range(trials):
        torch.manual_seed(seed)
        found += trial(build(seed), marked, seed)
    return found / trials


def main() -> int:
    """Print each kind's share."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--kind", choices=KINDS, action="append")
    arguments = parser.parse_args()
    good = True
    for kind in arguments.kind or KINDS:
        share = rate(*KINDS[kind], arguments.trials)
        print(f"{kind}: {share:.0%} of {arguments.trials} found out", flush=True)
        good &= share >= FOUND
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
