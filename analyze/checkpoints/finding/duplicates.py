"""Copies of one checkpoint: hard links, ``last`` and ``best`` beside the numbered file."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from analyze.checkpoints.checkpoint import Checkpoint, LeftOut
from analyze.checkpoints.naming.file_names import natural_key
from analyze.checkpoints.options import ReadingOptions
from analyze.checkpoints.plain import oddity
from analyze.checkpoints.reading import read_sample, read_weights
from analyze.checkpoints.versions import PLAIN
from analyze.errors import CheckpointError

ALIAS = re.compile(r"(^|[/_.-])(last|latest|best|final|milestone|checkpoint\.pth)", re.IGNORECASE)


def without_duplicates(
    found: list[Checkpoint], reading: ReadingOptions
) -> tuple[list[Checkpoint], list[LeftOut]]:
    """Each checkpoint once; of several copies the one whose name says most stays.

    Equal weights at different known steps are no copies: training may stand still. A checkpoint
    of unknown progress is a copy where it equals exactly one other.

    Cost: three tensors are read of a checkpoint where progress and number of tensors agree with
    those of another, and all of it, once, where those three are equal too.
    """
    kept = _Kept(reading)
    left_out: list[LeftOut] = []
    inodes: dict[tuple[int, int], str] = {}
    for one in sorted(found, key=_preference):
        inode = _inode(one.path)
        if inode in inodes:
            left_out.append(LeftOut(one.name, f"the same file as {inodes[inode]}"))
            continue
        same = [] if one.problem is not None else kept.equal_to(one)
        if len(same) == 1 or (same and _known(one)):
            left_out.append(LeftOut(one.name, f"the same weights as {same[0].name}"))
            continue
        inodes[inode] = one.name
        kept.add(one)
    return kept.checkpoints, left_out


class _Kept:
    """The checkpoints so far, by what copies of them have in common."""

    def __init__(self, reading: ReadingOptions) -> None:
        self.checkpoints: list[Checkpoint] = []
        self._reading = reading
        self._by: dict[tuple[object, ...], list[Checkpoint]] = {}
        self._samples: dict[str, str | None] = {}
        self._wholes: dict[str, str | None] = {}
        self._sampled = 0  # so many of the checkpoints are in _by with their samples

    def add(self, one: Checkpoint) -> None:
        """One that is no copy."""
        self.checkpoints.append(one)
        for kind, value in (("step", one.step), ("epoch", one.epoch)):
            known = None if math.isnan(value) else value
            self._by.setdefault((kind, known), []).append(one)

    def equal_to(self, one: Checkpoint) -> list[Checkpoint]:
        """Those with the same weights, whose progress may be the same."""
        rivals = [
            o for o in self._near(one)
            if o.problem is None and o.tensors == one.tensors and _same_progress(one, o)
        ]  # fmt: skip
        sample = self._sample(one) if rivals else None
        rivals = [o for o in rivals if sample is not None and self._sample(o) == sample]
        whole = self._whole(one) if rivals else None
        return [o for o in rivals if whole is not None and self._whole(o) == whole]

    def _near(self, one: Checkpoint) -> list[Checkpoint]:
        """Those that may be rivals, without a look at all."""
        for kind, value in (("step", one.step), ("epoch", one.epoch)):
            if not math.isnan(value):
                return [*self._by.get((kind, value), []), *self._by.get((kind, None), [])]
        for other in self.checkpoints[self._sampled :]:
            key = (other.tensors, self._sample(other) if other.problem is None else None)
            self._by.setdefault(key, []).append(other)
        self._sampled = len(self.checkpoints)
        return self._by.get((one.tensors, self._sample(one)), [])

    def _sample(self, one: Checkpoint) -> str | None:
        if one.name not in self._samples:
            self._samples[one.name] = _digest(one, self._reading, read_sample)
        return self._samples[one.name]

    def _whole(self, one: Checkpoint) -> str | None:
        if one.name not in self._wholes:
            self._wholes[one.name] = _digest(one, self._reading, read_weights)
        return self._wholes[one.name]


def _digest(
    one: Checkpoint, reading: ReadingOptions, read: Callable[[Path, ReadingOptions], dict[str, Any]]
) -> str | None:
    """Hash of all values and their names without the common prefix; None where there is none."""
    found = hashlib.sha256()
    try:
        values = read(one.path, reading)
    except CheckpointError:  # will be told when it is measured
        return None
    for name in sorted(values):
        value = values[name]
        form = _tensor_form(value) if isinstance(value, Tensor) else _thing_form(value)
        if form is None:
            return None
        # Names are quoted: they could hold what looks like the next one.
        found.update(f"{name.removeprefix(one.prefix)!r} {form}\n".encode())
        if isinstance(value, Tensor):
            plain = value.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
            found.update(plain.view(torch.uint8).numpy().data)
    return found.hexdigest()


def _tensor_form(tensor: Tensor) -> str | None:
    """Type and shape; None where its values cannot be compared."""
    if oddity(tensor):
        return None
    # A tensor of stride 0 can claim any size; looking at it would never end.
    most = max(tensor.untyped_storage().nbytes(), 1 << 20)
    if tensor.numel() * tensor.element_size() > most:
        return None
    return f"{tensor.dtype} {tensor.shape}"


def _thing_form(value: Any) -> str | None:
    """An extra state of numbers and text, or a dictionary of such; None of others."""
    if type(value) is not dict:
        return _scalar_form(value)
    scalars = [(_scalar_form(key), _scalar_form(inner)) for key, inner in value.items()]
    forms = [f"{a}: {b}" for a, b in scalars if a and b]
    return str(sorted(forms)) if len(forms) == len(value) else None


def _scalar_form(value: Any) -> str | None:
    if type(value) is int:
        return f"int {value:x}"  # in decimals Python refuses the longest
    return f"{type(value).__name__} {value!r}" if value is None or type(value) in PLAIN else None


def _preference(one: Checkpoint) -> tuple[int, bool, tuple[tuple[int, int, str], ...]]:
    unknown = math.isnan(one.step) + math.isnan(one.epoch)
    return unknown, bool(ALIAS.search(one.name)), natural_key(one.name)


def _known(one: Checkpoint) -> bool:
    return not (math.isnan(one.step) and math.isnan(one.epoch))


def _inode(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _same_progress(one: Checkpoint, other: Checkpoint) -> bool:
    """Not at different steps, epochs or times, as far as they are known of both."""
    pairs = ((one.step, other.step), (one.epoch, other.epoch), (one.order, other.order))
    return all(math.isnan(a) or math.isnan(b) or a == b for a, b in pairs)
