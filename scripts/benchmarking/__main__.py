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
from scripts.benchmarking.contenders import WAYS, Refusal, plain
from scripts.benchmarking.errors import expected, worst_error
from scripts.benchmarking.machine import description
from scripts.benchmarking.paired import ratios
from scripts.benchmarking.tables import replace_between, speed_table
from scripts.benchmarking.workloads import WORKLOADS, Workload

DOCS, FOLDER = Path("docs/speed.md"), Path("benchmarks")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--pairs", type=int, default=15, help="of each way with the plain step")
    parser.add_argument("--only", metavar="TEXT", default="", help="models whose name has this")
    parser.add_argument("--ways", metavar="NAME,...", help=f"of {', '.join(WAYS)}")
    arguments = parser.parse_args()
    ways = list(WAYS) if arguments.ways is None else arguments.ways.split(",")
    workloads = {}
    for workload in WORKLOADS[arguments.device]:
        if arguments.only in workload.name:
            workloads[workload.name] = compare(workload, arguments.device, ways, arguments.pairs)
    figures = {"machine": description(arguments.device), "workloads": workloads}
    print(speed_table(figures))
    if not arguments.only and arguments.ways is None:  # the whole table
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{arguments.device}.json"
        path.write_text(json.dumps(figures, indent=2) + "\n")
        replace_between(DOCS, f"speed on {arguments.device}", speed_table(figures))


def compare(workload: Workload, device: str, ways: list[str], pairs: int) -> dict[str, Any]:
    """Every way on one model: ratio, memory as a ratio, worst error, or why it refuses."""
    with measuring():
        model, inputs, targets = workload.make(torch.device(device))
        exact = expected(model, inputs, targets)
    parameters = sum(p.numel() for p in model.parameters())
    plain_peak = memory.peak_bytes(device, workload.name, "plain")
    found = {}
    for name in ways:
        found[name] = _one_way(workload, device, name, pairs, exact)
        if "refuses" not in found[name]:
            peak = memory.peak_bytes(device, workload.name, name)
            known = peak is not None and plain_peak
            found[name]["memory"] = peak / plain_peak if known else None
        print(f"{workload.name}, {name}: {found[name]}", flush=True)
        gc.collect()
    return {"what": workload.what, "parameters": parameters, "ways": found}


def _one_way(
    workload: Workload, device: str, name: str, pairs: int, exact: dict[str, Any]
) -> dict[str, Any]:
    with measuring():
        plain_step = plain(*workload.make(torch.device(device)))
        try:
            step = WAYS[name](*workload.make(torch.device(device)))
            found = step()
            if missing := set(exact) - set(found):
                return {"refuses": f"nothing for {sorted(missing)[0]}"}
            error = worst_error(found, exact)
            del found
            return {"error": error, "ratio": ratios(step, plain_step, pairs)}
        except Refusal as refusal:
            return {"refuses": str(refusal)}


if __name__ == "__main__":
    main()
