"""Small JSON files beside the weights: indices, configs, the trainer's record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from analyze.checkpoints.damage import as_text
from analyze.errors import CheckpointError

LARGEST = 64 << 20  # bytes; an index of a thousand layers has some hundred thousand


def read_json(path: Path) -> Any:
    """What a JSON file says.

    Raises:
        CheckpointError: missing, too large, or not JSON.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST >> 20} MiB")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            "a file of the checkpoint cannot be read",
            found=f"{as_text(path)}: {error}",
            expected="JSON, as the trainer writes it",
            fix="copy it again",
        ) from error
