"""What a probe set's inputs are, apart from their labels."""

from __future__ import annotations

import hashlib

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
