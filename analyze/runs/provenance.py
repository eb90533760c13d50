"""The provenance of results: how, with what and on what the numbers were made."""

from __future__ import annotations

import platform
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from analyze.gradients.device.devices import maker_name
from analyze.gradients.engine import Engine
from analyze.gradients.measurement import Measurement
from analyze.probes.facts import inputs_hash, probes_hash
from analyze.results.agreement import agreement
from analyze.runs.job import Job

PROGRAM = "gradient-coherence"
PACKAGES = (PROGRAM, "torch", "numpy", "xarray", "h5netcdf", "safetensors")


def circumstances(
    engine: Engine, loss: str, measured: Sequence[Measurement] = ()
) -> dict[str, Any]:
    """Program, device, settings, probes, plan and checks, after the last measurement."""
    plan, proof, settings = engine.plan, engine.proof, engine.settings
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command(sys.argv),
        "versions": versions(),
        "device": str(engine.device),
        "device_name": device_name(engine.device),
        "precision": settings.precision,
        "batch_norm": settings.batch_norm,
        "batch_size": engine.batch_size,
        "shares": engine.current.shares,
        "tuned": engine.current.tuned,
        "folds": settings.folds,
        "selected": {"layers": settings.layers, "parameters": settings.parameters},
        "cells": list(settings.cells),
        **({"directions": list(settings.directions)} if settings.directions else {}),
        "loss": loss,
        "held_out": list(engine.probes.held_out),
        "probes_sha256": probes_hash(engine.probes),
        "inputs_sha256": inputs_hash(engine.probes),
        "repeatable": engine.current.repeatable,
        "cell_sums": "host memory" if engine.current.memory.host_sums else "device",
        "plan": {"methods": plan.named_methods, "algorithms": plan.algorithms},
        "proof": {
            "precision": proof.dtype,
            "examples": proof.examples,
            "relative_errors": proof.errors,
            "zero_to_rounding": sorted(proof.zero_to_rounding),
            "unproven": sorted(proof.unproven(plan)),
        },
        "verification": _verification(measured),
    }


def _verification(measured: Sequence[Measurement]) -> dict[str, Any]:
    """How many measurements were compared with others, and how well they agree."""
    alone = sum(m.verified.alone for m in measured)
    elsewhere = sum(m.verified.elsewhere for m in measured)
    return {
        "compared_with_autograd_alone": alone,
        "measured_again_in_another_batch": elsewhere,
        "agreement": agreement(alone, elsewhere),
    }


def of_the_run(
    job: Job, records: Sequence[Mapping[str, Any]], notes: Sequence[str]
) -> dict[str, Any]:
    """The provenance that only a run has, with the checkpoints' records and the engine's notes."""
    return {
        "run": {"name": job.name, "path": str(job.run)},
        **({"training": job.training} if job.training else {}),
        "model": {"spec": job.model.text},
        "probes": job.probes_source,
        "reading": {k: str(v) for k, v in asdict(job.options.reading).items() if v},
        "checkpoints": list(records),
        "warnings": [*job.warnings, *notes, *_other_versions(records), *_other_devices(records)],
    }


def _other_versions(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Warnings about units that another version of the program has measured."""
    current = versions()[PROGRAM]
    others = Counter(r["version"] for r in records if r.get("version") not in (None, current))
    return [
        f"{count} of {len(records)} checkpoints were measured by version {other} of the program, "
        f"and this is {current}: --restart measures them again"
        for other, count in sorted(others.items())
    ]


def _other_devices(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """A warning where checkpoints were measured on devices of several kinds."""
    kinds = Counter(str(r["device"]) for r in records if r.get("device"))
    if len(kinds) < 2:
        return []
    counts = ", ".join(f"{count} on {kind}" for kind, count in sorted(kinds.items()))
    return [
        f"checkpoints were measured on several kinds of devices ({counts}): their numbers agree "
        "within rounding, and differences between checkpoints as small as that mean nothing"
    ]


def command(arguments: Sequence[str]) -> str:
    """A command as it was typed; the program, and a notebook, without where they are installed."""
    path = Path(arguments[0])
    program = path.parent.name if path.name == "__main__.py" else path.name  # ``python -m PROGRAM``
    if program == "ipykernel_launcher.py":  # its arguments are files of the machine, none typed
        return "a notebook"
    return shlex.join([program, *arguments[1:]])


def versions() -> dict[str, str]:
    """The versions of Python and the packages that numbers depend on."""
    return {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}}


@cache
def _version(package: str) -> str:
    """That of an installed package, whose description is read once."""
    return version(package)


def device_name(device: torch.device) -> str:
    """What kind of device it is, as its maker calls it; of the processor, its architecture."""
    return maker_name(device) or platform.processor() or platform.machine()
