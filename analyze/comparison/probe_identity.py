"""Whether runs were measured on the same probe inputs; labels and subsets may differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analyze.comparison.runs import Run
from analyze.errors import InputError

HASH, FILE, IDS = "hash of the inputs", "probe file", "ids of the probes"
UNKNOWN, DIFFERENT = "nothing", "different"


def same_probes(first: Run, second: Run) -> tuple[bool, str]:
    """Whether the probes are the same, and the criterion.

    The criterion is the hash of the inputs if both results have it, else the hash of the probe
    file if that is equal, else the ids in ``/examples``, which different inputs can share. Results
    with none of these count as different.
    """
    hashes = [run.provenance.get("inputs_sha256") for run in (first, second)]
    if all(hashes):
        return hashes[0] == hashes[1], HASH
    files = [(run.provenance.get("probes") or {}).get("sha256") for run in (first, second)]
    if all(files) and files[0] == files[1]:
        return True, FILE
    if all("examples" in run.tree.children for run in (first, second)):
        ids = [np.sort(r.tree["examples"].to_dataset()["probe"].values) for r in (first, second)]
        return np.array_equal(ids[0], ids[1]), IDS
    return False, UNKNOWN


def check_probes(runs: Sequence[Run], *, different_allowed: bool) -> list[str]:
    """The criterion by which each run's probes are those of the first run, or ``different``.

    Raises:
        InputError: different inputs, unless they are allowed.
    """
    judged = [same_probes(runs[0], run) for run in runs]
    different = [run.name for run, (same, _) in zip(runs, judged, strict=True) if not same]
    if different and not different_allowed:
        _, by = judged[[run.name for run in runs].index(different[0])]
        raise InputError(
            "these runs were measured on different probes",
            found=f"{different[0]} has other inputs than {runs[0].name}, judged by: {by}",
            expected="the same inputs, as a difference may otherwise come from the examples; "
            "labels and subsets may differ",
            fix="measure both on the same inputs, or --different-probes to compare all the same",
        )
    return [by if same else DIFFERENT for same, by in judged]
