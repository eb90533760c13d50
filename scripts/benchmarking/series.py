"""Workers side by side, one thread each, as ``analyze run`` measures a series on several cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from analyze.gradients.step.conditions import measuring, threads_restored
from analyze.runs.workers import Workers
from scripts.benchmarking.contenders import ours, plain
from scripts.benchmarking.paired import each_ratio, spread
from scripts.benchmarking.workloads import Workload

BATCHES = 4  # of each worker at a time
WARM = 2  # batches before the first is timed: algorithms are chosen, memory is there


def series(workload: Workload, pairs: int) -> dict[str, Any]:
    """Ratio of batches measured side by side to as many plain steps on all threads."""
    cores = torch.get_num_threads()
    cpu = torch.device("cpu")
    with measuring(), threads_restored():
        torch.set_num_threads(1)
        step = ours(*workload.make(cpu))
        for _ in range(WARM):
            step()
        torch.set_num_threads(cores)
        train = plain(*workload.make(cpu))
        with side_by_side(step, cores) as work:
            found = spread(
                each_ratio(
                    lambda: work(BATCHES), lambda: _times(train, cores * BATCHES), pairs, cpu
                )
            )
    return {"ratio": found, "workers": cores}


@contextmanager
def side_by_side(step: Callable[[], object], cores: int) -> Iterator[Callable[[int], None]]:
    """Does something a number of times in each of so many workers, and waits for all of them."""

    def in_worker(times: int, tell: Callable[[Any], None]) -> int:
        _times(step, times)
        return times

    with Workers(cores, in_worker) as workers:

        def work(times: int) -> None:
            done = list(workers.results([times] * cores, lambda content: None))
            assert all(result == times for _, result in done), "a worker died"

        yield work


def _times(step: Callable[[], object], times: int) -> None:
    for _ in range(times):
        step()
