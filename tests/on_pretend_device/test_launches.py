"""How many operations a batch starts on a GPU: not many more where it has many cells."""

from __future__ import annotations

from itertools import pairwise

import torch

import analyze
from analyze.gradients.engine import Engine
from analyze.gradients.losses import CrossEntropy
from analyze.gradients.measurement import Settings
from tests.on_pretend_device.test_waits import CLASSES, convolutional
from tests.pretend_device import device

BATCH, PROBES = 40, 160
MORE = 1.5  # times the operations of a batch of one cell
# What a GPU starts nothing for.
VIEWS = {
    f"aten::{name}"
    for name in (
        "as_strided", "view", "_reshape_alias", "_unsafe_view", "expand", "permute", "transpose",
        "t", "select", "slice", "unsqueeze", "squeeze", "split", "unbind", "alias", "detach",
        "unfold", "diagonal",
    )
}  # fmt: skip


def launches() -> int:
    return sum(count for name, count in device.launches().items() if name not in VIEWS)


def of_a_batch(folds: int) -> float:
    """Operations of a batch of a further checkpoint, on average of all but the first."""
    torch.manual_seed(0)
    probes = analyze.ProbeSet(torch.randn(PROBES, 3, 8, 8), torch.arange(PROBES) % CLASSES)
    settings = Settings(folds=folds, batch_size=BATCH, device="pretend")
    engine = Engine(probes, CrossEntropy(), settings)
    engine.prepare([convolutional()])
    counts: list[int] = []
    engine.measure(convolutional(), lambda examples: counts.append(launches()))
    return sum(after - before for before, after in pairwise(counts)) / (len(counts) - 1)


def test_a_batch_of_forty_examples_starts_half_as_many_again_for_many_cells():
    assert of_a_batch(folds=PROBES // 2) <= MORE * of_a_batch(folds=1)
