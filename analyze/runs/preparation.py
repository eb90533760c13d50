"""What comes before the first measurement: which checkpoints can be read, plan and proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.errors import CheckpointError
from analyze.gradients.engine import Engine
from analyze.gradients.layers import parameter_rows
from analyze.gradients.measurement import ParameterRow
from analyze.gradients.threads.division import Division
from analyze.models.building import build_model
from analyze.results import tree as results
from analyze.runs.job import Job
from analyze.runs.loading import fill, loaded_model
from analyze.runs.units.configuration import configuration_of
from analyze.runs.units.folder import Folder


@dataclass(frozen=True)
class Prepared:
    """A job with a proven engine, and how it is divided."""

    engine: Engine
    division: Division
    parameters: list[ParameterRow]
    problems: dict[str, CheckpointError]  # by name of the checkpoint


def prepare(
    job: Job, folder: Folder | None = None, restart: bool = False, alone: bool = False
) -> Prepared:
    """Plan and proof on the first, middle and last checkpoint that can be read.

    Torch computes on as many threads from then on as each process of the run: what is chosen by
    timing depends on it.

    Args:
        job: What is to be measured.
        folder: Of units, which is opened; the plan in it is proven again instead of made again.
        restart: Throw away what is in it.
        alone: Measure in this process.

    Raises:
        InputError: no checkpoint can be, or the model cannot be measured.
    """
    model = build_model(job.model)
    readable, problems = _readable(job, model)
    wanted = examples_wanted(job, len(job.checkpoints), len(list(model.named_parameters())))
    engine = Engine(job.probes, job.loss, replace(job.options.settings, examples=wanted))
    state = None
    if folder is not None:
        folder.open(configuration_of(job, model, engine), restart=restart)
        state = _kept_plan(folder, engine)
    before = None if state is None else state.get("threads")  # not told by older versions
    division = engine.divide(model, 1 if alone else len(readable), before)
    torch.set_num_threads(division.threads)
    _prove_on_ends(job, engine, readable, problems, state)
    if folder is not None:
        engine.adopt(engine.state() | {"notes": folder.notes})
        _keep_plan(folder, engine, state, division)
    return Prepared(engine, division, parameter_rows(model, engine.plan), problems)


def examples_wanted(job: Job, checkpoints: int, layers: int) -> bool:
    """Whether the results are to have a value for each example."""
    if job.options.examples == "auto":
        return results.examples_fit(checkpoints, layers, len(job.probes))
    return job.options.examples == "on"


def _readable(job: Job, model: nn.Module) -> tuple[list[Checkpoint], dict[str, CheckpointError]]:
    """The checkpoints that fit the model, and what is wrong with the others."""
    problems: dict[str, CheckpointError] = {}
    readable: list[Checkpoint] = []
    for checkpoint in job.checkpoints:
        try:
            fill(model, job, checkpoint)
            readable.append(checkpoint)
        except CheckpointError as problem:
            if job.options.on_error == "fail":
                raise
            problems[checkpoint.name] = problem
    if not readable:
        raise next(iter(problems.values()))
    return readable, problems


def _prove_on_ends(
    job: Job,
    engine: Engine,
    readable: list[Checkpoint],
    problems: dict[str, CheckpointError],
    state: Mapping[str, Any] | None,
) -> None:
    """Prove the plan on the ends and the middle; others take the place of what turns out bad."""
    proven: set[str] = set()
    while readable:
        ends = (readable[0], readable[len(readable) // 2], readable[-1])
        left = [c for c in ends if c.name not in proven]
        if not left:
            return
        try:
            engine.prepare([loaded_model(job, left[0])], state)
            proven.add(left[0].name)
        except CheckpointError as problem:
            if job.options.on_error == "fail":
                raise
            problems[left[0].name] = problem
            readable.remove(left[0])
    raise next(iter(problems.values()))


def _kept_plan(folder: Folder, engine: Engine) -> dict[str, Any] | None:
    """The plan that an earlier run left, unless another batch size is asked for now."""
    state = folder.plan()
    if state is None or state["requested_batch_size"] != engine.settings.batch_size:
        return None
    return state


def _keep_plan(
    folder: Folder, engine: Engine, state: Mapping[str, Any] | None, division: Division
) -> None:
    """Go on from the plan of an earlier run where that is proven again, else leave a new one."""
    if state is None or engine.state()["methods"] != state["methods"]:
        folder.drop_units()  # by methods that are not these
        folder.keep_plan(engine.state() | {"threads": division.threads})
    else:
        engine.adopt(state)
