"""``analyze run`` from start to written results, against plain passes over the same probes.

As ``python -m scripts.benchmarking.whole_run RUN CHECKPOINTS`` it is the plain side: each of these
checkpoints loaded, and a forward and backward pass over every probe. With ``--start-only`` it ends
before the first.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from analyze.gradients.device.devices import HOST
from analyze.gradients.device.timing import once
from scripts.benchmarking.paired import spread

BATCH = 64
START_ONLY = "--start-only"


def whole_runs(run: str, pairs: int) -> dict[str, Any]:
    """Ratios for one checkpoint of a run, and for all of them."""
    figures = {}
    for name, checkpoints in (("the first checkpoint", ":1"), ("12 checkpoints", ":")):
        figures[f"{Path(run).name}, {name}"] = whole_run(run, checkpoints, pairs)
    return figures


def whole_run(run: str, checkpoints: str, pairs: int) -> dict[str, Any]:
    """Ratio of the processes, and of what both take beyond start: imports, model, probes.

    With batch norm as saved, and the ratio of the processes with the default as well.
    """
    plain = [sys.executable, "-m", "scripts.benchmarking.whole_run", run, checkpoints]
    command = [sys.executable, "-m", "analyze", "run", run, "--checkpoints", checkpoints]
    found = []
    for _ in range(pairs):
        with TemporaryDirectory() as folder:
            ours = [*command, "--batch-norm", "saved", "--output", str(Path(folder, "saved.h5"))]
            default = [*command, "--output", str(Path(folder, "recomputed.h5"))]
            steps = ([*plain, START_ONLY], plain, ours, default)
            found.append([once(partial(_process, step), HOST) for step in steps])
    return {
        "process": spread([ours / plain for _, plain, ours, _ in found]),
        "beyond_start": spread(
            [(ours - start) / (plain - start) for start, plain, ours, _ in found]
        ),
        "recomputed": spread([default / plain for _, plain, _, default in found]),
    }


def plain_passes(run: str, checkpoints: str, start_only: bool) -> None:
    """The gradient of the summed loss of each checkpoint, ``BATCH`` probes at a time."""
    import torch

    from analyze.gradients.model.inputs import Inputs
    from analyze.gradients.step.conditions import measuring
    from analyze.runs.job import resolve
    from analyze.runs.loading import loaded_model
    from analyze.runs.options import Options
    from scripts.benchmarking.contenders import plain

    job = resolve(run, Options(checkpoints=checkpoints))
    probes = job.probes
    scale = [None if v is None else torch.tensor(v) for v in (probes.mean, probes.std)]
    inputs = Inputs({"": torch.from_numpy(probes.inputs[""])}, *scale)
    targets = torch.from_numpy(probes.targets)
    cpu = torch.device("cpu")
    with measuring():
        for checkpoint in [] if start_only else job.checkpoints:
            model = loaded_model(job, checkpoint).eval()
            for rows in torch.arange(len(probes)).split(BATCH):
                batch = inputs.take(rows).to(cpu, torch.float32).tensors[""]
                plain(model, batch, targets[rows])()


def _process(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    plain_passes(sys.argv[1], sys.argv[2], START_ONLY in sys.argv)
