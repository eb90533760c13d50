"""Small JSON files beside the weights: Hugging Face's ``trainer_state.json``, indices, configs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from analyze.checkpoints.damage import as_text
from analyze.errors import CheckpointError

TRAINER_STATE = "trainer_state.json"
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


def trainer_state(folder: Path) -> dict[str, Any]:
    """Hugging Face's record of the training so far; empty where there is none."""
    path = folder / TRAINER_STATE
    if not path.is_file() or path.is_symlink():
        return {}
    content = read_json(path)
    return content if isinstance(content, dict) else {}
