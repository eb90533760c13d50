"""A safetensors file; the library checks its offsets and the size of its header."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from analyze.checkpoints.damage import damaged
from analyze.checkpoints.layouts.opened import Opened
from analyze.checkpoints.state import Part, Stored


def open_safetensors(path: Path) -> Opened:
    """The names in the file; tensors are read when they are asked for.

    Raises:
        CheckpointError: the file is damaged.
    """
    with _file(path) as file:
        names = list(file.keys())

    def load(part: Part) -> dict[str, Tensor]:
        with _file(path) as file:
            return {
                name: file.get_tensor(stored.key)
                for name, stored in part.tensors.items()
                if isinstance(stored, Stored)
            }

    return Opened("safetensors", {name: Stored(name) for name in names}, (path,), load)


@contextmanager
def _file(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except Exception as error:  # the reader raises its own type, OSError and more
        raise damaged(path, error) from error
