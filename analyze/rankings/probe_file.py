"""The probe file of a run, found again and believed only where it is the one that was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analyze.errors import InputError
from analyze.probes import ProbeSet, read_probes
from analyze.probes.facts import probes_hash
from analyze.statistics.regrouping import example_table, provenance


def probes_of(
    results: xr.DataTree, path: str | Path | None = None, beside: Path | None = None
) -> tuple[ProbeSet | None, str]:
    """The probes of the results in their order, and a sentence where there are none.

    Args:
        results: The results tree.
        path: The probe file; None: where the run read it.
        beside: A directory in which the file may be as well, as that of the results.

    Raises:
        InputError: ``path`` is given, and is no probe file or holds other probes.
    """
    origin, ids = provenance(results), example_table(results)["probe"].values
    if path is not None:
        probes = _taken(ids, read_probes(path), origin)
        if probes is None:
            raise InputError(
                "these are not the probes that were measured",
                found=f"{path}, whose examples have another hash",
                expected=f"the file of the run: {_recorded(origin) or 'it had none'}",
                fix="--probes with that file, or leave it out",
            )
        return probes, ""
    return probes_of_ids(ids, origin, beside)


def probes_of_ids(
    ids: np.ndarray, origin: dict[str, Any], beside: Path | None = None
) -> tuple[ProbeSet | None, str]:
    """The probes of these ids from the file that a run's provenance names, as ``probes_of``."""
    recorded = _recorded(origin)
    if recorded is None:
        return None, "The probes were measured in memory, so no file says what they are."
    found = [p for p in _places(recorded, beside) if p.is_file()]
    for place in found:
        try:
            probes = _taken(ids, read_probes(place), origin)
        except InputError:
            continue
        if probes is not None:
            return probes, ""
    why = "holds other examples by now" if found else "is not there"
    return None, f"The probe file {recorded} {why}: --probes FILE names it."


def _recorded(origin: dict[str, Any]) -> str | None:
    """The path of the probe file as the run had it."""
    source = origin.get("probes")
    path = source.get("path") if isinstance(source, dict) else None
    return str(path) if path not in (None, "in memory") else None


def _places(recorded: str, beside: Path | None) -> list[Path]:
    path = Path(recorded)
    return [path] if beside is None else [path, beside / path, beside / path.name]


def _taken(ids: np.ndarray, probes: ProbeSet, origin: dict[str, Any]) -> ProbeSet | None:
    """The rows of the results, in their order; None where the hash is another one."""
    place = {number: row for row, number in enumerate(probes.id.tolist())}
    if not set(ids.tolist()) <= place.keys():
        return None
    taken = probes.take(np.array([place[number] for number in ids.tolist()], dtype=np.int64))
    return taken if probes_hash(taken) == origin.get("probes_sha256") else None
