"""Copies of one checkpoint: hard links, ``last`` and ``best`` beside the numbered file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from analyze.checkpoints.checkpoint import Checkpoint, LeftOut
from analyze.checkpoints.naming import natural_key
from analyze.checkpoints.options import Reading
from analyze.checkpoints.plain import oddity
from analyze.checkpoints.reading import read_weights
from analyze.checkpoints.versions import PLAIN
from analyze.errors import CheckpointError

ALIAS = re.compile(r"(^|[/_.-])(last|latest|best|final|milestone|checkpoint\.pth)", re.IGNORECASE)


def without_duplicates(
    found: list[Checkpoint], reading: Reading
) -> tuple[list[Checkpoint], list[LeftOut]]:
    """Each checkpoint once; of several copies the one whose name says most stays.

    Equal weights at different known steps are no copies: training may stand still. A checkpoint
    of unknown progress is a copy where it equals exactly one other.

    Cost: tensors are compared only where progress and number of tensors agree, up to the first
    that differs.
    """
    kept: list[Checkpoint] = []
    left_out: list[LeftOut] = []
    inodes: dict[tuple[int, int], str] = {}
    for one in sorted(found, key=_preference):
        inode = _inode(one.path)
        if inode in inodes:
            left_out.append(LeftOut(one.name, f"the same file as {inodes[inode]}"))
            continue
        same = [] if one.problem is not None else _equal_to(one, kept, reading)
        if len(same) == 1 or (same and _known(one)):
            left_out.append(LeftOut(one.name, f"the same weights as {same[0].name}"))
            continue
        inodes[inode] = one.name
        kept.append(one)
    return kept, left_out


def _preference(one: Checkpoint) -> tuple[int, bool, tuple[tuple[int, int, str], ...]]:
    unknown = math.isnan(one.step) + math.isnan(one.epoch)
    return unknown, bool(ALIAS.search(one.name)), natural_key(one.name)


def _known(one: Checkpoint) -> bool:
    return not (math.isnan(one.step) and math.isnan(one.epoch))


def _inode(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _equal_to(one: Checkpoint, others: Iterable[Checkpoint], reading: Reading) -> list[Checkpoint]:
    rivals = [
        o for o in others
        if o.problem is None and o.tensors == one.tensors and _same_progress(one, o)
    ]  # fmt: skip
    if not rivals:
        return []
    try:
        weights = read_weights(one.path, reading)
        return [o for o in rivals if _equal(weights, read_weights(o.path, reading), one, o)]
    except CheckpointError:  # will be told when it is measured
        return []


def _same_progress(one: Checkpoint, other: Checkpoint) -> bool:
    """Not at different steps, epochs or times, as far as they are known of both."""
    pairs = ((one.step, other.step), (one.epoch, other.epoch), (one.order, other.order))
    return all(math.isnan(a) or math.isnan(b) or a == b for a, b in pairs)


def _equal(a: dict[str, Any], b: dict[str, Any], one: Checkpoint, other: Checkpoint) -> bool:
    """All tensors the same but for the common prefix of their names."""
    a, b = ({k.removeprefix(c.prefix): t for k, t in w.items()}
            for w, c in ((a, one), (b, other)))  # fmt: skip
    return a.keys() == b.keys() and all(_same_values(a[name], b[name]) for name in a)


def _same_values(a: Any, b: Any) -> bool:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):  # extra states
        return _same_things(a, b)
    if oddity(a) or oddity(b) or (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    # A tensor of stride 0 can claim any size; comparing it would never end.
    if a.numel() * a.element_size() > max(a.untyped_storage().nbytes(), 1 << 20):
        return False
    return torch.equal(a, b)


def _same_things(a: Any, b: Any) -> bool:
    """Numbers and text, and dictionaries of such; others could be compared without an end."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same_scalars(a[key], b[key]) for key in a)
    return _same_scalars(a, b)


def _same_scalars(a: Any, b: Any) -> bool:
    return type(a) is type(b) and (a is None or type(a) in PLAIN) and bool(a == b)
