"""Preparation of a run: which checkpoints can be read, the engine's plan and its proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.errors import CheckpointError
from analyze.gradients.engine import Engine
from analyze.gradients.layers import parameter_rows
from analyze.gradients.measurement import ParameterRow
from analyze.gradients.model.copying import copied
from analyze.gradients.threads.division import Division
from analyze.models.building import build_model, check_size_of
from analyze.probes.directions import UPDATE
from analyze.results import tree as results
from analyze.runs.job import Job
from analyze.runs.loading import fill, loaded_model
from analyze.runs.options import RunOptions
from analyze.runs.progress import Progress
from analyze.runs.ranks.leader import Leader
from analyze.runs.stages import CHECKPOINTS, LOADING, Stages
from analyze.runs.units.configuration import configuration_of
from analyze.runs.units.folder import Folder

PROVEN_AT = (0.0, 0.5, 1.0)  # the checkpoints that the plan is proven on, as shares of the way


@dataclass(frozen=True)
class Prepared:
    """A job with a proven engine."""

    job: Job
    engine: Engine
    division: Division  # of the processor
    parameters: list[ParameterRow]
    problems: dict[str, CheckpointError]  # known so far, by the checkpoint's name
    following: Mapping[str, Checkpoint]  # by name the next one, where ``update`` is asked for
    leader: Leader | None = None  # of the ranks that measure, where torchrun has started several

    @property
    def examples(self) -> int:
        """How many examples are measured at a checkpoint, over all passes."""
        return self.engine.passes * len(self.job.probes)

    def on(self, checkpoints: list[Checkpoint]) -> Prepared:
        """The same job and engine with other checkpoints."""
        return replace(self, job=replace(self.job, checkpoints=checkpoints))

    def in_series(self, checkpoints: Sequence[Checkpoint]) -> Prepared:
        """The same with checkpoints that follow on each other in this order."""
        return replace(self, following=_successors(self.job, checkpoints))


def prepare(
    job: Job,
    folder: Folder | None = None,
    *,
    restart: bool = False,
    alone: bool = False,
    problems: Mapping[str, CheckpointError] | None = None,
    stages: Stages | None = None,
) -> Prepared:
    """A job with plan and proof on the first, middle and last checkpoint that can be read.

    Torch computes on as many threads from then on as each process of the run: what is chosen by
    timing depends on it. The folder of units is opened, and a plan in it is proven again, not made
    anew; ``restart`` empties it. With ``alone`` no workers measure. ``problems`` are those that
    ``all_read`` returned: without them three checkpoints are read, and the others when their turn
    comes; with ``on_error="fail"`` all are read. ``stages`` shows what is done.

    Raises:
        InputError: no checkpoint can be read, or the model cannot be measured.
    """
    stages = stages or Stages(Progress())
    if problems is None and job.options.on_error == "fail":
        problems = all_read(job, stages)
    elif problems is None:
        _check_size(job)
    problems = dict(problems or {})
    first, loaded = _first(job, problems, stages)
    model = copied(loaded)  # for names and sizes: the engine takes over what it proves
    wanted = examples_wanted(job, len(job.checkpoints), len(list(model.named_parameters())))
    settings = replace(job.options.settings, examples=wanted)
    engine = Engine(job.probes, job.loss, settings, stages.begin)
    state = None
    if folder is not None:
        folder.open(configuration_of(job, model, engine), restart=restart)
        state = folder.plan()
    before = None if state is None else state.get("threads")  # older versions did not write it
    count = 1 if alone else len(job.checkpoints) - len(problems)
    division = _division(job, engine, model, count, before)
    torch.set_num_threads(division.threads)
    stages.expect(engine.stages(model, further=len(_to_prove_on(job, problems)) - 1))
    _prove(job, engine, problems, state, {first.name: loaded}, stages)
    if folder is not None:
        engine.note(*folder.notes)
        _keep_plan(folder, engine, state, division)
    rows = parameter_rows(model, engine.plan)
    return Prepared(job, engine, division, rows, problems, _successors(job, job.checkpoints))


def _division(
    job: Job, engine: Engine, model: nn.Module, checkpoints: int, before: int | None
) -> Division:
    """How the processor is divided; in a cluster each task has its own part of one."""
    if not (isinstance(job.options, RunOptions) and job.options.cluster):
        return engine.divide(model, checkpoints, before)
    cpus = job.options.cpus_per_task if before is None else min(before, job.options.cpus_per_task)
    division = Division(1, cpus, cpus)
    engine.divide_as(division, checkpoints)
    return division


def examples_wanted(job: Job, checkpoints: int, layers: int) -> bool:
    """Whether the results are to have a value for each example."""
    if job.options.settings.directions:
        return True
    if job.options.examples == "auto":
        return results.examples_fit(checkpoints, layers, len(job.probes))
    return job.options.examples == "on"


def _successors(job: Job, checkpoints: Sequence[Checkpoint]) -> dict[str, Checkpoint]:
    """The next checkpoint of each, by name; none where no direction needs it."""
    asked = UPDATE in job.options.settings.directions
    return {a.name: b for a, b in pairwise(checkpoints)} if asked else {}


def _left(job: Job, problems: Mapping[str, CheckpointError]) -> list[Checkpoint]:
    """The checkpoints that nothing is known to be wrong with.

    Raises:
        CheckpointError: the first problem, where there is no such checkpoint.
    """
    left = [c for c in job.checkpoints if c.name not in problems]
    if not left:
        raise next(iter(problems.values()))
    return left


@contextmanager
def _noted(
    job: Job, checkpoint: Checkpoint, problems: dict[str, CheckpointError]
) -> Iterator[None]:
    """Note a problem of a checkpoint, or raise it where the first problem ends the run."""
    try:
        yield
    except CheckpointError as problem:
        if job.options.on_error == "fail":
            raise
        problems[checkpoint.name] = problem


def _check_size(job: Job) -> None:
    """Refuse a model that is too large for the largest checkpoint: a card names it in a few bytes.

    Raises:
        InputError: it is.
    """
    check_size_of(job.model, max(c.size for c in job.checkpoints))


def all_read(job: Job, stages: Stages) -> dict[str, CheckpointError]:
    """Problems of the checkpoints that cannot be read or do not fit the model, by name.

    Raises:
        CheckpointError: the first problem, with ``on_error="fail"``.
    """
    _check_size(job)
    model = build_model(job.model)
    problems: dict[str, CheckpointError] = {}
    for k, checkpoint in enumerate(job.checkpoints):
        stages.place = f"{k + 1} of {len(job.checkpoints)}"
        stages.begin(CHECKPOINTS)
        with _noted(job, checkpoint, problems):
            fill(model, job, checkpoint)
    return problems


def _first(
    job: Job, problems: dict[str, CheckpointError], stages: Stages
) -> tuple[Checkpoint, nn.Module]:
    """The first checkpoint that fits the model, and the model with its weights."""
    while True:
        checkpoint = _left(job, problems)[0]
        stages.place = checkpoint.name
        stages.begin(LOADING)
        with _noted(job, checkpoint, problems):
            return checkpoint, loaded_model(job, checkpoint)


def _prove(
    job: Job,
    engine: Engine,
    problems: dict[str, CheckpointError],
    state: Mapping[str, Any] | None,
    loaded: dict[str, nn.Module],
    stages: Stages,
) -> None:
    """Prove the plan on the first, middle and last checkpoint; others replace unreadable ones."""
    proven: set[str] = set()
    for share in PROVEN_AT:
        checkpoint = _at(share, _left(job, problems))
        while checkpoint.name not in proven:
            number = len(proven) + 1
            stages.place = f"{checkpoint.name}, {number} of {len(_to_prove_on(job, problems))}"
            with _noted(job, checkpoint, problems):
                model = loaded.pop(checkpoint.name, None)
                if model is None:
                    stages.begin(LOADING)
                    model = loaded_model(job, checkpoint)
                engine.prepare([model], state)
                proven.add(checkpoint.name)
            checkpoint = _at(share, _left(job, problems))


def _to_prove_on(job: Job, problems: Mapping[str, CheckpointError]) -> set[str]:
    """Names of the first, middle and last checkpoint that nothing is known to be wrong with."""
    return {_at(share, _left(job, problems)).name for share in PROVEN_AT}


def _at(share: float, checkpoints: list[Checkpoint]) -> Checkpoint:
    """The checkpoint at a share of the way from the first to the last."""
    return checkpoints[min(int(share * len(checkpoints)), len(checkpoints) - 1)]


def _keep_plan(
    folder: Folder, engine: Engine, state: Mapping[str, Any] | None, division: Division
) -> None:
    """Go on with the plan of an earlier run if it was proven again, else write the new plan."""
    if state is None or engine.state()["methods"] != state["methods"]:
        folder.drop_units()  # they were measured by other methods
        folder.keep_plan(engine.state() | {"threads": division.threads})
    else:
        engine.restore(state)
