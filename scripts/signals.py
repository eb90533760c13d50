#!/usr/bin/env python3
"""What tells wrong labels in the sample runs: the tables of docs/examples.md.

Usage: python scripts/signals.py [--folder DIR] [RUN ...]

Measures each run of sample_checkpoints with directions (kept in DIR, the next call goes on from
there), and once more the output layer's bias alone, whose gradient is p - y, so that its norm is
EL2N. Prints for each run the best place of each signal, its value over all checkpoints, and which
did best. Takes some minutes a run on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import xarray as xr

import analyze
from analyze.rankings.ranking import Ranking, examples
from analyze.rankings.signals import EL2N

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "sample_checkpoints"
RUNS = ("half_noise", "random_labels")
DIRECTIONS = ("all", "held_out", "update")
BIAS = "fc.bias"  # of the output layer


def measured(run: str, folder: Path) -> xr.DataTree:
    """A run with directions, and EL2N beside them."""
    common = {"run": SAMPLES / run, "device": "cpu"}
    tree = _once(folder / f"{run}.h5", directions=list(DIRECTIONS), cells=["true_class"], **common)
    bias = _once(folder / f"{run}_bias.h5", parameters=[BIAS], examples="on", **common)
    norms = bias.children["examples"].to_dataset(inherit=False)["gradient_sqnorm"].sum("layer")
    group = tree.children["examples"].to_dataset(inherit=False)
    assert np.array_equal(norms["probe"].values, group["probe"].values)
    el2n = (("checkpoint", "probe"), np.sqrt(norms.transpose("checkpoint", "probe").values))
    complete = tree.copy()
    complete["examples"] = xr.DataTree(group.assign({EL2N: el2n}))
    return complete


def _once(output: Path, **options: object) -> xr.DataTree:
    """The results of a run, measured if they are not there."""
    if output.exists():
        return analyze.open_results(output)
    return analyze.run(output=output, **options)  # type: ignore[arg-type]


def table(ranking: Ranking) -> list[str]:
    """The lines of a Markdown table: each signal at its best, and over all checkpoints."""
    lines = ["| signal | at its best | AUROC | average precision | over all: AUROC |",
             "| --- | --- | --- | --- | --- |"]  # fmt: skip
    best: dict[str, dict[str, object]] = {}
    for row in ranking.signals:  # in the order of the areas
        best.setdefault(str(row["signal"]), row)
    for signal, row in best.items():
        whole = [r for r in ranking.signals if r["signal"] == signal and r["checkpoint"] == "all"]
        place = f"{row['layer']}, {_short(str(row['checkpoint']))}"
        values = [_interval(row, "auroc"), _interval(row, "average_precision"),
                  _interval(whole[0], "auroc") if whole else ""]  # fmt: skip
        lines.append(f"| {signal} | {place} | {' | '.join(values)} |")
    return lines


def _short(checkpoint: str) -> str:
    """``step 64`` of ``checkpoint_00064.pt`` and ``epoch=2-step=64.ckpt``."""
    if checkpoint == "all":
        return "all checkpoints"
    digits = Path(checkpoint).stem.replace("=", "_").rpartition("_")[2]
    return f"step {int(digits):,}"


def _interval(row: dict[str, object], name: str) -> str:
    value, lower, upper = (row[f"{name}{end}"] for end in ("", "_lower", "_upper"))
    return f"{value:.3f}" if lower is None else f"{value:.3f} ({lower:.3f} to {upper:.3f})"


def main() -> None:
    """Measure what is not there, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", default=RUNS, metavar="RUN")
    parser.add_argument("--folder", type=Path, default=Path("signals"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(exist_ok=True)
    for run in arguments.runs:
        probes = SAMPLES / f"{run}_probes.safetensors"
        ranking = examples(measured(run, arguments.folder), probes=probes)
        print(f"\n### {run}\n", *table(ranking), "", *ranking.sentences, sep="\n")


if __name__ == "__main__":
    main()
