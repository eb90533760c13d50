"""The ``config.json`` that Hugging Face saves beside the weights: which one builds the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.checkpoints.damage import read_json
from analyze.errors import InputError

CONFIG = "config.json"
# What differs between checkpoints of one model: who saved it, from where, in which precision.
NO_MATTER = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "use_cache")


def config_of(checkpoints: Sequence[Checkpoint], run: Path, spec: str) -> Path:
    """The config beside the checkpoints, or in the run's directory; it is the same for all.

    Raises:
        InputError: there is none, or they differ.
    """
    folders = [c.path if c.path.is_dir() else c.path.parent for c in checkpoints]
    paths = [folder / CONFIG for folder in dict.fromkeys([*folders, run])]
    existing = [path for path in paths if path.is_file()]
    if not existing:
        raise InputError(
            "the checkpoints have no config to build the model from",
            found=f"no {CONFIG} beside {checkpoints[0].name} or in {run}",
            expected=f"the {CONFIG} that save_pretrained writes, as {spec!r} needs it",
            fix=f"copy {CONFIG} into {run}, or give the model: --model SPEC",
        )
    first = _what_matters(existing[0])
    for path in existing[1:]:
        other = _what_matters(path)
        if other != first:
            differ = [k for k in {**first, **other} if first.get(k) != other.get(k)]
            raise InputError(
                "the checkpoints are of different models",
                found=f"{', '.join(sorted(differ))} differ between {existing[0]} and {path}",
                expected="one model in a run",
                fix="choose those of one model: --checkpoints GLOB",
            )
    return existing[0]


def _what_matters(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(
            "the config of the model is not understood",
            found=f"{path}: {type(content).__name__}",
            expected="a JSON object, as save_pretrained writes it",
            fix="copy it again, or give the model: --model SPEC",
        )
    return {key: value for key, value in content.items() if key not in NO_MATTER}
