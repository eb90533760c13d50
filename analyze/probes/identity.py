"""Hashes that tell whether two probe sets are the same, with their labels or without."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from analyze.probes.probe_set import ProbeSet


def inputs_hash(probes: ProbeSet) -> str:
    """SHA-256 of ids and inputs, whatever the order of the probes, their labels and subsets."""
    order = np.argsort(probes.id)
    whole = hashlib.sha256(np.ascontiguousarray(probes.id[order]).tobytes())
    for name, values in sorted(probes.inputs.items()):
        whole.update(f"{name} {values.dtype} {values.shape}".encode())
        whole.update(np.ascontiguousarray(values[order]).tobytes())
    for scale in (probes.mean, probes.std):
        whole.update(b"none" if scale is None else np.asarray(scale, dtype=float).tobytes())
    return whole.hexdigest()


def probes_hash(probes: ProbeSet) -> str:
    """Hash of inputs as the model sees them, targets, ids, subsets and columns."""
    columns = sorted(probes.columns.items())
    names = {name: list(column.names) for name, column in columns}
    scaling = [None if v is None else np.asarray(v).tolist() for v in (probes.mean, probes.std)]
    facts = [probes.subset_names, probes.held_out, names, scaling]
    arrays = {f"inputs.{name}": values for name, values in sorted(probes.inputs.items())}
    arrays |= {"targets": probes.targets, "id": probes.id, "subset": probes.subset}
    arrays |= {f"column.{name}": column.codes for name, column in columns}
    whole = hashlib.sha256(json.dumps(facts).encode())
    for name, values in arrays.items():
        whole.update(f"{name} {values.dtype.str} {values.shape}".encode())
        whole.update(np.ascontiguousarray(values).tobytes())
    return whole.hexdigest()
