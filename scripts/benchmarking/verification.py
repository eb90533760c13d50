"""What verification adds to a checkpoint: its numbers found again, against none of that."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any
from unittest import mock

import torch

from analyze.gradients.device.devices import HOST
from analyze.gradients.measurement import Measurement, Settings
from analyze.gradients.measurer import Measurer, Observed
from analyze.gradients.model.replica import Replica
from analyze.gradients.state import EngineState
from analyze.gradients.step.conditions import threads_restored
from scripts.benchmarking.paired import each_ratio, spread
from scripts.benchmarking.prepared import prepared
from scripts.benchmarking.workloads import Workload

BATCHES = 32
LONG = 20.0  # seconds from which one pair is enough


def verification(workload: Workload, pairs: int) -> dict[str, Any]:
    """Ratio of measuring a checkpoint to measuring it without verification.

    Of as many probes as ``BATCHES`` plain steps have, in batches as the engine chooses them.
    """
    work = replace(workload, batch=BATCHES * workload.batch)
    model, inputs, targets = work.make(torch.device("cpu"))
    settings = Settings("cpu", batch_norm="saved", folds=1)
    with threads_restored():
        engine = prepared(model, inputs, targets, settings)
        verified = engine.measure(copy.deepcopy(model)).verified

        def unchecked(
            _: Measurer, replica: Replica, observed: Observed, state: EngineState
        ) -> tuple[Measurement, EngineState]:
            return observed.measurement, state

        def unverified() -> None:
            with mock.patch.object(Measurer, "_checked", unchecked):
                engine.measure(model)

        ratios = each_ratio(lambda: engine.measure(model), unverified, pairs, HOST, long=LONG)
    return {
        "ratio": spread(ratios),
        "probes": work.batch,
        "batch": engine.batch_size,
        "alone": verified.alone,
        "elsewhere": verified.elsewhere,
    }
