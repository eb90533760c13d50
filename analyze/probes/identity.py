"""Hashes that tell whether two probe sets are the same, with their labels or without."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import numpy as np

from analyze.probes.probe_set import ProbeSet


def inputs_hash(probes: ProbeSet) -> str:
    """SHA-256 of ids and inputs, whatever the order of the probes, their labels and subsets."""
    order = np.argsort(probes.id)
    found = hashlib.sha256(np.ascontiguousarray(probes.id[order]).tobytes())
    for name, values in sorted(probes.inputs.items()):
        found.update(f"{name} {values.dtype} {values.shape}".encode())
        found.update(np.ascontiguousarray(values[order]).tobytes())
    for scale in (probes.mean, probes.std):
        found.update(b"none" if scale is None else np.asarray(scale, dtype=float).tobytes())
    return found.hexdigest()


def probes_hash(probes: ProbeSet) -> str:
    """Hash of inputs as the model sees them, targets, ids, subsets and columns."""
    parts: list[tuple[str, np.ndarray]] = [
        *((f"inputs.{name}", values) for name, values in sorted(probes.inputs.items())),
        ("targets", probes.targets),
        ("id", probes.id),
        ("subset", probes.subset),
        *((f"column.{name}", column.codes) for name, column in sorted(probes.columns.items())),
    ]
    names = {name: list(column.names) for name, column in sorted(probes.columns.items())}
    scaling = [None if v is None else np.asarray(v).tolist() for v in (probes.mean, probes.std)]
    facts = [probes.subset_names, probes.held_out, names, scaling]
    return _hash_of(parts, json.dumps(facts))


def _hash_of(parts: Iterable[tuple[str, np.ndarray]], facts: str) -> str:
    whole = hashlib.sha256(facts.encode())
    for name, values in parts:
        array = np.ascontiguousarray(values)
        whole.update(f"{name} {array.dtype.str} {array.shape}".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()
