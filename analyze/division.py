"""How a run divides the processor: one process with all threads, or workers of one thread each.

A checkpoint each in workers of one thread is faster than one checkpoint after the other on all of
them (ADR 15): Python and small operations use one thread, whatever there is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

THREADS_GAIN = 0.75  # t threads are about t ** 0.75 times as fast as one
SHARE_OF_MEMORY = 0.5  # that workers may take together
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Division:
    """What computes.

    Args:
        workers: Processes that measure a checkpoint each; 1 for none but this one.
        threads: Of each process.
    """

    workers: int
    threads: int

    def turns(self, checkpoints: int) -> int:
        """Checkpoints that are measured one after the other until so many are done."""
        return -(-checkpoints // self.workers)


def divided(
    checkpoints: int, device: torch.device, needed: int, before: int | None = None
) -> Division:
    """How to measure some checkpoints.

    Args:
        checkpoints: How many.
        device: Where batches are computed. Workers are for the CPU, where the system can fork, and
            where torch has no accelerator: it then refuses backward passes in a fork.
        needed: Bytes that measuring one of them takes.
        before: Threads of each process when the run began, if it did: with another number, kernels
            add in another order, and the bits are others.
    """
    cores = torch.get_num_threads()
    alone = Division(1, cores if before is None else min(before, cores))
    if device.type != "cpu" or sys.platform != "linux" or torch.accelerator.is_available():
        return alone
    workers = min(cores, checkpoints, int(SHARE_OF_MEMORY * _memory()) // max(1, needed))
    if workers < 2 or before not in (None, 1):
        return alone
    shared = Division(workers, 1)
    if before is None and shared.turns(checkpoints) * cores**THREADS_GAIN >= checkpoints:
        return alone
    return shared


@contextmanager
def threads_restored() -> Iterator[None]:
    """Torch has as many threads after the block as before."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _memory() -> int:
    """Bytes of the machine, or of the container."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(CONTAINER_LIMIT.read_text()))
    except (OSError, ValueError):  # no container; "max"
        return machine
