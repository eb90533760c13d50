"""Read what a checkpoint file holds, by loaders that run no code from it."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from analyze.errors import CheckpointError

WEIGHT_KEYS = ("state_dict", "model_state_dict", "model", "net", "module", "params")
STEP_KEYS = ("global_step", "step", "iter_num", "iteration")
EPOCH_KEYS = ("epoch",)


@dataclass(frozen=True)
class Content:
    """What a file says of itself: names of its weights, where they are, how far training was."""

    format: str
    weights_key: str
    names: list[str]
    step: float | None
    step_key: str
    epoch: float | None


def read_content(path: Path) -> Content:
    """Everything but the values of the tensors; files are mapped, not loaded.

    Raises:
        CheckpointError: the file is damaged, or is a pickle that would run code.
    """
    if path.name.endswith(".safetensors"):
        with _safetensors(path) as file:
            return Content("safetensors", "", list(file.keys()), None, "", None)
    loaded = _load_torch(path)
    weights_key, weights = _weights(loaded)
    step_key = next((k for k in STEP_KEYS if k != weights_key and _is_number(loaded, k)), "")
    epoch_key = next((k for k in EPOCH_KEYS if _is_number(loaded, k)), "")
    return Content(
        "torch",
        weights_key,
        list(weights),
        float(loaded[step_key]) if step_key else None,
        step_key,
        float(loaded[epoch_key]) if epoch_key else None,
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weight tensors of a file, on the CPU, by name.

    Raises:
        CheckpointError: the file is damaged, or is a pickle that would run code.
    """
    if path.name.endswith(".safetensors"):
        with _safetensors(path) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return _weights(_load_torch(path))[1]


def _safetensors(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except Exception as error:  # the reader raises its own type, OSError and more
        raise _unreadable(path, error) from error


def _load_torch(path: Path) -> Mapping[str, Any]:
    """The dictionary in a torch file; ``weights_only`` is said, as the default can be overruled."""
    try:
        loaded = _load_mapped(path)
    except pickle.UnpicklingError as error:
        raise _would_run_code(path, error) from error
    except Exception as error:  # a damaged pickle or zip can raise anything
        raise _unreadable(path, error) from error
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            "the checkpoint file holds no dictionary of tensors",
            found=f"{path}: {type(loaded).__name__}",
            expected="a state_dict, or a dictionary with one",
            fix="save it with torch.save(model.state_dict(), path)",
        )
    return loaded


def _load_mapped(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap can only be used" not in str(error):
            raise
        return torch.load(path, map_location="cpu", weights_only=True)  # written before torch 1.6


def _weights(loaded: Mapping[str, Any]) -> tuple[str, dict[str, Tensor]]:
    """The state dictionary in what was loaded, and the key it stood at."""
    for key in WEIGHT_KEYS:
        nested = loaded.get(key)
        if isinstance(nested, Mapping) and any(isinstance(v, Tensor) for v in nested.values()):
            return key, {str(k): v for k, v in nested.items() if isinstance(v, Tensor)}
    return "", {str(k): v for k, v in loaded.items() if isinstance(v, Tensor)}


def _is_number(loaded: Mapping[str, Any], key: str) -> bool:
    value = loaded.get(key)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _would_run_code(path: Path, error: Exception) -> CheckpointError:
    blocked = re.search(r"GLOBAL ([\w.]+)", str(error))
    name = blocked[1] if blocked else "something that is not a tensor"
    return CheckpointError(
        "the checkpoint file is a pickle that would run code, so it was not opened",
        found=f"{path} asks for {name}" if blocked else f"{path}: {_first_line(error)}",
        expected="tensors and plain values, as torch.load(weights_only=True) reads them",
        fix="save the weights alone: torch.save(model.state_dict(), path), or safetensors",
    )


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        "the checkpoint file cannot be read",
        found=f"{path} ({_size(path)} bytes): {_first_line(error)}",
        expected="a complete safetensors or torch file",
        fix="copy or save it again, or leave it out: --checkpoints GLOB",
    )


def _size(path: Path) -> str:
    try:
        return str(path.stat().st_size)
    except OSError:
        return "unknown"


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
