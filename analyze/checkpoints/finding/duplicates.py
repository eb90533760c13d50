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
        self._split: dict[tuple[object, ...], int] = {}  # how many of a group are in its parts
        self._digests: dict[tuple[str, Read], str | None] = {}

    def add(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint that is no copy."""
        self.checkpoints.append(checkpoint)
        if checkpoint.problem is not None:
            return
        self._by.setdefault(("any", None, checkpoint.tensors), []).append(checkpoint)
        for kind, value in (("step", checkpoint.step), ("epoch", checkpoint.epoch)):
            known = None if math.isnan(value) else value
            self._by.setdefault((kind, known, checkpoint.tensors), []).append(checkpoint)

    def equal_to(self, checkpoint: Checkpoint) -> list[Checkpoint]:
        """The kept checkpoints with the same weights, at what may be the same position."""
        places: list[tuple[object, ...]] = [("any", None)]
        for kind, value in (("epoch", checkpoint.epoch), ("step", checkpoint.step)):
            if not math.isnan(value):
                places = [(kind, value), (kind, None)]
        return [
            rival
            for place in places
            for rival in self._alike((*place, checkpoint.tensors), checkpoint)
            if _same_position(checkpoint, rival)
        ]

    def _alike(
        self, place: tuple[object, ...], checkpoint: Checkpoint,
        reads: tuple[Read, ...] = (read_sample, read_weights),
    ) -> list[Checkpoint]:  # fmt: skip
        """Those of a group with the same digests; it is split by these, as any number may be in it.

        A comparison with each of a group would take the square of their number.
        """
        members = self._by.get(place, [])
        if not members or not reads:
            return members
        for other in members[self._split.get(place, 0) :]:
            self._by.setdefault((*place, self._digest(other, reads[0])), []).append(other)
        self._split[place] = len(members)
        digest = self._digest(checkpoint, reads[0])
        return [] if digest is None else self._alike((*place, digest), checkpoint, reads[1:])

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
