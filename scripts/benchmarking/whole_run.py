"""``analyze run`` from start to written results, against plain passes over the same probes.

As ``python -m scripts.benchmarking.whole_run RUN`` it is the plain side: every checkpoint loaded,
and a forward and backward pass over every probe. With ``--start-only`` it ends before the first.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from analyze.gradients.device.timing import once
from scripts.benchmarking.paired import spread

BATCH = 64
PAIRS = 7
START_ONLY = "--start-only"


def whole_run(run: str) -> dict[str, Any]:
    """Ratio of the processes, and of what both take beyond start: imports, model, probes."""
    plain = [sys.executable, "-m", "scripts.benchmarking.whole_run", run]
    found = []
    for _ in range(PAIRS):
        with TemporaryDirectory() as folder:
            output = Path(folder, "results.h5")
            ours = [sys.executable, "-m", "analyze", "run", run, "--output", str(output)]
            steps = ([*plain, START_ONLY], plain, [*ours, "--batch-norm", "saved"])
            found.append([once(partial(_process, step)) for step in steps])
    return {
        "run": Path(run).name,
        "process": spread([ours / plain for _, plain, ours in found]),
        "beyond_start": spread([(ours - start) / (plain - start) for start, plain, ours in found]),
    }


def plain_passes(run: str, start_only: bool) -> None:
    """The gradient of the summed loss of every checkpoint, ``BATCH`` probes at a time."""
    import torch

    from analyze.gradients.model.inputs import Inputs
    from analyze.gradients.step.conditions import measuring
    from analyze.runs.job import Options, resolve
    from analyze.runs.loading import loaded_model
    from scripts.benchmarking.contenders import plain

    job = resolve(run, Options())
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
    plain_passes(sys.argv[1], START_ONLY in sys.argv)
