"""The configuration of a run: all that units depend on besides the checkpoint, as plain values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from analyze.checkpoints.checkpoint import sha256, sha256_of_all
from analyze.gradients.engine import Engine
from analyze.gradients.established import lines_of
from analyze.gradients.model.reachable import reachable
from analyze.probes.facts import probes_hash
from analyze.runs.job import Job
from analyze.specs.user_files import files_of

IMPORTED = "imported code"  # where it differs, units are measured again without a question
LIBRARIES = ("", "builtin", "torchvision", "timm", "transformers")


def configuration_of(job: Job, model: nn.Module, engine: Engine) -> dict[str, object]:
    """The configuration by field; runs with equal fields may share units.

    The batch size has no field: it changes no number beyond the bounds of float32.
    """
    settings, reading = job.options.settings, job.options.reading
    config = job.model.config
    return {
        "model": job.model.text,
        "model source": _source(job.model.source),
        "model config": None if config is None else sha256(config),
        "parameters and modules": _architecture(model),
        **({} if job.model.module is None else {"model in memory": _in_memory(job.model.module)}),
        **_imports_of(job),
        "loss": job.loss_spec,
        "loss source": _source(_loss_source(job)),
        "probes": probes_hash(job.probes),
        "device": engine.device.type,
        "precision": settings.precision,
        "batch norm": settings.batch_norm,
        "folds": settings.folds,
        "cells": list(settings.cells),
        **({"directions": list(settings.directions)} if settings.directions else {}),
        "selected layers": list(settings.layers),
        "selected parameters": list(settings.parameters),
        "weights": reading.weights or _kind_of_weights(job),
        "weights key": reading.weights_key,
        "rename": list(reading.rename),
        "ignore": list(reading.ignore),
    }


def digest(configuration: dict[str, object]) -> str:
    """Hash of a configuration."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()


def differing(before: dict[str, object], now: dict[str, object]) -> list[str]:
    """The fields that differ, with both values where they are short enough to read.

    Imported code is left out: where it changes, everything is measured again.
    """
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    names = [name for name in names if name != IMPORTED]
    return [f"{n}: {_short(before.get(n))}, now {_short(now.get(n))}" for n in names]


def _kind_of_weights(job: Job) -> str:
    """The kind of weights that is read where the user chose none; a series has one kind."""
    kinds = {c.weights for c in job.checkpoints if c.problem is None}
    return "ema" if kinds == {"ema"} else "model"


def _architecture(model: nn.Module) -> str:
    """Hash of the names and shapes of what a checkpoint fills, and the types of the modules."""
    state = [f"{name} {_shape(value)}" for name, value in model.state_dict(keep_vars=True).items()]
    modules = [f"{name} {type(m).__qualname__}" for name, m in model.named_modules()]
    return hashlib.sha256("\n".join([*state, "", *modules]).encode()).hexdigest()


def _in_memory(model: nn.Module) -> str:
    """Hash of all that a model in memory computes by, besides what a checkpoint fills."""
    seen = hashlib.sha256("\n".join(lines_of(model)).encode())
    filled = {id(value) for value in model.state_dict(keep_vars=True).values()}
    for path, value in reachable(model).values():
        if isinstance(value, np.ndarray):
            seen.update(f"{path} {value.dtype} {value.shape}".encode() + value.tobytes())
        elif isinstance(value, Tensor) and id(value) not in filled and not is_lazy(value):
            seen.update(f"{path} {value.dtype} {_shape(value)} {value.tolist()}".encode())
    return seen.hexdigest()


def _shape(value: object) -> str:
    """The shape of a tensor as text; lazy tensors and extra states have none."""
    return str(list(value.shape)) if isinstance(value, Tensor) and not is_lazy(value) else "none"


def _code(source: str) -> list[Path]:
    """The user's file that a spec names, and the files that it imports; empty for a library."""
    return [] if source in LIBRARIES else files_of(source)


def _source(source: str) -> str | None:
    """Hash of the user's code that a spec names; None where it names none."""
    files = _code(source)
    return sha256(files[0]) if files else None


def _imports_of(job: Job) -> dict[str, object]:
    """The field of the imported code; none where nothing is imported, as in older versions."""
    imported = [_code(source)[1:] for source in (job.model.source, _loss_source(job))]
    hashes = [sha256_of_all(files) if files else None for files in imported]
    return {IMPORTED: hashes} if any(hashes) else {}


def code_of(job: Job) -> list[Path]:
    """The files of the user's code by which a run is measured."""
    return [*_code(job.model.source), *_code(_loss_source(job))]


def _loss_source(job: Job) -> str:
    return job.loss_spec.partition("?")[0].rpartition(":")[0]


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text
