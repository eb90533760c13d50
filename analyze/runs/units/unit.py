"""One checkpoint's measurement as a file: tensors and what belongs to them, sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from analyze.gradients.measurement import Measurement, Verified
from analyze.runs.units.files import read_sealed, write_sealed

ARRAYS = (
    "gram", "squared_norms", "loss", "accuracy", "examples", "loss_saved", "loss_recomputed"
)  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """What measuring one checkpoint gave.

    Args:
        measurement: Before parameters that are zero to rounding are set to 0: that is known at
            the end of the run only.
        record: How the checkpoint was found and read, with its hash.
        state: The engine's plan and proof after it, so that the next checkpoint is measured as if
            the run had never stopped.
    """

    measurement: Measurement
    record: Mapping[str, Any]
    state: Mapping[str, Any]


def write_unit(path: Path, unit: Unit, configuration: str) -> None:
    """Write a unit, whole or not at all.

    Args:
        path: Of the file.
        unit: What was measured.
        configuration: Digest of what it was measured with.

    Raises:
        InputError: it cannot be written.
    """
    arrays = {name: getattr(unit.measurement, name) for name in ARRAYS}
    facts = {
        "configuration": configuration,
        "parameters": unit.measurement.parameters,
        "rounding": unit.measurement.rounding,
        "verified": asdict(unit.measurement.verified),
        "record": unit.record,
        "state": unit.state,
    }
    present = {k: np.ascontiguousarray(v) for k, v in arrays.items() if v is not None}
    facts_array = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
    write_sealed(path, save(present | {"facts": facts_array}))


def read_unit(path: Path, configuration: str, sha256: str | None = None) -> Unit | None:
    """The unit in a file; None where it is missing, damaged, or of something else.

    Args:
        path: Of the file.
        configuration: Digest of what it must have been measured with.
        sha256: Hash of the checkpoint as it is now; None for whatever it was.
    """
    content = read_sealed(path)
    if content is None:
        return None
    arrays = load(content)
    facts = json.loads(arrays.pop("facts").tobytes())
    if facts["configuration"] != configuration:
        return None
    if sha256 is not None and facts["record"]["sha256"] != sha256:
        return None
    rounding = facts.get("rounding")  # this and the next were not told by older versions
    measurement = Measurement(
        parameters=tuple(facts["parameters"]),
        **arrays,
        rounding=None if rounding is None else tuple(rounding),
        verified=Verified(**facts.get("verified", {})),
        notes=(),  # they are in the state
    )
    return Unit(measurement, facts["record"], facts["state"])
