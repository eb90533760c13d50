"""How many seconds each unit of a pass' work takes on this machine: ``costs/passes.json``.

Batches of several models are measured on one thread, in CPU time, which other work on the machine
does not count in: the least of a few, in turns. The constants are those by which predicted and
measured times differ least, each time by its ratio. Run it as ``scripts/pass_costs "SOURCE"`` and
commit the file: SOURCE says where the numbers are from.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import nn

from analyze.gradients.costs import rates
from analyze.gradients.costs.passes import PassCost
from analyze.gradients.costs.rates import Rates
from analyze.gradients.device.devices import room_for
from analyze.gradients.engine import Engine
from analyze.gradients.measurement import Settings
from analyze.gradients.model.replica import Replica
from analyze.gradients.step.conditions import measuring
from scripts.benchmarking.prepared import prepared
from scripts.benchmarking.workloads import WORKLOADS, Transformer, Workload

CPU = torch.device("cpu")
SIZES = (2, 8, 32, 128)
PROBES = 256
TURNS = 3
START = 1e-4, 1e-4, 1e-9, 1e-10, 1e-9  # of the search, in the order of ``Rates``
FAR = 0.2  # relative errors beyond which a time counts for less


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(768, 512), nn.ReLU(), nn.Linear(512, 10))


MODELS = [
    Workload("MLP", _mlp, PROBES, image=16),
    Workload("small transformer", lambda: Transformer(512, 128, 2, 4, 64), PROBES, tokens=64,
             vocabulary=512),
    *(replace(workload, batch=PROBES) for workload in WORKLOADS["cpu"]),
]  # fmt: skip


def seconds_by_size(workload: Workload) -> tuple[PassCost, dict[int, float]]:
    """What a pass of the model does, and seconds of batches of each size that fits."""
    torch.set_num_threads(1)
    model, inputs, targets = workload.make(CPU)
    settings = Settings("cpu", batch_norm="saved", batch_size=SIZES[0])
    engine = prepared(model, inputs, targets, settings, shared=False)
    cost = engine.current.cost
    ways = {n: _batch(engine, model, n) for n in SIZES if n <= room_for(CPU, cost.kept)}
    with measuring():
        turns = [{n: _cpu_seconds(way) for n, way in ways.items()} for _ in range(1 + TURNS)]
    return cost, {n: min(turn[n] for turn in turns[1:]) for n in ways}


def _batch(engine: Engine, model: nn.Module, size: int) -> Callable[[], object]:
    """The measurement of a batch of a size."""
    state = engine.current.with_batch_size(size)
    replica = Replica(copy.deepcopy(model), CPU, torch.float32)
    batches = engine._workload.batches(state.memory)
    return partial(batches.measured, replica, state.plan, batches.first(replica))


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


def fitted(times: list[tuple[PassCost, int, float]], source: str) -> Rates:
    """The rates by which predicted and measured seconds have the ratios closest to one."""

    def log_ratios(logarithms: np.ndarray) -> np.ndarray:
        tried = Rates(source, *np.exp(logarithms))
        return np.array([np.log(tried.seconds(cost, n) / taken) for cost, n, taken in times])

    found = least_squares(log_ratios, np.log(START), loss="soft_l1", f_scale=FAR)
    return Rates(source, *(float(f"{value:.2g}") for value in np.exp(found.x)))


def main() -> None:
    times = []
    for workload in MODELS:
        cost, taken = seconds_by_size(workload)
        times += [(cost, size, seconds) for size, seconds in taken.items()]
        each = {size: f"{1e3 * seconds / size:.3g}" for size, seconds in taken.items()}
        print(f"{workload.name}: ms of an example by batch size {each}", flush=True)
    new = fitted(times, sys.argv[1])
    apart = [abs(np.log(new.seconds(cost, n) / taken)) for cost, n, taken in times]
    print(f"{new}\napart: {np.median(apart):.0%} in the middle, {max(apart):.0%} at most")
    path = Path(rates.__file__).with_name(rates.FILE)
    known = json.loads(path.read_text("utf-8"))
    names = [*next(iter(known.values()))]
    kind = torch.backends.cpu.get_cpu_capability()
    known[kind] = dict(zip(names, astuple(new), strict=True))
    path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
