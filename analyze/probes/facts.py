"""What there is to know of a probe set before it is measured: counts, ranges, duplicates."""

from __future__ import annotations

import hashlib

import numpy as np

from analyze.probes.probe_set import ProbeSet


def subset_rows(probes: ProbeSet) -> list[dict[str, object]]:
    """One dictionary for each subset: its size, whether it is held out, its classes."""
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
    """What holds for the whole set, by name."""
    inputs = [f"{k or 'inputs'} {v.dtype} {list(v.shape[1:])}" for k, v in probes.inputs.items()]
    twice, contradicting = duplicates(probes)
    whole: dict[str, object] = {
        "probes": len(probes),
        "inputs": ", ".join(inputs),
        "targets": f"{probes.targets.dtype} {list(probes.targets.shape[1:])}",
        "columns": ", ".join(probes.columns) or None,
        "duplicate inputs": twice,
        "of them with other targets": contradicting,
    }
    if probes.mean is not None:
        whole |= {"mean": list(probes.mean), "std": list(probes.std or ())}
    return whole


def duplicates(probes: ProbeSet) -> tuple[int, int]:
    """Probes whose inputs equal those of an earlier one, and how many of these differ in target.

    Equal examples have equal gradients, which raises m-coherence.
    """
    first: dict[bytes, int] = {}
    count = other = 0
    for row in range(len(probes)):
        parts = [np.ascontiguousarray(v[row]).tobytes() for v in probes.inputs.values()]
        earlier = first.setdefault(hashlib.sha256(b"".join(parts)).digest(), row)
        if earlier != row:
            count += 1
            other += not np.array_equal(probes.targets[row], probes.targets[earlier])
    return count, other
