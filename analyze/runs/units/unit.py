"""A unit: one checkpoint's measurement as a sealed file of tensors and plain facts."""

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
    "gram", "squared_norms", "loss", "accuracy", "examples", "alignment", "direction_squares",
    "margin", "loss_saved", "loss_recomputed",
)  # fmt: skip
FOLLOWING = "following"  # the key in the record


@dataclass(frozen=True)
class Unit:
    """The measurement of one checkpoint, and what a later run needs to go on from it.

    Args:
        measurement: The numbers before parameters that are zero to rounding are set to 0, which
            are known at the end of the run only.
        record: How the checkpoint was found and read, with its hash.
        state: The engine's plan and proof after this checkpoint.
    """

    measurement: Measurement
    record: Mapping[str, Any]
    state: Mapping[str, Any]

    @property
    def following(self) -> str | None:
        """Hash of the checkpoint that the direction ``update`` leads to; None without one."""
        return self.record.get(FOLLOWING)


def write_unit(path: Path, unit: Unit, configuration: str) -> None:
    """Write a unit, whole or not at all, with the digest of its configuration.

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
    """The unit in a file; None where it is missing, damaged, or does not fit the arguments.

    Args:
        path: The file.
        configuration: The digest of the configuration that it must have.
        sha256: The hash of the checkpoint now; None accepts any.
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
    rounding = facts.get("rounding")  # older versions wrote neither this nor "verified"
    measurement = Measurement(
        parameters=tuple(facts["parameters"]),
        **arrays,
        rounding=None if rounding is None else tuple(rounding),
        verified=Verified(**facts.get("verified", {})),
        notes=(),  # the state has them
    )
    return Unit(measurement, facts["record"], facts["state"])
