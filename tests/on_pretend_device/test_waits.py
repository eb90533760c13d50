"""How often the host waits for a GPU: for each batch once, and then a few times for a checkpoint.

A wait is a copy to the host, a copy to the device from memory that is not pinned, or a question
that a number on the device answers: ``.item()``, ``bool(tensor)``, ``nonzero``, ``unique``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import analyze
from analyze.gradients.engine import Engine
from analyze.gradients.losses import CrossEntropy
from analyze.gradients.measurement import Settings
from tests.pretend_device import device

BATCH, BATCHES = 8, 4
PROBES = BATCH * BATCHES
CLASSES = 3
DEEP = 100  # layers, of two parameters each
OF_A_BATCH = 1
OF_100_PARAMETERS = 2
# Where the model's own operations are called: what they wait for is the model's.
MODEL = re.compile(r"step/intercept\.py:\d+$|tests/")


class Lookups(nn.Module):
    """Tables that are looked up, by an embedding and by an index."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 6, padding_idx=0)
        self.others = nn.Parameter(torch.randn(20, 6))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head((self.words(ids) * self.others[ids]).tanh().mean(1))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2),
        nn.GroupNorm(2, 6), nn.ReLU(), nn.Flatten(), nn.Linear(96, CLASSES),
    )  # fmt: skip


def attention() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.Sequential(layer, nn.LayerNorm(8), nn.Flatten(), nn.Linear(32, CLASSES))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(x).tanh()


def deep() -> nn.Module:
    layers = (Residual() for _ in range(DEEP))
    first = nn.Linear(4, 4, bias=False)
    return nn.Sequential(first, nn.BatchNorm1d(4), *layers, nn.Linear(4, CLASSES))


INPUTS: dict[Callable[[], nn.Module], Callable[[], Tensor]] = {
    convolutional: lambda: torch.randn(PROBES, 3, 8, 8),
    attention: lambda: torch.randn(PROBES, 4, 8),
    Lookups: lambda: torch.randint(0, 20, (PROBES, 5)),
    deep: lambda: torch.randn(PROBES, 4),
}


def waits_of(build: Callable[[], nn.Module], folds: int = 1) -> list[Counter[str]]:
    """What the host waited for in the measurement of a further checkpoint.

    First what came before the end of the first batch, then what came from one batch to the next,
    and at last what came after all of them.
    """
    torch.manual_seed(0)
    subset = ["one", "other"] * (PROBES // 2)
    probes = analyze.ProbeSet(INPUTS[build](), torch.arange(PROBES) % CLASSES, subset)
    settings = Settings(folds=folds, batch_size=BATCH, device="pretend")
    engine = Engine(probes, CrossEntropy(), settings)
    engine.prepare([build()])
    model = build()
    seen = [Counter(device.waits)]
    engine.measure(model, lambda examples: seen.append(Counter(device.waits)))
    seen.append(Counter(device.waits))
    between = [after - before for before, after in pairwise(seen)]
    return [Counter({at: n for at, n in w.items() if not MODEL.search(at)}) for w in between]


def told(waits: Counter[str]) -> str:
    """A line for each place: how often, why, and the file and line."""
    return "\n".join(f"{count} x {where}" for where, count in waits.most_common())


@pytest.mark.parametrize("build", INPUTS)
def test_the_host_waits_once_for_a_batch(build):
    _, *batches, _ = waits_of(build, folds=4)
    assert len(batches) == BATCHES - 1
    for batch in batches:
        assert batch.total() <= OF_A_BATCH, told(batch)


def test_it_waits_a_few_times_for_a_checkpoint_however_many_parameters_there_are():
    waits = sum(waits_of(deep), Counter())
    parameters = len([*deep().parameters()])
    allowed = BATCHES * OF_A_BATCH + OF_100_PARAMETERS * -(-parameters // 100)
    assert waits.total() <= allowed, told(waits)
