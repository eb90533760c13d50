"""Settings in which the runs and their measurements differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from analyze.comparison.runs import Run

# Fields that differ between any two runs, or are shown elsewhere.
APART = {
    "created", "command", "checkpoints", "plan", "proof", "verification", "warnings", "batch_size",
}  # fmt: skip

CARD, TRAINING, MEASUREMENT = "Run card", "Training settings", "Measurement"
OF_CARD = {"run", "model", "probes", "loss"}


def differing_settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The values in each run of settings that are not the same in all; ``-`` for none."""
    flat = [_flat({k: v for k, v in run.provenance.items() if k not in APART}) for run in runs]
    keys = list(dict.fromkeys(key for run in flat for key in run))
    table = {key: [run.get(key, "-") for run in flat] for key in keys}
    return {key: values for key, values in table.items() if len(set(values)) > 1}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings by dotted names."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def grouped(table: Mapping[str, list[str]]) -> list[tuple[str, dict[str, list[str]]]]:
    """Settings under the heads of the page; heads without settings are left out."""
    heads: dict[str, dict[str, list[str]]] = {CARD: {}, TRAINING: {}, MEASUREMENT: {}}
    for key, values in table.items():
        first = key.partition(".")[0]
        head = CARD if first in OF_CARD else TRAINING if first == "training" else MEASUREMENT
        heads[head][key] = values
    return [(head, rows) for head, rows in heads.items() if rows]
