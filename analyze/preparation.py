"""What comes before the first measurement: which checkpoints can be read, plan and proof."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import nn

from analyze import results
from analyze.checkpoints.checkpoint import Checkpoint
from analyze.errors import CheckpointError
from analyze.gradients.engine import Engine
from analyze.gradients.layers import parameter_rows
from analyze.gradients.measurement import ParameterRow
from analyze.job import Job
from analyze.loading import fill, loaded_model
from analyze.models.building import build_model
from analyze.units.configuration import configuration_of
from analyze.units.folder import Folder


@dataclass(frozen=True)
class Prepared:
    """A job with a proven engine."""

    engine: Engine
    parameters: list[ParameterRow]
    problems: dict[str, CheckpointError]  # by name of the checkpoint


def prepare(job: Job, folder: Folder | None = None, restart: bool = False) -> Prepared:
    """Plan and proof on the first, middle and last checkpoint that can be read.

    Args:
        job: What is to be measured.
        folder: Of units, which is opened; the plan in it is proven again instead of made again.
        restart: Throw away what is in it.

    Raises:
        InputError: no checkpoint can be, or the model cannot be measured.
    """
    model = build_model(job.model)
    readable, problems = _readable(job, model)
    settings = job.options.settings
    layers = len(list(model.named_parameters()))
    wanted = examples_wanted(job, len(job.checkpoints), layers)
    engine = Engine(job.probes, job.loss, replace(settings, examples=wanted))
    ends = dict.fromkeys((0, len(readable) // 2, len(readable) - 1))
    models = (loaded_model(job, readable[k]) for k in ends)
    if folder is None:
        engine.prepare(models)
    else:
        folder.open(configuration_of(job, model, engine), restart=restart)
        _prepare_again(engine, models, folder)
    assert engine.plan is not None
    return Prepared(engine, parameter_rows(model, engine.plan), problems)


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


def _prepare_again(engine: Engine, models: Iterable[nn.Module], folder: Folder) -> None:
    """Prove the plan that an earlier run left, or make one and leave it."""
    state = folder.plan()
    if state is not None and state["requested_batch_size"] != engine.settings.batch_size:
        state = None
    engine.prepare(models, state)
    if state is None or engine.state()["methods"] != state["methods"]:
        folder.drop_units()  # by methods that are not these
        folder.keep_plan(engine.state())
    else:
        engine.adopt(state)
