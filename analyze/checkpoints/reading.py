"""Read what a checkpoint file holds, by loaders that run no code from it."""

from __future__ import annotations

import argparse
import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from analyze.errors import CheckpointError, listed

WEIGHT_KEYS = ("state_dict", "model_state_dict", "model", "net", "module", "params")
STEP_KEYS = ("global_step", "step", "iter_num", "iteration")
EPOCH_KEYS = ("epoch",)
# What trainers (timm's, torchvision's) keep their options in; it holds values and runs nothing.
HARMLESS: list[Any] = [argparse.Namespace]


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
    if _is_safetensors(path):
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
    if _is_safetensors(path):
        with _safetensors(path) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return _weights(_load_torch(path))[1]


@contextmanager
def _safetensors(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except Exception as error:  # the reader raises its own type, OSError and more
        raise _unreadable(path, error) from error


def _load_torch(path: Path) -> Mapping[str, Any]:
    """The dictionary in a torch file; ``weights_only`` is said, as the default can be overruled."""
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
            warnings.simplefilter("ignore")  # what torch warns of is an error below, or nothing
            loaded = _load_mapped(path)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from error
    except Exception as error:  # a damaged pickle or zip can raise anything
        raise _unreadable(path, error) from error
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            "the checkpoint file holds no dictionary of tensors",
            found=f"{shown(path)}: {type(loaded).__name__}",
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
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1 << 63


def shown(path: Path | str) -> str:
    """A path as text that every file and terminal takes, whatever bytes its name has."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _refused(path: Path, error: Exception) -> CheckpointError:
    """The reader of plain values met something else in a pickle."""
    blocked = re.search(r"GLOBAL ([\w.]+)", str(error))
    names = [blocked[1]] if blocked else _imported_names(path)
    if not names:
        reason = str(error).partition("WeightsUnpickler error:")[2].split("Check the doc")[0]
        return _unreadable(path, RuntimeError(" ".join(reason.split())))
    return CheckpointError(
        "the checkpoint file is a pickle that would run code, so it was not opened",
        found=f"{shown(path)} asks for {listed(names, 3)}",
        expected="tensors and plain values, as torch.load(weights_only=True) reads them",
        fix="save the weights alone: torch.save(model.state_dict(), path), or safetensors",
    )


def _imported_names(path: Path) -> list[str]:
    """What a pickle would import besides torch, read without running it, as far as it goes."""
    names: list[str] = []
    strings: list[str] = []
    try:
        file = _pickle_in(path)
        for _ in range(4):  # a file from before torch 1.6 is several pickles
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "STACK_GLOBAL":
                    names.append(".".join(strings[-2:]))
                elif opcode.name == "GLOBAL":
                    names.append(str(argument).replace(" ", "."))
                elif isinstance(argument, str):
                    strings.append(argument)
    except Exception:  # damaged, or at its end
        pass
    return [n for n in dict.fromkeys(names) if not n.startswith(("torch.", "collections."))]


def _pickle_in(path: Path) -> IO[bytes]:
    if not zipfile.is_zipfile(path):
        return io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        return io.BytesIO(archive.read(name))


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        "the checkpoint file cannot be read",
        found=f"{shown(path)}: {_reason(path, error)}",
        expected="a complete safetensors or torch file",
        fix="copy or save it again, or leave it out: --checkpoints GLOB",
    )


def _reason(path: Path, error: Exception) -> str:
    """What the reader says, without its advice; what a damaged pickle raises says nothing."""
    size = path.stat().st_size if path.exists() else 0
    if size == 0:
        return "it is empty (0 bytes)"
    lines = [line for line in str(error).splitlines() if line.strip()]
    if not lines or not isinstance(error, RuntimeError | OSError | SafetensorError):
        return f"its {size} bytes are no {'safetensors' if _is_safetensors(path) else 'torch'} file"
    return f"{lines[0].partition('. ')[0]} ({size} bytes)"


def _is_safetensors(path: Path) -> bool:
    return path.name.endswith(".safetensors")
