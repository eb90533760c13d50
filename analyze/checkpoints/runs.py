"""Whether checkpoints are of one run; several are never read as one series."""

from __future__ import annotations

import glob
import math
import re
import shlex
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import PurePosixPath

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.checkpoints.naming import PROGRESS_PATTERNS
from analyze.errors import InputError, listed

Number = Callable[[Checkpoint], float]


def several_runs(found: Sequence[Checkpoint]) -> InputError | None:
    """What speaks against one run, as the error that a measurement of all of them is; else None.

    Two checkpoints at one step in different directories, or directories whose steps overlap, as
    Lightning's ``version_0`` and ``version_1``. A run that was resumed in another directory goes on
    where the first one ended, and is one run. Epochs count where steps are not known.
    """
    series: dict[str, list[Checkpoint]] = {}
    for one in found:
        if one.problem is None:
            series.setdefault(pattern(one.name), []).append(one)
    for name, number in (("step", _step), ("epoch", _epoch)):
        known = {p: [c for c in own if not math.isnan(number(c))] for p, own in series.items()}
        for a, b in combinations(sorted(filter(known.get, known)), 2):
            if clash := _clash(known[a], known[b], name, number):
                return _mixed(clash, [p for p in sorted(series) if known[p]])
    return None


def pattern(name: str) -> str:
    """The glob that finds the series of a checkpoint: its directory, or one for each step.

    ``version_0/*`` of ``version_0/step_5.pt``; ``checkpoint-*/model.safetensors`` of
    ``checkpoint-500/model.safetensors``.
    """
    *folders, file = PurePosixPath(name).parts
    starred = [_starred(part) for part in folders]
    by_folder = any(a != glob.escape(b) for a, b in zip(starred, folders, strict=True))
    return "/".join([*starred, _starred(file) if by_folder else "*"])


def _starred(part: str) -> str:
    """A part of a path with stars for steps, epochs and tokens, as a glob."""
    spans = [match.span(1) for p in PROGRESS_PATTERNS for match in p.finditer(part)]
    if part.isdecimal():
        spans = [(0, len(part))]
    text, end = "", 0
    for start, stop in sorted(spans):
        if start >= end:
            text, end = f"{text}{glob.escape(part[end:start])}*", stop
    return re.sub(r"\*+", "*", text + glob.escape(part[end:]))


def _step(one: Checkpoint) -> float:
    return one.step


def _epoch(one: Checkpoint) -> float:
    return one.epoch if math.isnan(one.step) else math.nan


def _clash(a: list[Checkpoint], b: list[Checkpoint], name: str, number: Number) -> str:
    """Where two series are at the same time; a single checkpoint may be one of the other's."""
    first, second = ({number(c): c.name for c in own} for own in (a, b))
    if shared := sorted(first.keys() & second.keys()):
        return f"{name} {shared[0]:g} in {first[shared[0]]} and in {second[shared[0]]}"
    overlap = min(first) < max(second) and min(second) < max(first)
    if min(len(first), len(second)) < 2 or not overlap:
        return ""
    ranges = [
        f"{name}s {min(n):g} to {max(n):g} in {PurePosixPath(own[0].name).parent}"
        for n, own in ((first, a), (second, b))
    ]
    return " and ".join(ranges)


def _mixed(found: str, patterns: list[str]) -> InputError:
    choices = [f"--checkpoints {shlex.quote(p)}" for p in patterns]
    return InputError(
        "the checkpoints are of several runs",
        found=found,
        expected="those of one run, whose steps follow one another",
        fix=f"choose one: {listed(choices, 4)}; or say what is one run: --manifest FILE.csv",
    )
