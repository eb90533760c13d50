"""All that another process needs to measure checkpoints of a run: plain data, and no code.

Code is named by the paths of its files, with their hashes. Where the other process has another file
there, or another version of what numbers depend on, it refuses.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from analyze.checkpoints.checkpoint import Checkpoint, sha256
from analyze.errors import InputError
from analyze.gradients.engine import Engine
from analyze.gradients.state import EngineState
from analyze.gradients.threads.division import Division
from analyze.runs.job import Job
from analyze.runs.preparation import Prepared
from analyze.runs.provenance import versions
from analyze.runs.units.configuration import code_of


@dataclass(frozen=True)
class Task:
    """One checkpoint to measure, by what the engine knows so far.

    ``kept`` is the hash of the checkpoint that an earlier run's unit is of; None without a unit.
    """

    checkpoint: Checkpoint
    state: Mapping[str, Any]
    kept: str | None = None
    following: Checkpoint | None = None  # the next one, where a direction needs it


@dataclass(frozen=True)
class Commission:
    """A run that was prepared, for processes that share no memory with the one that did it.

    Args:
        job: The run, with absolute paths and without code.
        state: How models are measured, as it was proven.
        device: The name of the device there, as ``--device`` takes it.
        threads: Of each process.
        code: The files of the user's code, with their hashes.
        made_by: The versions of the process that prepared the run.
    """

    job: Job
    state: EngineState
    device: str
    threads: int
    code: tuple[tuple[Path, str], ...]
    made_by: Mapping[str, str]

    @classmethod
    def of(cls, prepared: Prepared, device: str, threads: int) -> Commission:
        """The commission to measure the checkpoints of a run."""
        job, engine = prepared.job, prepared.engine
        settings = replace(engine.settings, device=device)
        options = replace(job.options, settings=settings)
        code = tuple((path, sha256(path)) for path in code_of(job))
        return cls(
            replace(_with_absolute_paths(job), checkpoints=[], options=options),
            engine.current, device, threads, code, deciding_versions(),
        )  # fmt: skip

    def check(self) -> None:
        """Refuse where this process would measure something else.

        Raises:
            InputError: other versions, other code, or no directory of checkpoints.
        """
        check_same_versions(self.made_by, deciding_versions(), platform.node())
        for path, expected in self.code:
            check_same_code(path, expected)
        if not self.job.run.exists():
            raise InputError(
                "a worker does not see the checkpoints",
                found=f"no {self.job.run} on {platform.node()}",
                expected="the directory of the checkpoints at the same path on every machine",
                fix=f"mount it there, or leave the machine {platform.node()} out",
            )

    def taken_up(self) -> Prepared:
        """The run as it was prepared, in this process; torch computes on its threads from then on.

        Raises:
            InputError: as ``check``, or there is no such device.
        """
        self.check()
        torch.set_num_threads(self.threads)
        engine = Engine(self.job.probes, self.job.loss, self.job.options.settings)
        engine.take(self.state)
        division = Division(1, self.threads, self.threads)
        engine.divide_as(division, 1)
        return Prepared(self.job, engine, division, [], {}, {})


def deciding_versions() -> dict[str, str]:
    """The versions that must be the same wherever checkpoints of one run are measured."""
    known = versions()
    return {name: known[name] for name in ("gradient-coherence", "torch", "python")}


def check_same_versions(ours: Mapping[str, str], theirs: Mapping[str, str], host: str) -> None:
    """Refuse a worker with other versions than the process that prepared the run.

    Raises:
        InputError: naming both.
    """
    differing = [name for name in ours if ours[name] != theirs.get(name)]
    if differing:
        there = ", ".join(f"{name} {theirs.get(name)}" for name in differing)
        here = ", ".join(f"{name} {ours[name]}" for name in differing)
        packages = [f"{name}=={ours[name]}" for name in differing if name != "python"]
        raise InputError(
            "a worker has other versions than the run",
            found=f"{there} on {host}; the run has {here}",
            expected="the same versions everywhere: other ones may give other numbers",
            fix=" ".join(["pip install", *packages]) if packages else f"Python {ours['python']}",
        )


def check_same_code(path: Path, expected: str) -> None:
    """Refuse a worker whose file with the user's code is another.

    Raises:
        InputError: it is missing or differs.
    """
    try:
        found = sha256(path)
    except OSError as error:
        found = str(error.strerror or error)
    if found != expected:
        raise InputError(
            "a worker has other code than the run",
            found=f"{path} on {platform.node()}: {found[:40]}; the run has {expected[:12]}",
            expected="the same file at the same path on every machine",
            fix=f"copy {path} to {platform.node()}",
        )


def _with_absolute_paths(job: Job) -> Job:
    """The job for a process with another working directory."""
    model, loss = job.model, job.loss_spec
    source = loss.partition("?")[0].rpartition(":")[0]
    if model.source.endswith(".py"):
        model = replace(model, source=str(Path(model.source).absolute()))
    if model.config is not None:
        model = replace(model, config=model.config.absolute())
    if source.endswith(".py"):
        loss = str(Path(source).absolute()) + loss.removeprefix(source)
    return replace(job, run=job.run.absolute(), model=model, loss_spec=loss)


def placed(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with absolute paths."""
    files = tuple(path.absolute() for path in checkpoint.files)
    return replace(checkpoint, path=checkpoint.path.absolute(), files=files)
