"""``analyze.measure`` from call to result in a fresh process, and called again in the same one.

Against plain forward and backward passes over the same probes, 32 at a time, on all cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import Any, Literal

import torch
from torch import Tensor, nn

import analyze
from analyze.gradients.device.devices import HOST
from analyze.gradients.device.timing import once
from scripts.benchmarking.contenders import plain
from scripts.benchmarking.paired import spread
from scripts.benchmarking.workloads import FIRST, Workload

COUNTS = (64, 256, 1024, 4096)  # of probes
BATCH = 32  # of the plain passes
TIMED = 1024  # probes that plain passes are timed over at the most: their time is in proportion
AGAIN = 1024  # probes up to which a second call is timed
LONG = 60.0  # seconds of plain passes from which one pair has to do
BatchNorm = Literal["recomputed", "saved"]


@dataclass(frozen=True)
class Pair:
    """Seconds in one process."""

    plain: float
    first: float  # the first call of measure
    again: float | None  # the second call


def first_calls(workload: Workload, counts: Sequence[int], pairs: int) -> dict[str, Any]:
    """For each count of probes, ratios of the first and of the second call of ``measure``.

    A measurement takes one more forward pass for the statistics of batch norm by default, so models
    with batch norm are also measured with ``batch_norm="saved"``. Each pair is a fresh process:
    plain passes, both calls, plain passes again, of which the mean counts. One plain step comes
    before all of these, as in a training loop.
    """
    modes = _batch_norm_modes(workload.build())
    return {
        str(count): {mode: _ratios(workload.name, count, mode, pairs) for mode in modes}
        for count in counts
    }


def _batch_norm_modes(model: nn.Module) -> list[BatchNorm]:
    """Those that differ for a model, the default first."""
    has_batch_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    return ["recomputed", "saved"] if has_batch_norm else ["recomputed"]


def _ratios(name: str, count: int, batch_norm: BatchNorm, pairs: int) -> dict[str, Any]:
    found: list[Pair] = []
    while len(found) < pairs:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            found.append(process.submit(_pair, name, count, batch_norm).result())
        if found[-1].plain > LONG:
            break
    again = [pair.again / pair.plain for pair in found if pair.again is not None]
    return {
        "ratio": spread([pair.first / pair.plain for pair in found]),
        "again": spread(again) if again else None,
        "plain seconds": min(pair.plain for pair in found),
    }


def _pair(name: str, count: int, batch_norm: BatchNorm) -> Pair:
    """The seconds of one process, which is fresh."""
    workload = next(w for w in FIRST if w.name == name)
    model, inputs, targets = replace(workload, batch=count).make(torch.device("cpu"))
    probes = analyze.ProbeSet(inputs.numpy(), targets.numpy())
    measure = partial(analyze.measure, model, probes, batch_norm=batch_norm, device="cpu")
    passes = partial(_plain_passes, model, inputs[:TIMED], targets[:TIMED])
    plain(model, inputs[:BATCH], targets[:BATCH])()
    before = once(passes, HOST)
    first = once(measure, HOST)
    again = once(measure, HOST) if count <= AGAIN else None
    whole = (before + once(passes, HOST)) / 2 * count / min(count, TIMED)
    return Pair(whole, first, again)


def _plain_passes(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    for some, labels in zip(inputs.split(BATCH), targets.split(BATCH), strict=True):
        plain(model, some, labels)()
