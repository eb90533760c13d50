"""A checkpoint of one cell: its batches shared among the cores, against as many plain steps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from analyze.gradients.conditions import measuring, threads_restored
from analyze.gradients.engine import Engine
from analyze.gradients.losses import build_loss
from analyze.gradients.measurement import Settings
from analyze.gradients.replica import Replica
from analyze.probes import ProbeSet
from scripts.benchmarking.contenders import plain
from scripts.benchmarking.paired import each_ratio, spread
from scripts.benchmarking.workloads import Workload

CPU = torch.device("cpu")
BATCHES = 32


def one_cell(workload: Workload, pairs: int) -> dict[str, Any]:
    """Ratio of the sufficient statistics of ``BATCHES`` batches to plain steps over the same.

    From the checkpoint's model to its Gram matrix: threads, batches of the plain step's size, sums.
    The proof and what concerns the statistics of batch norm is in ``whole_checkpoint``.
    """
    with threads_restored():
        engine, ours = accumulating(workload, BATCHES)
        model, inputs, targets = _many(workload, BATCHES).make(CPU)

        def passes() -> None:
            for some, own in zip(
                inputs.split(workload.batch), targets.split(workload.batch), strict=True
            ):
                plain(model, some, own)()

        found = spread(each_ratio(ours, passes, pairs))
    return {"ratio": found, "shares": engine.shares}


def accumulating(workload: Workload, batches: int) -> tuple[Engine, Callable[[], None]]:
    """A prepared engine, and its work on so many batches of one cell."""
    model, inputs, targets = _many(workload, batches).make(CPU)
    settings = Settings("cpu", batch_norm="saved", folds=1, batch_size=workload.batch)
    probes = ProbeSet(inputs.numpy(), targets.numpy())
    engine = Engine(probes, build_loss("cross_entropy"), settings)
    engine.divide(model)
    engine.prepare([copy.deepcopy(model)])
    replica = Replica(model, engine.device, engine.dtype)

    def work() -> None:
        with measuring():
            engine.accumulate(replica)

    return engine, work


def _many(workload: Workload, batches: int) -> Workload:
    return replace(workload, batch=batches * workload.batch)
