"""A file of ``torch.save``, as most trainers write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analyze.checkpoints.layouts.layout import Layout, Opened
from analyze.checkpoints.state import Stored, Weights
from analyze.checkpoints.torch_files.pickles import dictionary_in, open_values, values_read


def open_torch(path: Path, trust: bool) -> Opened:
    """Open a file; its tensors are read later. Raises as ``open_values`` and ``dictionary_in``."""
    opened = open_values(path, trust=trust)
    state = dictionary_in(opened.content, path)

    def load(weights: Weights) -> dict[str, Any]:
        tensors = {name: t for name, t in weights.tensors.items() if not isinstance(t, Stored)}
        return values_read(opened, {**tensors, **weights.extra})

    return Opened("torch, trusted pickle" if opened.trusted else "torch", state, (path,), load)


LAYOUT = Layout(
    "torch",
    "a file of `torch.save`: `*.pt`, `*.pth`, `*.bin`, `*.ckpt`, `*.pth.tar`",
    open_torch,
    endings=(".pt", ".pth", ".bin", ".ckpt", ".pth.tar"),
)
