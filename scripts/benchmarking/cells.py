"""A whole checkpoint: many cells, their Gram matrix, the proof; against plain passes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from analyze.gradients.conditions import measuring
from analyze.gradients.engine import Engine
from analyze.gradients.losses import build_loss
from analyze.gradients.measurement import Settings
from analyze.probes import ProbeSet
from scripts.benchmarking.contenders import plain
from scripts.benchmarking.paired import ratios
from scripts.benchmarking.workloads import Workload

SUBSETS, FOLDS, EACH = 3, 10, 100
LONG = 60.0  # seconds of plain passes, from which one pair has to do
PAIRS = 3


def whole_checkpoint(workload: Workload, device: str) -> dict[str, Any]:
    """Ratio of ``SUBSETS * FOLDS`` cells of ``EACH`` probes to plain passes over the same probes.

    Batch norm as saved, losses under both of its statistics included: their forward passes over
    some of the probes are part of every measurement.
    """
    count = SUBSETS * FOLDS * EACH
    many = replace(workload, batch=count)
    model, inputs, targets = many.make(torch.device("cpu"))
    names = [f"subset {n % SUBSETS}" for n in range(count)]
    probes = ProbeSet(inputs.numpy(), targets.numpy(), subset=names)
    engine = Engine(probes, build_loss("cross_entropy"), Settings(device, batch_norm="saved"))
    engine.prepare([copy.deepcopy(model)])

    def ours() -> None:
        engine.measure(copy.deepcopy(model))

    place = torch.device(device)
    model, inputs, targets = model.to(place), inputs.to(place), targets.to(place)

    def passes() -> None:
        for start in range(0, count, workload.batch):
            _plain_step(model, inputs, targets, slice(start, start + workload.batch))

    with measuring():
        found = ratios(ours, passes, PAIRS, long=LONG)
    return {"ratio": found, "batch": engine.batch_size, "cells": len(engine.cells)}


def _plain_step(model: torch.nn.Module, inputs: Tensor, targets: Tensor, rows: slice) -> None:
    plain(model, inputs[rows], targets[rows])()
