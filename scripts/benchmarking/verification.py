"""What verification adds to a checkpoint: the time of finding its numbers again."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from typing import Any
from unittest import mock

import torch

from analyze.gradients.measurement import Measurement, Settings
from analyze.gradients.measurer import Measurer, Observed
from analyze.gradients.model.replica import Replica
from analyze.gradients.state import EngineState
from analyze.gradients.step.conditions import threads_restored
from scripts.benchmarking.paired import spread
from scripts.benchmarking.prepared import prepared
from scripts.benchmarking.workloads import Workload

BATCHES = 32


def verification(workload: Workload, runs: int) -> dict[str, Any]:
    """Ratio of the time to measure a checkpoint to the same time less that of verification.

    Of as many probes as ``BATCHES`` plain steps have, in batches as the engine chooses them. Both
    times are of one run: two runs on a shared machine differ by more than what is asked for.
    """
    work = replace(workload, batch=BATCHES * workload.batch)
    model, inputs, targets = work.make(torch.device("cpu"))
    settings = Settings("cpu", batch_norm="saved", folds=1)
    checking = 0.0
    check = Measurer._checked

    def timed(
        measurer: Measurer, replica: Replica, observed: Observed, state: EngineState
    ) -> tuple[Measurement | None, EngineState]:
        nonlocal checking
        start = time.perf_counter()
        try:
            return check(measurer, replica, observed, state)
        finally:
            checking = time.perf_counter() - start

    ratios = []
    with threads_restored():
        engine = prepared(model, inputs, targets, settings)
        verified = engine.measure(copy.deepcopy(model)).verified
        with mock.patch.object(Measurer, "_checked", timed):
            for _ in range(runs):
                start = time.perf_counter()
                engine.measure(model)
                whole = time.perf_counter() - start
                ratios.append(whole / (whole - checking))
    return {
        "ratio": spread(ratios),
        "probes": work.batch,
        "batch": engine.batch_size,
        "alone": verified.alone,
        "elsewhere": verified.elsewhere,
    }
