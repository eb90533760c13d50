"""Time and memory of exact per-example gradients against a plain forward and backward pass.

Every way runs in turn with the plain step, on the same batch; figures are medians of the ratios.
Prints tables, and writes ``benchmarks/DEVICE.json`` and the tables of ``docs/speed.md``.
"""

from __future__ import annotations

import argparse
import gc
import json
from pathlib import Path
from typing import Any

import torch

from analyze.gradients.conditions import measuring
from scripts.benchmarking import memory
from scripts.benchmarking.contenders import WAYS, Found, RefusedError, plain
from scripts.benchmarking.errors import expected, in_double, worst_error
from scripts.benchmarking.machine import description
from scripts.benchmarking.paired import ratios
from scripts.benchmarking.tables import replace_between, speed_table
from scripts.benchmarking.workloads import WORKLOADS, Workload

DOCS, FOLDER = Path("docs/speed.md"), Path("benchmarks")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--pairs", type=int, default=11, help="of each way with the plain step")
    parser.add_argument("--only", metavar="TEXT", default="", help="models whose name has this")
    parser.add_argument("--ways", metavar="NAME,...", help=f"of {', '.join(WAYS)}")
    arguments = parser.parse_args()
    ways = list(WAYS) if arguments.ways is None else arguments.ways.split(",")
    whole = not arguments.only and arguments.ways is None
    workloads: dict[str, Any] = {}
    figures = {"machine": description(arguments.device), "workloads": workloads}
    for workload in WORKLOADS[arguments.device]:
        if arguments.only in workload.name:
            workloads[workload.name] = compare(workload, arguments.device, ways, arguments.pairs)
            if whole:
                save(figures, arguments.device)
    print(speed_table(figures))


def save(figures: dict[str, Any], device: str) -> None:
    """Write what is known so far, as JSON and in the docs."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{device}.json").write_text(json.dumps(figures, indent=2) + "\n")
    replace_between(DOCS, f"speed on {device}", speed_table(figures))


def compare(workload: Workload, device: str, ways: list[str], pairs: int) -> dict[str, Any]:
    """Every way on one model: ratio, memory as a ratio, worst error, or why it refuses."""
    exact = expected(*workload.make(torch.device(device)))
    plain_peak = memory.peak_bytes(device, workload.name, "plain")
    found: dict[str, dict[str, Any]] = {}
    for name in ways:
        try:
            with measuring():
                found[name] = _one_way(workload, torch.device(device), name, pairs, exact)
            peak = memory.peak_bytes(device, workload.name, name)
            found[name]["memory"] = None if peak is None or not plain_peak else peak / plain_peak
        except RefusedError as refusal:
            found[name] = {"refuses": str(refusal)}
        print(f"{workload.name}, {name}: {found[name]}", flush=True)
        gc.collect()
    return {"what": workload.what, "ways": found}


def _one_way(
    workload: Workload, device: torch.device, name: str, pairs: int, exact: dict[str, Found]
) -> dict[str, Any]:
    """Exactness in float64, time in float32."""
    error = worst_error(WAYS[name](*in_double(*workload.make(device)))(), exact)
    step = WAYS[name](*workload.make(device))
    return {"error": error, "ratio": ratios(step, plain(*workload.make(device)), pairs)}


if __name__ == "__main__":
    main()
