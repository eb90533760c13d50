"""The main job: checkpoints + probes -> engine -> sufficient statistics -> results."""

from __future__ import annotations

import math
import platform
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from analyze import results, store
from analyze.checkpoints.checkpoint import Checkpoint
from analyze.checkpoints.fitting import fit
from analyze.checkpoints.options import Reading
from analyze.checkpoints.reading import read_weights
from analyze.errors import CheckpointError, InputError
from analyze.gradients.engine import Engine
from analyze.gradients.layers import parameter_rows
from analyze.gradients.losses import build_loss
from analyze.gradients.measurement import Measurement, ParameterRow, Settings
from analyze.gradients.replica import copied
from analyze.job import Job, Options, resolve
from analyze.models.building import build_model
from analyze.probes import ProbeSet
from analyze.probes.identity import inputs_hash, probes_hash
from analyze.progress import Progress, Silent
from analyze.results import OK, Row
from analyze.statistics.warnings import lagging_sentence
from analyze.units.configuration import configuration_of
from analyze.units.folder import Folder
from analyze.units.interruption import interruptible
from analyze.units.lock import locked
from analyze.units.unit import Unit


def measure(
    model: nn.Module,
    probes: ProbeSet,
    *,
    loss: str = "cross_entropy",
    device: str = "auto",
    batch_size: int | str = "auto",
    folds: int = 10,
    precision: str = "float32",
    batch_norm: str = "recomputed",
) -> xr.DataTree:
    """M-coherence of a model in memory, per layer and subset.

    ``m_coherence(S) = |sum_{i in S} g_i|^2 / sum_{i in S} |g_i|^2`` over the gradients ``g_i`` of
    each example's own loss: 1 when they are orthogonal, |S| when they are equal.

    Args:
        model: Left as it was: mode, requires_grad, grads, buffers, device. A copy is measured, in
            eval mode; all its parameters count, frozen ones as well.
        probes: The examples.
        loss: A loss spec; an example's loss is the sum over its positions, never a mean.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:0`` or ``mps``.
        batch_size: Examples at a time.
        folds: Random blocks of each subset, for standard errors; 1 gives NaN for them.
        precision: ``float32`` or ``float64``; sums are accumulated in float64 in both.
        batch_norm: ``recomputed`` sets the statistics by one pass over the probes that are not
            held out; ``saved`` takes the model's own.

    Returns:
        The tree of a results file with one checkpoint, called ``model``.

    Raises:
        InputError: the model cannot take the probes, mixes examples, or cannot be measured
            exactly.

    Cost: a few plain forward and backward passes over the probes, and some over four of them in
    float64 for the proof.
    """
    settings = Settings(device, precision, batch_norm, batch_size, folds)
    check_settings(settings)
    _check_type("model", model, nn.Module, "a torch.nn.Module")
    _check_type("probes", probes, ProbeSet, "analyze.ProbeSet(inputs, targets)")
    engine = Engine(probes, build_loss(loss), settings)
    engine.prepare([copied(model)])
    measured = engine.measure(copied(model))
    parameters = _parameter_rows(model, engine)
    row = Row("model", float("nan"), float("nan"), OK, _without_rounding(measured, engine))
    provenance = {
        **_circumstances(engine, loss),
        "model": {"class": type(model).__name__},
    }
    return results.build_tree([row], parameters, probes, engine.cells, provenance, examples=True)


def run(
    run: str | Path,
    *,
    model: str | None = None,
    probes: str | Path | ProbeSet | None = None,
    loss: str | None = None,
    output: str | Path | None = None,
    device: str = "auto",
    batch_size: int | str = "auto",
    precision: str = "float32",
    batch_norm: str = "recomputed",
    folds: int = 10,
    cells: str | Sequence[str] = (),
    max_probes: int | None = None,
    layers: Sequence[str] = (),
    parameters: Sequence[str] = (),
    examples: str = "auto",
    checkpoints: str | None = None,
    on_error: str = "skip",
    restart: bool = False,
    weights: str | None = None,
    manifest: str | Path | None = None,
    step_regex: str | None = None,
    trust_pickle: bool = False,
    rename: Sequence[str] = (),
    ignore: Sequence[str] = (),
    progress: Progress | None = None,
) -> xr.DataTree:
    """Measure every checkpoint of a run and write the results file.

    Each checkpoint becomes a unit, a file in ``OUTPUT.units``; the results file is made of them
    at the end. The same call again keeps the units of checkpoints that have not changed.

    Args:
        run: The directory of checkpoints.
        model: A model spec; without it the run card's.
        probes: A probe file or probe set; without it the run card's.
        loss: A loss spec; without it the run card's, or ``cross_entropy``.
        output: Of the results file; without it the directory's name with ``.h5``, here.
        device: As for ``measure``, and so ``batch_size``, ``precision``, ``batch_norm``, ``folds``.
        batch_size: See above.
        precision: See above.
        batch_norm: See above.
        folds: See above.
        cells: Columns of the probe set (class, source), as names or joined by commas, by which
            gradients are summed as well: what can be told apart after the run.
        max_probes: Measure only this many probes, drawn by a hash of their ids.
        layers: Globs; only these layers are measured, and the network is their sum.
        parameters: Globs on names of parameters, likewise.
        examples: ``on`` keeps every example's squared norms, ``auto`` up to 256 MiB of them.
        checkpoints: A glob on names, or a slice such as ``::2``.
        on_error: ``skip`` leaves out a checkpoint that cannot be measured and says why in its
            ``status``; ``fail`` stops at it.
        restart: Throw away the units of an earlier run on this output.
        weights: ``model`` for the trained weights, ``ema`` for their moving average; without it
            the trained ones where there are any.
        manifest: A CSV file ``checkpoint,step,epoch,tokens`` that overrules every other rule.
        step_regex: With named groups ``step``, ``epoch`` or ``tokens``, searched in the names.
        trust_pickle: Open pickles that can run code: for files whose maker you trust.
        rename: ``OLD=NEW`` for names of tensors, with ``*`` for any part.
        ignore: Globs of buffers that may be missing, and of tensors that the model has no place
            for.
        progress: Told what happens.

    Returns:
        The tree that was written.

    Raises:
        InputError: nothing could be measured, another run writes to the output, its units are of
            another configuration, or the first problem with ``on_error="fail"``.
        Interrupted: Ctrl-C or SIGTERM; the finished units are kept.
    """
    columns = tuple(filter(None, cells.split(",")) if isinstance(cells, str) else cells)
    settings = Settings(
        device, precision, batch_norm, batch_size, folds,
        layers=tuple(layers), parameters=tuple(parameters), cells=columns,
    )  # fmt: skip
    listing = None if manifest is None else Path(manifest)
    reading = Reading(weights, listing, step_regex, trust_pickle, tuple(rename), tuple(ignore))
    options = Options(
        model, probes, loss, checkpoints, max_probes, settings, examples, on_error, reading
    )
    check_settings(settings)
    _check_choice("examples", examples, ("auto", "on", "off"))
    _check_choice("on_error", on_error, ("skip", "fail"))
    target = Path(output) if output is not None else Path(f"{Path(run).resolve().name}.h5")
    store.check_writable(target)
    job = resolve(run, options)
    progress = progress or Silent()
    folder = Folder(target)
    with interruptible(folder), locked(folder.lock) as supported:
        if not supported:
            progress.note(f"Warning: no locks beside {target}: run one command at a time on it")
        tree = _run_job(job, folder, restart, progress)
        store.write_results(tree, target)
    return tree


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
    problems: dict[str, CheckpointError] = {}
    readable: list[Checkpoint] = []
    for checkpoint in job.checkpoints:
        try:
            _load(job, checkpoint, model)
            readable.append(checkpoint)
        except CheckpointError as problem:
            if job.options.on_error == "fail":
                raise
            problems[checkpoint.name] = problem
    if not readable:
        raise next(iter(problems.values()))
    settings = job.options.settings
    layers = len(list(model.named_parameters()))
    wanted = job.options.examples == "on" or (
        job.options.examples == "auto"
        and results.examples_fit(len(job.checkpoints), layers, len(job.probes))
    )
    engine = Engine(job.probes, job.loss, replace(settings, examples=wanted))
    ends = dict.fromkeys((0, len(readable) // 2, len(readable) - 1))
    models = (loaded_model(job, readable[k]) for k in ends)
    if folder is None:
        engine.prepare(models)
    else:
        folder.open(configuration_of(job, model, engine), restart=restart)
        _prepare_again(engine, models, folder)
    return Prepared(engine, _parameter_rows(model, engine), problems)


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


def loaded_model(job: Job, checkpoint: Checkpoint) -> nn.Module:
    """A freshly built model with a checkpoint's weights.

    Raises:
        CheckpointError: the file cannot be read or does not fit.
    """
    model = build_model(job.model)
    _load(job, checkpoint, model)
    return model


def check_settings(settings: Settings) -> None:
    """Refuse settings that mean nothing.

    Raises:
        InputError: saying which.
    """
    _check_choice("precision", settings.precision, ("float32", "float64"))
    _check_choice("batch_norm", settings.batch_norm, ("recomputed", "saved"))
    size = settings.batch_size
    if size != "auto" and not (isinstance(size, int) and size >= 1):
        raise _bad_choice("batch_size", size, "auto, or a positive number")
    if not isinstance(settings.folds, int) or settings.folds < 1:
        raise _bad_choice("folds", settings.folds, "a positive number")


def _run_job(job: Job, folder: Folder, restart: bool, progress: Progress) -> xr.DataTree:
    prepared = prepare(job, folder, restart)
    engine = prepared.engine
    rows = []
    records = []
    progress.start(len(job.checkpoints), len(job.probes))
    try:
        for checkpoint in job.checkpoints:
            progress.checkpoint(checkpoint.name)
            row, record = _measure_checkpoint(job, prepared, checkpoint, folder, progress)
            rows.append(row)
            records.append(record)
    finally:
        progress.finish()
    if all(row.measurement is None for row in rows):
        raise next(iter(prepared.problems.values()))
    rows = [
        replace(row, measurement=_without_rounding(row.measurement, engine))
        if row.measurement is not None
        else row
        for row in rows
    ]
    methods = engine.plan.methods if engine.plan is not None else {}
    parameters = [replace(p, method=methods[p.name]) for p in prepared.parameters]
    provenance = {
        **_circumstances(engine, job.loss_spec),
        "run": {"name": job.name, "path": str(job.run)},
        "model": {"spec": job.model.text},
        "probes": job.probes_source,
        "reading": {k: str(v) for k, v in asdict(job.options.reading).items() if v},
        "checkpoints": records,
        "warnings": list(job.warnings),
    }
    tree = results.build_tree(
        rows, parameters, job.probes, engine.cells, provenance,
        examples=engine.settings.examples,
    )  # fmt: skip
    for warning in [*job.warnings, *lagging_sentence(tree)]:
        progress.note(f"Warning: {warning}")
    return tree


def _measure_checkpoint(
    job: Job, prepared: Prepared, checkpoint: Checkpoint, folder: Folder, progress: Progress
) -> tuple[Row, dict[str, Any]]:
    """One row of the results, and how the checkpoint was read."""
    record: dict[str, Any] = {
        "checkpoint": checkpoint.name,
        "format": checkpoint.format,
        "step_rule": checkpoint.step_rule,
        "weights": checkpoint.weights,
        "weights_key": checkpoint.weights_key,
        "prefix": "",
        "epochs_completed": _json_number(checkpoint.epochs_completed),
        "tokens": _json_number(checkpoint.tokens),
    }
    problem = prepared.problems.get(checkpoint.name)
    measured = None
    if problem is None:
        try:
            unit = _unit(job, prepared.engine, checkpoint, folder, progress)
            measured = unit.measurement
            record |= {key: unit.record[key] for key in ("prefix", "sha256")}
        except CheckpointError as error:
            if job.options.on_error == "fail":
                raise
            problem = prepared.problems[checkpoint.name] = error
    if problem is not None:
        progress.note(f"Skipped {checkpoint.name}: {problem}")
    status = OK if problem is None else f"{problem.what}: {problem.found}"
    return Row(checkpoint.name, checkpoint.step, checkpoint.epoch, status, measured), record


def _unit(
    job: Job, engine: Engine, checkpoint: Checkpoint, folder: Folder, progress: Progress
) -> Unit:
    """The unit of an earlier run where the checkpoint is the same, else a new one, kept."""
    before = _hash(checkpoint)
    kept = folder.read(checkpoint.name, before)
    if kept is not None and (kept.measurement.examples is not None or not engine.settings.examples):
        engine.adopt(kept.state)
        progress.advance(len(job.probes))
        return kept
    model = build_model(job.model)
    prefix = _load(job, checkpoint, model)
    if _hash(checkpoint) != before:
        raise CheckpointError(
            "the checkpoint changed while it was read",
            found=f"{checkpoint.name} with another content than before",
            expected="files that no program is writing to",
            fix="run the same command again once the file is complete",
        )
    measured = engine.measure(model, progress.advance)
    unit = Unit(measured, {"prefix": prefix, "sha256": before}, engine.state())
    folder.write(checkpoint.name, unit)
    folder.extend_plan(unit.state["algorithms"])
    return unit


def _hash(checkpoint: Checkpoint) -> str:
    try:
        return checkpoint.sha256
    except OSError as error:
        raise CheckpointError(
            "the checkpoint cannot be read",
            found=f"{checkpoint.name}: {error.strerror or error}",
            expected="the file that was there when the run began",
            fix="restore it and run the same command again, or --checkpoints GLOB without it",
        ) from error


def _load(job: Job, checkpoint: Checkpoint, model: nn.Module) -> str:
    if checkpoint.problem is not None:
        raise checkpoint.problem
    reading = job.options.reading
    weights = read_weights(checkpoint.path, reading)
    return fit(
        model, weights, checkpoint.name, job.model.text,
        rename=reading.rename, ignore=reading.ignore,
    )  # fmt: skip


def _json_number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _parameter_rows(model: nn.Module, engine: Engine) -> list[ParameterRow]:
    assert engine.plan is not None
    return parameter_rows(model, engine.plan)


def _without_rounding(measured: Measurement, engine: Engine) -> Measurement:
    """Parameters whose gradient is nothing but rounding have gradient 0 in the results."""
    rounding = np.array([name in engine.proof.zero_to_rounding for name in measured.parameters])
    if not rounding.any():
        return measured
    examples = None if measured.examples is None else measured.examples.copy()
    if examples is not None:
        examples[rounding] = 0.0
    gram, squared = measured.gram.copy(), measured.squared_norms.copy()
    gram[rounding], squared[rounding] = 0.0, 0.0
    return replace(measured, gram=gram, squared_norms=squared, examples=examples)


def _circumstances(engine: Engine, loss: str) -> dict[str, Any]:
    """How, with what and on what the numbers were made."""
    plan, proof, settings = engine.plan, engine.proof, engine.settings
    assert plan is not None
    packages = ("gradient-coherence", "torch", "numpy", "xarray", "h5netcdf", "safetensors")
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "device": str(engine.device),
        "device_name": _device_name(engine.device),
        "precision": settings.precision,
        "batch_norm": settings.batch_norm,
        "batch_size": engine.batch_size,
        "folds": settings.folds,
        "selected": {"layers": settings.layers, "parameters": settings.parameters},
        "cells": list(settings.cells),
        "loss": loss,
        "held_out": list(engine.probes.held_out),
        "probes_sha256": probes_hash(engine.probes),
        "inputs_sha256": inputs_hash(engine.probes),
        "plan": {"methods": plan.methods, "algorithms": plan.algorithms},
        "proof": {
            "precision": proof.dtype,
            "examples": proof.examples,
            "relative_errors": proof.errors,
            "zero_to_rounding": sorted(proof.zero_to_rounding),
            "unproven": sorted(proof.unproven(plan)),
        },
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise _bad_choice(name, value, f"one of {', '.join(allowed)}")


def _check_type(name: str, value: object, wanted: type, expected: str) -> None:
    if not isinstance(value, wanted):
        raise InputError(
            f"the {name} given is something else",
            found=f"{name} of type {type(value).__name__}",
            expected=expected,
            fix=f"analyze.measure(model, probes) with {expected}",
        )


def _bad_choice(name: str, value: object, expected: str) -> InputError:
    flag = "--" + name.replace("_", "-")
    return InputError(
        f"{name} has a value that it cannot have",
        found=repr(value),
        expected=expected,
        fix=f"leave {flag} out for the default",
    )
