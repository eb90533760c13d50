"""The provenance of results as facts in words; unknown facts are left out."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import xarray as xr

from analyze.figures.names import plain
from analyze.results.tree import OK

READ = ("step_rule", "format", "weights_key", "prefix", "sha256")  # fields of a checkpoint's record


def run_name(origin: dict[str, Any]) -> str:
    """The name of the run, or the class of a model that was measured in memory."""
    name = _part(origin, "run").get("name") or model_name(origin) or "gradient coherence"
    return plain(str(name))


def model_name(origin: dict[str, Any]) -> str:
    """The spec of the model, or the class of one in memory; empty where unknown."""
    model = _part(origin, "model")
    return plain(str(model.get("spec") or model.get("class") or ""))


def has_batch_norm(results: xr.DataTree) -> bool:
    """Whether the network has batch norm: only then its loss was measured with both statistics.

    Older results tell it by the types of layers with parameters alone.
    """
    types = results["layers"].to_dataset()["layer_type"].values.astype(str)
    return "loss_saved" in results.to_dataset() or any("BatchNorm" in name for name in types)


def facts(origin: dict[str, Any]) -> list[tuple[str, str]]:
    """Facts about the measurement, as pairs of a label and a text."""
    probes, run, versions = (_part(origin, key) for key in ("probes", "run", "versions"))
    device = [origin.get("device"), origin.get("device_name")]
    pairs = [
        ("Run", run.get("path")),
        ("Model", model_name(origin)),
        ("Loss", origin.get("loss")),
        ("Probes", probes.get("path")),
        ("Probes, SHA-256", probes.get("sha256")),
        ("Held out", ", ".join(origin.get("held_out") or [])),
        ("Batch norm statistics", origin.get("batch_norm")),
        ("Precision", origin.get("precision")),
        ("Device", ", ".join(str(part) for part in device if part)),
        ("Batch size", origin.get("batch_size")),
        ("Folds", origin.get("folds")),
        ("Command", origin.get("command")),
        ("Created", origin.get("created")),
        ("Versions", ", ".join(f"{name} {number}" for name, number in versions.items())),
    ]
    return _known(pairs)


def proof_facts(origin: dict[str, Any]) -> list[tuple[str, str]]:
    """Facts about the engine's plan and its proof against plain autograd."""
    proof = _part(origin, "proof")
    methods = Counter(_part(_part(origin, "plan"), "methods").values())
    plan = ", ".join(f"{name} {count}" for name, count in methods.most_common())
    pairs = [
        ("Compared in", proof.get("precision")),
        ("Examples compared", proof.get("examples")),
        ("Worst relative error", _worst(_part(proof, "relative_errors"))),
        ("Zero to rounding", _names(proof, "zero_to_rounding")),
        ("Unproven", _names(proof, "unproven")),
        ("Verified while measuring", _part(origin, "verification").get("agreement")),
        ("Parameters by method", plan),
    ]
    return _known(pairs)


def checkpoint_facts(results: xr.DataTree, origin: dict[str, Any]) -> list[dict[str, Any]]:
    """How each checkpoint was found and read; empty where the results have no records."""
    records = {r.get("checkpoint"): r for r in origin.get("checkpoints") or []}
    if not records:
        return []
    root = results.to_dataset()
    return [
        {
            "checkpoint": plain(name),
            "step": float(root["step"].values[k]),
            "epoch": float(root["epoch"].values[k]),
            "status": "measured" if str(root["status"].values[k]) == OK else "skipped",
            **{key: plain(str(records.get(name, {}).get(key) or "")) for key in READ},
        }
        for k, name in enumerate(root["checkpoint"].values.astype(str))
    ]


def _known(pairs: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    return [(label, plain(str(value))) for label, value in pairs if value not in (None, "")]


def _part(origin: dict[str, Any], key: str) -> dict[str, Any]:
    value = origin.get(key)
    return value if isinstance(value, dict) else {}


def _names(proof: dict[str, Any], key: str) -> str | None:
    """Names as text, or ``none``; None where the proof has no such entry."""
    return None if key not in proof else ", ".join(map(str, proof[key])) or "none"


def _worst(errors: dict[str, Any]) -> str | None:
    known = {k: float(v) for k, v in errors.items() if v is not None and math.isfinite(float(v))}
    if not known:
        return None
    name = max(known, key=known.__getitem__)
    return f"{known[name]:.1e} ({name}), of {len(known)} parameters"
