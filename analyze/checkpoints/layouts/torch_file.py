"""A file of ``torch.save``, as most trainers write it."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from analyze.checkpoints.layouts.opened import Opened
from analyze.checkpoints.pickles import load_torch
from analyze.checkpoints.state import Part


def open_torch(path: Path, *, trust: bool = False) -> Opened:
    """The dictionary in the file, its tensors mapped.

    Raises:
        CheckpointError: see ``load_torch``.
    """
    loaded, trusted = load_torch(path, trust=trust)
    return Opened("torch, trusted pickle" if trusted else "torch", loaded, (path,), _tensors)


def _tensors(part: Part) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in part.tensors.items() if isinstance(tensor, Tensor)}
