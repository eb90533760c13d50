"""Time and memory of exact per-example gradients against a plain forward and backward pass.

``exactness``: the tests of the numbers, on the device. ``speed``: every way in turn with the plain
step, on the same batch; figures are medians of the ratios. ``cell``: a checkpoint of one cell, its
batches shared among the cores. ``series``: batches side by side in workers, as a run of many
checkpoints has them. ``directions``: passes over a batch with directions. ``verification``: what
finding numbers again adds. ``cells``: a whole checkpoint of many cells. ``side``: several of these
side by side. ``memory``: peaks. ``first``: ``analyze.measure`` from call to result, in a fresh
process and called again. ``run``: the command, from start to written results, on one checkpoint and
on twelve. ``unseen``: ``cell`` on models that were drawn from registries. ``scaling``: time and
memory as one of probes, parameters, checkpoints, folds and subsets grows.

Prints tables, and writes ``benchmarks/DEVICE.json`` and ``benchmarks/tables.md``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scripts.benchmarking.cells import whole_checkpoint
from scripts.benchmarking.contenders import WAYS
from scripts.benchmarking.directions import directions
from scripts.benchmarking.exactness import exactness
from scripts.benchmarking.first import COUNTS, first_calls
from scripts.benchmarking.machine import description, told
from scripts.benchmarking.memory import beside_plain
from scripts.benchmarking.one_cell import one_cell
from scripts.benchmarking.scaling import scaling
from scripts.benchmarking.series import series
from scripts.benchmarking.speed import compare
from scripts.benchmarking.tables import (
    cell_table,
    cells_table,
    directions_table,
    exactness_table,
    first_table,
    memory_table,
    replace_between,
    scaling_table,
    series_table,
    speed_table,
    unseen_table,
    verification_table,
    whole_run_table,
)
from scripts.benchmarking.unseen import unseen, unseen_models
from scripts.benchmarking.verification import verification
from scripts.benchmarking.whole_run import whole_runs
from scripts.benchmarking.workloads import FIRST, WORKLOADS, Workload

DOCS, FOLDER = Path("benchmarks/tables.md"), Path("benchmarks")
SAMPLE = "sample_checkpoints/half_noise"
TABLES: dict[str, Callable[[Any], str]] = {
    "exactness": exactness_table,
    "speed": speed_table, "cell": cell_table, "series": series_table,
    "verification": verification_table, "directions": directions_table,
    "cells": cells_table, "side": cells_table,
    "memory": memory_table, "first": first_table, "run": whole_run_table,
    "unseen": unseen_table, "scaling": scaling_table,
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """What the command line asks for."""

    device: str
    only: str  # models whose name has this
    ways: list[str]
    probes: list[int]
    pairs: int

    def models(self, part: str) -> list[Workload]:
        """The models of a part."""
        listed = {"first": lambda: FIRST, "unseen": unseen_models}
        models = listed.get(part, lambda: WORKLOADS[self.device])()
        return [model for model in models if self.only in model.name]


OF_ALL: dict[str, Callable[[Choice], dict[str, Any]]] = {  # parts that are not of each model
    "exactness": lambda choice: exactness(choice.device),
    "run": lambda choice: whole_runs(SAMPLE, choice.pairs),
    "scaling": lambda choice: scaling(),
}
OF_A_MODEL: dict[str, Callable[[Workload, Choice], dict[str, Any]]] = {
    "speed": lambda model, choice: compare(choice.ways, model, choice.device, choice.pairs),
    "cell": lambda model, choice: one_cell(model, choice.pairs),
    "series": lambda model, choice: series(model, choice.pairs),
    "verification": lambda model, choice: verification(model, choice.pairs),
    "directions": lambda model, choice: directions(model, choice.device, choice.pairs),
    "cells": lambda model, choice: whole_checkpoint(model, choice.device),
    "side": lambda model, choice: whole_checkpoint(model, choice.device, torch.get_num_threads()),
    "memory": lambda model, choice: beside_plain(choice.device, model),
    "first": lambda model, choice: first_calls(model, choice.probes, choice.pairs),
    "unseen": lambda model, choice: unseen(model, choice.pairs),
}
ON = {
    "cpu": [part for part in TABLES if part != "exactness"],  # which scripts/test has there
    "cuda": ["exactness", "speed", "directions", "cells", "memory"],
}
PAIRS = {"cpu": 11, "cuda": 5}  # a GPU's times scatter less


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument("--device", choices=list(ON), default="cpu")
    parser.add_argument("--parts", metavar="NAME,...", help=f"of {', '.join(TABLES)}")
    parser.add_argument("--pairs", type=int, help="of each way with the plain step")
    parser.add_argument("--only", metavar="TEXT", default="", help="models whose name has this")
    parser.add_argument("--ways", metavar="NAME,...", help=f"of {', '.join(WAYS)}")
    counts = ",".join(map(str, COUNTS))
    parser.add_argument("--probes", metavar="N,...", default=counts, help=f"of first: {counts}")
    arguments = parser.parse_args()
    device = arguments.device
    parts = ON[device] if arguments.parts is None else arguments.parts.split(",")
    pairs = PAIRS[device] if arguments.pairs is None else arguments.pairs
    ways = list(WAYS) if arguments.ways is None else arguments.ways.split(",")
    probes = [int(count) for count in arguments.probes.split(",")]
    choice = Choice(device, arguments.only, ways, probes, pairs)
    for part in parts:
        figures: dict[str, Any] = {}
        for figures in _measured(part, choice):
            _save(part, figures, device)
        print(TABLES[part](figures))


def _measured(part: str, choice: Choice) -> Iterator[dict[str, Any]]:
    """The figures of one part, as they grow from model to model."""
    if part in OF_ALL:
        yield OF_ALL[part](choice)
        return
    figures: dict[str, Any] = {}
    for model in choice.models(part):
        figures[model.name] = OF_A_MODEL[part](model, choice)
        if part != "speed":  # which tells each way as it is found
            print(f"{model.name}: {figures[model.name]}", flush=True)
        yield figures


def _save(part: str, figures: dict[str, Any], device: str) -> None:
    """Write what is known so far, as JSON and in the docs.

    What an earlier run found of other models and ways stays where the machine is the same.
    """
    FOLDER.mkdir(exist_ok=True)
    path, machine = FOLDER / f"{device}.json", description(torch.device(device))
    kept = json.loads(path.read_text()) if path.exists() else {}
    before = kept.get(part, {})
    if before.get("machine", {}) | {"day": machine["day"]} == machine:
        figures = _with_others(before["figures"], figures)
    kept[part] = {"machine": machine, "figures": figures}
    path.write_text(json.dumps(kept, indent=2) + "\n")
    replace_between(DOCS, f"{part} on {device}", f"{TABLES[part](figures)}\n\n{told(machine)}")


def _with_others(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """All of both; what is new where both have something."""
    return before | {key: _newer(before.get(key), value) for key, value in now.items()}


def _newer(before: Any, now: Any) -> Any:
    """The new value; of dictionaries that are not one finding, both."""
    found = isinstance(now, dict) and ("ratio" in now or "refuses" in now)
    nested = isinstance(before, dict) and isinstance(now, dict) and not found
    return _with_others(before, now) if nested else now


if __name__ == "__main__":
    main()
