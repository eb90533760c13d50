"""What directions add: passes over a batch with and without them, each beside the plain step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from analyze.gradients.calibrate.calibration import calibrate
from analyze.gradients.checks.along import trial_directions
from analyze.gradients.device.timing import once
from analyze.gradients.losses import build_loss
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica
from analyze.gradients.step.along import Along
from analyze.gradients.step.batch import measure_batch
from analyze.gradients.step.conditions import measuring
from scripts.benchmarking.contenders import plain
from scripts.benchmarking.paired import spread
from scripts.benchmarking.workloads import Workload

KNOWN, SUMS = (0, 2), (1, 3)  # directions in the first pass, and in the second
FIRST, SECOND = "first pass", "second pass"


def directions(workload: Workload, device: str, pairs: int) -> dict[str, Any]:
    """Ratios to the plain step of the same batch.

    ``second`` is a second pass along one direction, ``further`` what each of two more adds to it,
    and ``known`` what each of two adds to the first pass.
    """
    there = torch.device(device)
    with measuring(there):
        ways = _ways(workload, there)
        for way in ways.values():
            way()
        rounds = [{name: once(way, there) for name, way in ways.items()} for _ in range(pairs)]

    def added(name: str, counts: tuple[int, int]) -> list[float]:
        few, many = (f"{name} {count}" for count in counts)
        apart = counts[1] - counts[0]
        return [(times[many] - times[few]) / apart / times["plain"] for times in rounds]

    second = [times[f"{SECOND} {SUMS[0]}"] / times["plain"] for times in rounds]
    return {
        "what": workload.what,
        "second": spread(second),
        "further": spread(added(SECOND, SUMS)),
        "known": spread(added(FIRST, KNOWN)),
    }


def _ways(workload: Workload, device: torch.device) -> dict[str, Callable[[], object]]:
    """The plain step, and the engine's passes with so many directions, by name."""
    model, inputs, targets = workload.make(device)
    replica = Replica(copy.deepcopy(model), device, next(model.parameters()).dtype)
    batch, loss = Inputs({"": inputs}), build_loss("cross_entropy")
    plan = calibrate(replica, batch.take(torch.arange(min(5, len(inputs)))))
    step = partial(measure_batch, replica, batch, targets, loss, plan)

    def along(count: int, alone: bool) -> Callable[[], object]:
        some = Along.scaled(trial_directions(replica, count), alone=alone) if count else None
        return partial(step, along=some)

    ways: dict[str, Callable[[], object]] = {"plain": plain(model, inputs, targets)}
    ways |= {f"{FIRST} {count}": along(count, alone=False) for count in KNOWN}
    return ways | {f"{SECOND} {count}": along(count, alone=True) for count in SUMS}
