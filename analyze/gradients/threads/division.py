"""How the processor is divided: among checkpoints, or among the batches of one.

Processes of one thread each are faster than one process on all of them (ADR 15): Python and small
operations use one thread, whatever there is.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from analyze.gradients.device.devices import is_cpu

THREADS_GAIN = 0.75  # t threads are about t ** 0.75 times as fast as one
SHARE_OF_MEMORY = 0.5  # of the machine, for all workers together
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Division:
    """The processes and threads that compute.

    ``sharing`` threads of this process may share the batches of a checkpoint, each on a core
    (ADR 20 and 23); 1 for none. Several ``devices`` have a process and a checkpoint each.
    """

    workers: int  # processes that measure a checkpoint each; 1 for none but this one
    threads: int  # of each process
    sharing: int = 1
    devices: tuple[str, ...] = ()

    def turns(self, checkpoints: int) -> int:
        """Checkpoints that are measured one after the other until so many are done."""
        return -(-checkpoints // max(self.workers, len(self.devices)))


def divided(
    checkpoints: int, device: torch.device, needed: int, before: int | None = None
) -> Division:
    """How to measure so many checkpoints, each of which takes ``needed`` bytes.

    Several at a time are measured on the CPU alone: by processes beside this one where the system
    can fork, and where torch has no accelerator, with which it refuses backward passes in a fork.
    A run that began with ``before`` threads in each process keeps them: with another number,
    kernels add in another order, and the bits are others.
    """
    cores = torch.get_num_threads()
    threads = cores if before is None else min(before, cores)
    if not is_cpu(device):
        return Division(1, threads)
    most = min(cores, max(1, int(SHARE_OF_MEMORY * _memory()) // max(1, needed)))
    workers = min(most, checkpoints)
    if workers < 2 or before not in (None, 1) or not _can_fork():
        return Division(1, threads, most)
    beside = Division(workers, 1)
    if before is None and beside.turns(checkpoints) * cores**THREADS_GAIN >= checkpoints:
        return Division(1, threads, most)
    return beside


def _can_fork() -> bool:
    """Whether a fork of this process may compute; one of a pool's is allowed no children."""
    if sys.platform != "linux" or torch.accelerator.is_available():
        return False
    return not multiprocessing.current_process().daemon


def _memory() -> int:
    """Bytes of the machine, or of the container."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(CONTAINER_LIMIT.read_text()))
    except (OSError, ValueError):  # no container; "max"
        return machine
