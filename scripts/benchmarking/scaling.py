"""Time and memory as one thing grows: probes, parameters, checkpoints, folds, subsets.

As ``python -m scripts.benchmarking.scaling POINT`` it measures one point, in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from scripts.benchmarking.memory import RETURNED, held_bytes, peak_bytes_so_far, reset_peak


@dataclass(frozen=True)
class Point:
    """What is measured: a small network on random images of 32 x 32 pixels.

    Args:
        probes: In all subsets.
        width: Channels of its first layer; parameters grow with the square.
        checkpoints: Of one series.
        folds: Of each subset.
        subsets: Of equal size.
    """

    probes: int = 1024
    width: int = 16
    checkpoints: int = 1
    folds: int = 10
    subsets: int = 2


AXES: dict[str, list[int]] = {
    "probes": [256, 1024, 4096, 16384],
    "width": [8, 16, 32],
    "checkpoints": [1, 2, 4],
    "folds": [1, 10, 50],
    "subsets": [1, 4, 8],
}
REPEATS = 2


def scaling() -> dict[str, list[dict[str, Any]]]:
    """For each axis, its points: seconds of measuring, bytes beyond model and probes."""
    found: dict[str, list[dict[str, Any]]] = {}
    for axis, values in AXES.items():
        found[axis] = []
        for value in values:
            found[axis].append({axis: value} | _in_a_process(replace(Point(), **{axis: value})))
            print(f"{axis}: {found[axis][-1]}", flush=True)
    return found


def _in_a_process(point: Point) -> dict[str, Any]:
    """The fastest of a few runs, as a machine is never faster than it is; memory of another."""
    found = min((_once(point, {}) for _ in range(REPEATS)), key=lambda one: one["seconds"])
    return found | {"bytes": _once(point, RETURNED)["bytes"]}


def _once(point: Point, environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "scripts.benchmarking.scaling", json.dumps(asdict(point))]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | environment
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(point: Point) -> dict[str, Any]:
    """One point, in this process; time and memory without what ``prepare`` takes."""
    from copy import deepcopy

    import torch

    from analyze.gradients.engine import Engine
    from analyze.gradients.losses import build_loss
    from analyze.gradients.measurement import Settings
    from analyze.models.builtin import SmallResNet
    from analyze.probes import ProbeSet

    torch.manual_seed(0)
    models = [SmallResNet(in_channels=3, width=point.width) for _ in range(point.checkpoints)]
    random = np.random.default_rng(0)
    probes = ProbeSet(
        random.standard_normal((point.probes, 3, 32, 32), dtype=np.float32),
        random.integers(10, size=point.probes),
        subset=[f"subset {n % point.subsets}" for n in range(point.probes)],
    )
    settings = Settings("cpu", batch_norm="saved", folds=point.folds, examples=False)
    engine = Engine(probes, build_loss("cross_entropy"), settings)
    engine.prepare([deepcopy(models[0])])
    engine.measure(deepcopy(models[0]))  # the first may allocate
    held = held_bytes("cpu")
    reset_peak("cpu")
    start = time.perf_counter()
    for model in models:
        engine.measure(model)
    taken = time.perf_counter() - start
    return {
        "seconds": taken,
        "bytes": peak_bytes_so_far("cpu") - held,
        "parameters": sum(p.numel() for p in models[0].parameters()),
        "cells": len(engine.cells),
    }


if __name__ == "__main__":
    print(json.dumps(measure(Point(**json.loads(sys.argv[1])))))
