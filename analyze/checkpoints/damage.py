"""Files that cannot be read, as errors; and JSON files beside the weights, which may be such."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from analyze.errors import CheckpointError, out_of_memory, printable
from analyze.text import size_text

LARGEST_JSON = 24 << 20  # bytes, 20 times as many in memory; a thousand layers take 100,000


def read_json(path: Path) -> Any:
    """The content of a JSON file: an index, a config, the trainer's record.

    Raises:
        CheckpointError: missing, too large, or not JSON.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"more than {LARGEST_JSON >> 20} MiB")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            "a file of the checkpoint cannot be read",
            found=f"{as_text(path)}: {error}",
            expected="JSON, as the trainer writes it",
            fix="copy it again",
        ) from error


def as_text(path: Path | str) -> str:
    """A path as text that every file and terminal takes, whatever bytes its name has."""
    return printable(str(path))


def damaged(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that is damaged or of no known format, or too large for memory."""
    if out_of_memory(error):
        return CheckpointError(
            "there is not enough memory to open the checkpoint",
            found=f"{as_text(path)}: {size_text(path.stat().st_size)}",
            expected="as much free memory as the checkpoint is large; the file is not at fault",
            fix="end other programs, or raise ulimit -v, and run the same command again",
        )
    return CheckpointError(
        "the checkpoint file cannot be read",
        found=f"{as_text(path)}: {_reason(path, error)}",
        expected="a complete safetensors or torch file",
        fix="copy or save it again, or leave it out: --checkpoints GLOB",
    )


def _reason(path: Path, error: Exception) -> str:
    """The reader's own words without its advice, or ours where they would say nothing."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if not path.exists():
        return "No such file or directory"
    size = path.stat().st_size
    if size == 0:
        return "it is empty (0 bytes)"
    lines = [line for line in str(error).splitlines() if line.strip()]
    foreign = not lines or "Unsupported operand" in lines[0]  # of torch's reader of pickles
    if foreign or not isinstance(error, RuntimeError | OSError | SafetensorError):
        kind = "safetensors" if path.name.endswith(".safetensors") else "torch"
        return f"its {size} bytes are no {kind} file"
    return f"{lines[0].partition('. ')[0]} ({size} bytes)"
