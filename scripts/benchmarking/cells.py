"""A whole checkpoint: many cells, their Gram matrix, the proof; against plain passes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from analyze.gradients.measurement import Settings
from analyze.gradients.step.conditions import measuring, threads_restored
from scripts.benchmarking.contenders import plain
from scripts.benchmarking.paired import each_ratio, spread
from scripts.benchmarking.prepared import prepared
from scripts.benchmarking.series import side_by_side
from scripts.benchmarking.workloads import Workload

SUBSETS, FOLDS, EACH = 3, 10, 100
SAMPLE = 8  # one of so many plain steps is timed
LONG = 10.0  # seconds of these, from which one pair has to do
PAIRS = 3


def whole_checkpoint(workload: Workload, device: str, workers: int = 1) -> dict[str, Any]:
    """Ratio of ``SUBSETS * FOLDS`` cells of ``EACH`` probes to plain passes over the same probes.

    Batch norm as saved, losses under both of its statistics included: their forward passes over
    some of the probes are part of every measurement.

    Args:
        workload: The model.
        device: Where.
        workers: So many checkpoints side by side, each on one thread; plain passes on all. With 1
            the threads of a CPU share the batches of one checkpoint.
    """
    with measuring(torch.device(device)), threads_restored():
        return _compared(workload, device, workers)


def _compared(workload: Workload, device: str, workers: int) -> dict[str, Any]:
    threads = torch.get_num_threads()
    if workers > 1:
        torch.set_num_threads(1)
    count = SUBSETS * FOLDS * EACH
    many = replace(workload, batch=count)
    model, inputs, targets = many.make(torch.device("cpu"))
    names = [f"subset {n % SUBSETS}" for n in range(count)]
    settings = Settings(device, batch_norm="saved")
    engine = prepared(model, inputs, targets, settings, names, shared=workers == 1)

    def ours() -> None:
        engine.measure(copy.deepcopy(model))

    torch.set_num_threads(threads)
    place = torch.device(device)
    model, inputs, targets = model.to(place), inputs.to(place), targets.to(place)

    def passes() -> None:
        for start in range(0, count, workload.batch * SAMPLE):
            _plain_step(model, inputs, targets, slice(start, start + workload.batch))

    sampled = len(range(0, count, workload.batch * SAMPLE)) * workload.batch / count
    if workers == 1:
        found = spread(each_ratio(ours, passes, PAIRS, place, LONG, sampled))
    else:
        with side_by_side(ours, workers) as work:
            found = spread(
                each_ratio(lambda: work(1), passes, PAIRS, place, LONG, sampled / workers)
            )
    return {"ratio": found, "batch": engine.batch_size, "cells": len(engine.cells)}


def _plain_step(model: torch.nn.Module, inputs: Tensor, targets: Tensor, rows: slice) -> None:
    plain(model, inputs[rows], targets[rows])()
