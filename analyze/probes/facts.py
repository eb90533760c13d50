"""Facts of a probe set that need no model: counts, ranges, duplicates, and hashes to compare by."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from analyze.probes.probe_set import ProbeSet

REPEATED = 0.05  # of the probes: pairs of equal ones raise m-coherence by as much at least
LOOKED_AT = 64  # numbers of each input, by which most probes are told apart


def subset_rows(probes: ProbeSet) -> list[dict[str, object]]:
    """A dictionary for each subset: its size, whether it is held out, its classes."""
    rows = []
    for code, name in enumerate(probes.subset_names):
        targets = probes.targets[probes.subset == code]
        classes = targets.ndim == 1 and targets.dtype.kind == "i"
        rows.append(
            {
                "subset": name,
                "probes": len(targets),
                "held_out": name in probes.held_out,
                "lowest": targets.min().item(),
                "highest": targets.max().item(),
                "classes": len(np.unique(targets)) if classes else None,
            }
        )
    return rows


def facts(probes: ProbeSet) -> dict[str, object]:
    """Facts of the whole probe set by name, to print."""
    inputs = [f"{name} {_kind(values)}".strip() for name, values in probes.inputs.items()]
    duplicated, contradicting = duplicates(probes)
    entries: dict[str, object] = {
        "probes": len(probes),
        "inputs": ", ".join(inputs),
        "targets": _kind(probes.targets),
        "columns": ", ".join(probes.columns) or None,
        "duplicate inputs": duplicated,
        "of them with other targets": contradicting,
    }
    if probes.mean is not None:
        entries |= {"mean": list(probes.mean), "std": list(probes.std or ())}
    return entries


def _kind(values: np.ndarray) -> str:
    """The type of numbers, and the shape of one probe's, or that it is one number."""
    shape = list(values.shape[1:])
    return f"{values.dtype} {shape}" if shape else f"{values.dtype}, one for each probe"


def duplicates(probes: ProbeSet) -> tuple[int, int]:
    """Number of probes whose inputs equal an earlier probe's, and of those with another target.

    Equal examples have equal gradients, which raises m-coherence.

    Cost: a look at 64 numbers of each probe, and at all of those that share these with another.
    """
    first: dict[bytes, int] = {}
    count = other = 0
    for row in _alike(probes).tolist():
        parts = [np.ascontiguousarray(v[row]).tobytes() for v in probes.inputs.values()]
        earlier = first.setdefault(hashlib.sha256(b"".join(parts)).digest(), row)
        if earlier != row:
            count += 1
            other += not np.array_equal(probes.targets[row], probes.targets[earlier])
    return count, other


def _alike(probes: ProbeSet) -> np.ndarray:
    """The rows of probes whose inputs may equal another's, as some of their numbers do."""
    looked_at = []
    for values in probes.inputs.values():
        flat = values.reshape(len(values), -1)
        places = np.unique(
            np.linspace(0, flat.shape[1] - 1, min(LOOKED_AT, flat.shape[1])).astype(int)
        )
        looked_at.append(
            np.ascontiguousarray(flat[:, places]).view(np.uint8).reshape(len(flat), -1)
        )
    keys = np.ascontiguousarray(np.concatenate(looked_at, axis=1))
    if not keys.shape[1]:
        return np.arange(len(probes))
    _, group, sizes = np.unique(
        keys.view(np.dtype((np.void, keys.shape[1]))).ravel(),
        return_inverse=True,
        return_counts=True,
    )
    return np.flatnonzero(sizes[group] > 1)


def repeated_inputs(probes: ProbeSet) -> list[str]:
    """A sentence where a share ``REPEATED`` of the probes or more are equal to others."""
    count, _ = duplicates(probes)
    if count < REPEATED * len(probes):
        return []
    return [
        f"{count} of {len(probes)} probes have the inputs of an earlier one: equal examples raise "
        "m-coherence, and errors and tests, which take examples for independent, are too sure"
    ]


def inputs_hash(probes: ProbeSet) -> str:
    """SHA-256 of ids and inputs, whatever the order of the probes, their labels and subsets."""
    order = np.argsort(probes.id)
    digest = hashlib.sha256(np.ascontiguousarray(probes.id[order]).tobytes())
    for name, values in sorted(probes.inputs.items()):
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values[order]).tobytes())
    for scale in (probes.mean, probes.std):
        digest.update(b"none" if scale is None else np.asarray(scale, dtype=float).tobytes())
    return digest.hexdigest()


def probes_hash(probes: ProbeSet) -> str:
    """SHA-256 of everything in a probe set: inputs, scaling, targets, ids, subsets, columns."""
    columns = sorted(probes.columns.items())
    names = {name: list(column.names) for name, column in columns}
    scaling = [None if v is None else np.asarray(v).tolist() for v in (probes.mean, probes.std)]
    header = [probes.subset_names, probes.held_out, names, scaling]
    arrays = {f"inputs.{name}": values for name, values in sorted(probes.inputs.items())}
    arrays |= {"targets": probes.targets, "id": probes.id, "subset": probes.subset}
    arrays |= {f"column.{name}": column.codes for name, column in columns}
    digest = hashlib.sha256(json.dumps(header).encode())
    for name, values in arrays.items():
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
