"""A checkpoint of one cell: its batches shared among the cores, against as many plain steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from analyze.gradients.engine import Engine
from analyze.gradients.measurement import Settings
from analyze.gradients.model.replica import Replica
from analyze.gradients.step.conditions import measuring, threads_restored
from scripts.benchmarking.contenders import plain
from scripts.benchmarking.paired import each_ratio, spread
from scripts.benchmarking.prepared import prepared
from scripts.benchmarking.workloads import Workload

CPU = torch.device("cpu")
BATCHES = 32


def one_cell(workload: Workload, pairs: int) -> dict[str, Any]:
    """Ratio of the sufficient statistics of ``BATCHES`` batches to plain steps over all of these.

    From the checkpoint's model to its Gram matrix: threads, batches as ``workload.share`` says, of
    which the memory is measured, too, and sums. The plain steps have batches of their own size. The
    proof and what concerns the statistics of batch norm is in ``whole_checkpoint``.
    """
    with threads_restored():
        engine, ours = accumulating(workload)
        model, inputs, targets = _all_probes(workload).make(CPU)

        def passes() -> None:
            for some, own in zip(
                inputs.split(workload.batch), targets.split(workload.batch), strict=True
            ):
                plain(model, some, own)()

        found = spread(each_ratio(ours, passes, pairs, CPU))
    return {"ratio": found, "shares": engine.current.shares, "batch": workload.share}


def accumulating(workload: Workload) -> tuple[Engine, Callable[[], None]]:
    """A prepared engine, and its work on the batches of one cell."""
    model, inputs, targets = _all_probes(workload).make(CPU)
    settings = Settings("cpu", batch_norm="saved", folds=1, batch_size=workload.share)
    engine = prepared(model, inputs, targets, settings)
    replica = Replica(model, engine.device, engine.current.architecture.dtype)

    def work() -> None:
        with measuring():
            engine.accumulate(replica)

    return engine, work


def _all_probes(workload: Workload) -> Workload:
    return replace(workload, batch=BATCHES * workload.share)
