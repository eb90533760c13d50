"""A checkpoint of one cell: its batches shared among the cores, against as many plain steps."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch

from analyze.division import divided
from analyze.gradients.conditions import measuring, threads_restored
from analyze.gradients.engine import Engine
from analyze.gradients.losses import build_loss
from analyze.gradients.measurement import Settings
from analyze.gradients.replica import Replica
from analyze.probes import ProbeSet
from scripts.benchmarking.contenders import plain
from scripts.benchmarking.paired import each_ratio, spread
from scripts.benchmarking.workloads import Workload

BATCHES = 32


def one_cell(workload: Workload, pairs: int) -> dict[str, Any]:
    """Ratio of the sufficient statistics of ``BATCHES`` batches to plain steps over the same.

    From the checkpoint's model to its Gram matrix: forks, batches of the plain step's size, sums.
    The proof and what concerns the statistics of batch norm is in ``whole_checkpoint``.
    """
    many = replace(workload, batch=BATCHES * workload.batch)
    model, inputs, targets = many.make(torch.device("cpu"))
    settings = Settings("cpu", batch_norm="saved", folds=1, batch_size=workload.batch)
    probes = ProbeSet(inputs.numpy(), targets.numpy())
    engine = Engine(probes, build_loss("cross_entropy"), settings)
    needed = engine.bytes_needed(sum(p.numel() for p in model.parameters()))
    engine.processes = divided(1, engine.device, needed).sharing
    with threads_restored():
        engine.prepare([copy.deepcopy(model)])
        replica = Replica(copy.deepcopy(model), engine.device, engine.dtype)

        def ours() -> None:
            with measuring():
                engine.accumulate(replica)

        def passes() -> None:
            for some, own in zip(
                inputs.split(workload.batch), targets.split(workload.batch), strict=True
            ):
                plain(model, some, own)()

        found = spread(each_ratio(ours, passes, pairs))
    return {"ratio": found, "processes": engine.processes, "shares": engine.shares}
