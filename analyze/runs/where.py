"""Where the checkpoints of a run are measured: here, by forks, on several GPUs, or in a cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager

from analyze.runs.gpus import GPUs
from analyze.runs.measuring import Pool, forks_for
from analyze.runs.options import RunOptions
from analyze.runs.preparation import Prepared
from analyze.runs.progress import Progress


def check_place(options: RunOptions) -> None:
    """Find out before the work whether the cluster is there that the run asks for.

    Raises:
        InputError: it is not, or Ray is not installed.
    """
    if options.cluster is not None:
        from analyze.runs.cluster.connection import check_reachable

        check_reachable(options.cluster)


def workers_for(prepared: Prepared, progress: Progress) -> AbstractContextManager[Pool] | None:
    """The workers that measure the checkpoints; None where this process does it alone."""
    division, checkpoints = prepared.division, len(prepared.job.checkpoints)
    options = prepared.job.options
    if isinstance(options, RunOptions) and options.cluster is not None:
        from analyze.runs.cluster.pool import cluster_for  # Ray is not imported without

        return cluster_for(prepared, options.cluster, options.gpus_per_task, progress)
    if checkpoints < 2:
        return None
    if division.devices:
        return GPUs.of(prepared, progress)
    return forks_for(prepared) if division.workers > 1 else None
