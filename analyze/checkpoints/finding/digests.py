"""Hashes of the tensors of a checkpoint, by which copies of one are found."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.checkpoints.odd_tensors import oddity
from analyze.checkpoints.options import ReadingOptions
from analyze.checkpoints.reading import Read
from analyze.checkpoints.versions import PLAIN
from analyze.errors import CheckpointError


def digest_of(checkpoint: Checkpoint, reading: ReadingOptions, read: Read) -> str | None:
    """Hash of names, without the common prefix, and values; None where they cannot be compared."""
    digest = hashlib.sha256()
    try:
        values = read(checkpoint.path, reading)
    except CheckpointError:  # the measurement reports it
        return None
    for name, value in sorted(values.items()):
        form = _tensor_form(value) if isinstance(value, Tensor) else _thing_form(value)
        if form is None:
            return None
        # Names are quoted: they could hold what looks like the next one.
        digest.update(f"{name.removeprefix(checkpoint.prefix)!r} {form}\n".encode())
        if isinstance(value, Tensor):
            plain = value.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tensor_form(tensor: Tensor) -> str | None:
    """Type and shape of a tensor; None where its values cannot be compared."""
    if oddity(tensor):
        return None
    # A tensor of stride 0 can claim any size; looking at it would never end.
    most = max(tensor.untyped_storage().nbytes(), 1 << 20)
    if tensor.numel() * tensor.element_size() > most:
        return None
    return f"{tensor.dtype} {tensor.shape}"


def _thing_form(value: Any) -> str | None:
    """An extra state of numbers and text, or a dictionary of such, as text; else None."""
    if type(value) is not dict:
        return _scalar_form(value)
    scalars = [(_scalar_form(key), _scalar_form(inner)) for key, inner in value.items()]
    forms = [f"{a}: {b}" for a, b in scalars if a and b]
    return str(sorted(forms)) if len(forms) == len(value) else None


def _scalar_form(value: Any) -> str | None:
    if type(value) is int:
        return f"int {value:x}"  # in decimals Python refuses the longest
    return f"{type(value).__name__} {value!r}" if value is None or type(value) in PLAIN else None
