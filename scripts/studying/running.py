"""All trainings that are not measured yet, some at a time, each in a process of one thread."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from scripts.studying.design import Training
from scripts.studying.store import BUILD, keep, path_of


def measure(wanted: Sequence[Training], images: Path, jobs: int, folder: Path) -> None:
    """Train and measure what ``folder`` does not hold, some at a time."""
    missing = [t for t in wanted if not path_of(folder, t).exists()]
    BUILD.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        started = {pool.submit(one, t, images, folder): t for t in missing}
        for done in as_completed(started):
            print(f"{started[done].name}: {done.result()} s of a core", flush=True)


def one(training: Training, images: Path, folder: Path) -> int:
    """One training in a process of its own; how long it took."""
    import torch

    from scripts.studying.measuring import measured

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    taken = measured(training, images, BUILD)
    keep(taken, path_of(folder, training))
    return int(taken.attrs["processor_seconds"])
