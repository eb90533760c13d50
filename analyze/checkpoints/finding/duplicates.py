"""Copies of one checkpoint: hard links, ``last`` and ``best`` beside the numbered file."""

from __future__ import annotations

import math
import re
from pathlib import Path

from analyze.checkpoints.checkpoint import Checkpoint, LeftOut
from analyze.checkpoints.naming.file_names import natural_key
from analyze.checkpoints.options import ReadingOptions
from analyze.checkpoints.reading import Read, read_sample, read_weights

ALIAS = re.compile(r"(^|[/_.-])(last|latest|best|final|milestone|checkpoint\.pth)", re.IGNORECASE)


def without_duplicates(
    checkpoints: list[Checkpoint], reading: ReadingOptions
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
    for checkpoint in sorted(checkpoints, key=_preference):
        name, inode = checkpoint.name, _inode(checkpoint.path)
        if inode in inodes:
            left_out.append(LeftOut(name, f"the same file as {inodes[inode]}"))
            continue
        equal = kept.equal_to(checkpoint) if checkpoint.problem is None else []
        if len(equal) == 1 or (equal and _unknown(checkpoint) < 2):
            left_out.append(LeftOut(name, f"the same weights as {equal[0].name}"))
            continue
        inodes[inode] = name
        kept.add(checkpoint)
    return kept.checkpoints, left_out


class _Kept:
    """The checkpoints kept so far, by the properties that a copy shares."""

    def __init__(self, reading: ReadingOptions) -> None:
        self.checkpoints: list[Checkpoint] = []
        self._reading = reading
        self._by: dict[tuple[object, ...], list[Checkpoint]] = {}
        self._digests: dict[tuple[str, Read], str | None] = {}
        self._sampled = 0  # number of checkpoints that are in _by with their samples

    def add(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint that is no copy."""
        self.checkpoints.append(checkpoint)
        for kind, value in (("step", checkpoint.step), ("epoch", checkpoint.epoch)):
            known = None if math.isnan(value) else value
            self._by.setdefault((kind, known), []).append(checkpoint)

    def equal_to(self, checkpoint: Checkpoint) -> list[Checkpoint]:
        """The kept checkpoints with the same weights, at what may be the same position."""
        rivals = [
            rival for rival in self._near(checkpoint)
            if rival.problem is None and rival.tensors == checkpoint.tensors
            and _same_position(checkpoint, rival)
        ]  # fmt: skip
        for read in (read_sample, read_weights):
            digest = self._digest(checkpoint, read) if rivals else None
            rivals = [r for r in rivals if digest is not None and self._digest(r, read) == digest]
        return rivals

    def _near(self, checkpoint: Checkpoint) -> list[Checkpoint]:
        """The kept checkpoints that may be at the same position, without a look at all."""
        for kind, value in (("step", checkpoint.step), ("epoch", checkpoint.epoch)):
            if not math.isnan(value):
                return [*self._by.get((kind, value), []), *self._by.get((kind, None), [])]
        for other in self.checkpoints[self._sampled :]:
            digest = self._digest(other, read_sample) if other.problem is None else None
            self._by.setdefault((other.tensors, digest), []).append(other)
        self._sampled = len(self.checkpoints)
        return self._by.get((checkpoint.tensors, self._digest(checkpoint, read_sample)), [])

    def _digest(self, checkpoint: Checkpoint, read: Read) -> str | None:
        key = checkpoint.name, read
        if key not in self._digests:
            from analyze.checkpoints.finding.digests import digest_of  # imports torch

            self._digests[key] = digest_of(checkpoint, self._reading, read)
        return self._digests[key]


def _preference(checkpoint: Checkpoint) -> tuple[int, bool, tuple[tuple[int, int, str], ...]]:
    alias = bool(ALIAS.search(checkpoint.name))
    return _unknown(checkpoint), alias, natural_key(checkpoint.name)


def _unknown(checkpoint: Checkpoint) -> int:
    """How many of a checkpoint's step and epoch are not known."""
    return math.isnan(checkpoint.step) + math.isnan(checkpoint.epoch)


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _same_position(a: Checkpoint, b: Checkpoint) -> bool:
    """Whether no step, epoch or time that is known of both checkpoints differs."""
    pairs = ((a.step, b.step), (a.epoch, b.epoch), (a.order, b.order))
    return all(math.isnan(x) or math.isnan(y) or x == y for x, y in pairs)
