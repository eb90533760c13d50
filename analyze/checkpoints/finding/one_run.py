"""Whether checkpoints are of one run; several are never read as one series."""

from __future__ import annotations

import fnmatch
import glob
import math
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice
from operator import attrgetter, itemgetter
from pathlib import PurePosixPath

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.checkpoints.naming.numerals import number_in
from analyze.checkpoints.naming.path_numbers import ENDING, metric_spans, progress_spans
from analyze.errors import InputError, listed

Number = Callable[[Checkpoint], float]

# Words that tell runs of one model apart; a run that goes on elsewhere keeps its fold and seed.
RUN = re.compile(r"(?<![A-Za-z])(k?fold|seed|trial|split)[=_-]?([0-9]+)(?![0-9])", re.IGNORECASE)
# Parts of one training, which may count their steps anew.
STAGE = re.compile(r"(?<![A-Za-z])(stage|phase)[=_-]?([0-9]+)(?![0-9])", re.IGNORECASE)
# A file that is kept beside those of a series, of the same run.
ONE_OF_A_RUN = re.compile(
    r"(?<![A-Za-z])(?:best|last|latest|final|top|newest|interrupt(?:ed)?|resume|emergency|crash"
    r"|preempt(?:ed)?|backup|tmp|temp)(?![a-z])", re.IGNORECASE
)  # fmt: skip
MOST_CHOICES = 20  # globs that are tried, each on all names; a message shows fewer


def several_runs(checkpoints: Sequence[Checkpoint]) -> InputError | None:
    """The error for checkpoints of several runs; None where they may be of one.

    Several runs show by names of different folds or seeds; stages that count their steps anew; two
    checkpoints at one step in different directories; directories whose steps overlap, as those of
    Lightning's ``version_0`` and ``version_1``; epochs that begin again in another directory; files
    of one directory, two or more of each name, that are at one step and differ in what is no step:
    ``adam_1.pt`` and ``sgd_1.pt``, ``model_1.pt`` and ``model_1_ema.pt``. A run that was resumed in
    another directory goes on where the first one ended, and is one run.
    """
    series: dict[str, list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        if checkpoint.problem is None:
            series.setdefault(pattern(checkpoint), []).append(checkpoint)
    firsts = [members[0] for members in series.values()]
    runs = {run: first.name for first in firsts if (run := _run_of(first))}
    if len(runs) > 1:
        pairs = [f"{' '.join(run)} in {name}" for run, name in sorted(runs.items())[:2]]
        return _mixed(" and ".join(pairs), series)
    for name, number in (
        ("step", attrgetter("step")),
        ("epoch", _epoch),
        ("epoch", _epoch_beside_step),
    ):
        known = _numbered(series, number)
        beside_steps = number is _epoch_beside_step
        for a, b in _meeting(known, beside_steps):
            clash = _clash(known[a], known[b], name)
            if clash and not (beside_steps and _goes_on((known[a], known[b]))):
                return _mixed(clash, {p: series[p] for p in known})
    return _several_in_one_directory(series)


def _several_in_one_directory(series: Mapping[str, list[Checkpoint]]) -> InputError | None:
    """The error for files of one directory whose names, but for the steps, are of several runs."""
    for members in series.values():
        named: dict[str, list[Checkpoint]] = {}
        for checkpoint in members:
            if not ONE_OF_A_RUN.search(PurePosixPath(checkpoint.name).name):
                named.setdefault(_by_name(checkpoint), []).append(checkpoint)
        for name, number in (("step", attrgetter("step")), ("epoch", _epoch)):
            known = _numbered(named, number)
            several = {p: s for p, s in known.items() if len(s.names) > 1}
            first: dict[float, str] = {}
            for numbered in several.values():
                for value, checkpoint_name in numbered.names.items():
                    other = first.setdefault(value, checkpoint_name)
                    if other != checkpoint_name:
                        found = f"{name} {value:.15g} in {other} and in {checkpoint_name}"
                        return _mixed(found, {p: named[p] for p in several})
    return None


def taking_turns(checkpoints: Sequence[Checkpoint]) -> str:
    """A warning where files of two names take turns in one directory, without a common step."""
    named: dict[str, list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        if not ONE_OF_A_RUN.search(PurePosixPath(checkpoint.name).name):
            named.setdefault(_by_name(checkpoint), []).append(checkpoint)
    folders: dict[tuple[str, ...], dict[str, _Numbered]] = {}
    for p, numbered in _numbered(named, attrgetter("step")).items():
        if len(numbered.names) > 1:
            folders.setdefault(PurePosixPath(p).parts[:-1], {})[p] = numbered
    for of_folder in folders.values():
        together = next((t for t in _overlapping(of_folder) if len(t) > 1), [])
        steps = [step for p in together for step in of_folder[p].names]
        if together and len(set(steps)) == len(steps):
            return (
                f"{listed(sorted(together), 3)} take turns in their steps; two runs may be mixed: "
                "--checkpoints GLOB takes one"
            )
    return ""


def _by_name(checkpoint: Checkpoint) -> str:
    """The glob that finds checkpoints of this name at other steps: ``adam_*.pt``."""
    *folders, file = PurePosixPath(checkpoint.name).parts
    where = pattern(checkpoint).rpartition("/")[0] if folders else ""
    spans = [*progress_spans(file), *metric_spans(file)]
    if not progress_spans(file):
        numbers = [m for m in re.finditer("[0-9]+", ENDING.sub("", file))
                   if number_in(m[0]) in (checkpoint.step, checkpoint.epoch)]  # fmt: skip
        spans += [m.span() for m in numbers[-1:]]
    return f"{where}/{_with_stars(file, spans)}" if where else _with_stars(file, spans)


@dataclass(frozen=True)
class _Numbered:
    """The checkpoints of a series that have a number, worked out once for all comparisons."""

    members: list[Checkpoint]
    names: dict[float, str]  # of the checkpoints by their number
    first: float
    last: float


def _numbered(series: Mapping[str, list[Checkpoint]], number: Number) -> dict[str, _Numbered]:
    """The series in which some checkpoint has the number."""
    known = {}
    for p, all_members in series.items():
        members = [c for c in all_members if not math.isnan(number(c))]
        if members:
            names = {number(c): c.name for c in members}
            known[p] = _Numbered(members, names, min(names), max(names))
    return known


def _meeting(known: Mapping[str, _Numbered], beside_steps: bool) -> Iterator[tuple[str, str]]:
    """Pairs of series whose numbers overlap, or that are stages: no others can clash.

    Any number of directories may follow one another; to look at all pairs would take the square.
    So would pairs within many directories of one epoch whose steps follow one another.
    """
    for together in _overlapping(known):
        if beside_steps and _goes_on([known[p] for p in together]):
            continue
        for place, a in enumerate(together):
            for b in islice(together, place + 1, None):
                if known[b].first > known[a].last:
                    break
                yield min(a, b), max(a, b)
    yield from _stages_that_begin_again(known)


def _overlapping(known: Mapping[str, _Numbered]) -> Iterator[list[str]]:
    """The series in groups that no number keeps apart, each in the order of its numbers."""
    together: list[str] = []
    last = math.inf
    for p in sorted(known, key=lambda p: (known[p].first, known[p].last, p)):
        if together and known[p].first > last:
            yield together
            together = []
        last = max(last, known[p].last) if together else known[p].last
        together.append(p)
    if together:
        yield together


def _stages_that_begin_again(known: Mapping[str, _Numbered]) -> Iterator[tuple[str, str]]:
    """For each stage of a training the earlier one that went furthest, where that is further."""
    order = sorted((_stage(s), p) for p, s in known.items() if _stage(s)[1])
    furthest: dict[tuple[str, ...], str] = {}
    for (words, _), stages in groupby(order, key=itemgetter(0)):
        now = [p for _, p in stages]
        before = furthest.get(words)
        if before is not None:
            earliest = min(now, key=lambda p: known[p].first)
            if known[before].last > known[earliest].first:
                yield before, earliest
            now.append(before)
        furthest[words] = max(now, key=lambda p: known[p].last)


def _stage(series: _Numbered) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The words and numbers of the stages in a series' name."""
    found = STAGE.findall(series.members[0].name)
    return tuple(word for word, _ in found), tuple(int(digits) for _, digits in found)


def pattern(checkpoint: Checkpoint) -> str:
    """The glob that finds the series of a checkpoint: its directory, or one for each step.

    ``version_0/*`` of ``version_0/step_5.pt``; ``checkpoint-*/model.safetensors`` of
    ``checkpoint-500/model.safetensors``; ``fold0_epoch_*`` of ``fold0_epoch_1.pt``.
    """
    *folders, file = PurePosixPath(checkpoint.name).parts
    starred = [_starred(part, (checkpoint.step, checkpoint.epoch)) for part in folders]
    by_folder = any(a != glob.escape(b) for a, b in zip(starred, folders, strict=True))
    by_name = RUN.search(file) or STAGE.search(file)
    if by_name and not progress_spans(file):
        return "/".join([*starred, _starred_numbers(file)])
    return "/".join([*starred, _starred(file) if by_folder or by_name else "*"])


def _run_of(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The folds and seeds in a checkpoint's name: ``fold 0``."""
    return tuple(f"{word.lower()} {int(number)}" for word, number in RUN.findall(checkpoint.name))


def _starred_numbers(file: str) -> str:
    """``seed0_*.pt`` of ``seed0_10.pt``, whose steps have no label."""
    apart = [m.span() for words in (RUN, STAGE) for m in words.finditer(file)]
    spans = [m.span() for m in re.finditer("[0-9]+", ENDING.sub("", file))
             if not any(start <= m.start() < stop for start, stop in apart)]  # fmt: skip
    return _with_stars(file, spans)


def _starred(part: str, progress: tuple[float, ...] = ()) -> str:
    """A part of a path with stars for steps, epochs and tokens, as a glob.

    A part that is a number is one of these only where it is the step or the epoch.
    """
    spans = progress_spans(part)
    if number_in(part) in progress:
        spans = [(0, len(part))]
    return _with_stars(part, spans)


def _with_stars(part: str, spans: Sequence[tuple[int, int]]) -> str:
    """A part of a path as a glob, with stars in place of these spans."""
    text, end = "", 0
    for start, stop in sorted(spans):
        if start >= end:
            text, end = f"{text}{glob.escape(part[end:start])}*", stop
    return re.sub(r"\*+", "*", text + glob.escape(part[end:]))


def _epoch(checkpoint: Checkpoint) -> float:
    return checkpoint.epoch if math.isnan(checkpoint.step) else math.nan


def _epoch_beside_step(checkpoint: Checkpoint) -> float:
    return math.nan if math.isnan(checkpoint.step) else checkpoint.epoch


def _goes_on(series: Sequence[_Numbered]) -> bool:
    """Whether the epochs of series rise with their steps, as in a run that was resumed."""
    members = chain.from_iterable(s.members for s in series)
    epochs = [c.epoch for c in sorted(members, key=lambda c: (c.step, c.epoch))]
    return epochs == sorted(epochs)


def _clash(a: _Numbered, b: _Numbered, name: str) -> str:
    """How two series clash in steps or epochs; a single checkpoint in ``best/`` does not."""
    if shared := sorted(a.names.keys() & b.names.keys()):
        return f"{name} {shared[0]:.15g} in {a.names[shared[0]]} and in {b.names[shared[0]]}"
    overlap = a.first < b.last and b.first < a.last
    few = min(len(a.names), len(b.names)) < 2
    alone = few and _unnumbered(a.members[0]) != _unnumbered(b.members[0])
    if not _begins_again(a, b) and (alone or not overlap):
        return ""
    ranges = [
        f"{name}s {s.first:.15g} to {s.last:.15g} in {_place(s.members[0])}" for s in (a, b)
    ]  # fmt: skip
    return " and ".join(ranges)


def _unnumbered(checkpoint: Checkpoint) -> str:
    """The folder of a series without numbers: ``version_1`` is a run as ``version_2`` is."""
    return re.sub(r"\d+", "#", str(PurePosixPath(pattern(checkpoint)).parent))


def _begins_again(a: _Numbered, b: _Numbered) -> bool:
    """Whether the later stage of a training has earlier steps, as it counts them anew."""
    (words, first), (others, second) = _stage(a), _stage(b)
    before, after = (a, b) if first < second else (b, a)
    return words == others and first != second and before.last > after.first


def _place(checkpoint: Checkpoint) -> str:
    """The folder of a checkpoint's series, or the glob of its files at the top level."""
    folder = str(PurePosixPath(checkpoint.name).parent)
    return pattern(checkpoint) if folder == "." else folder


def _mixed(found: str, series: Mapping[str, list[Checkpoint]]) -> InputError:
    globs = (_glob(p, series) for p in sorted(series)[:MOST_CHOICES])
    choices = [f"--checkpoints {shlex.quote(g)}" for g in globs if g]
    return InputError(
        "the checkpoints are of several runs",
        found=found,
        expected="those of one run, whose steps follow one another",
        fix=f"choose one: {listed(choices, 4) or '--checkpoints GLOB'}; or say what is one run: "
        "--manifest FILE.csv",
    )


def _glob(pattern: str, series: Mapping[str, list[Checkpoint]]) -> str:
    """A glob of this series alone; empty where none keeps files apart from folders beside them."""
    members = {c.name for c in series[pattern]}
    names = [c.name for others in series.values() for c in others]
    begin = glob.escape(os.path.commonprefix(sorted(members)))  # noqa: RUF071 - characters are meant
    numbered = re.sub(r"\*(?=[^*/]*$)", "*[0-9]", pattern)  # model_*.pt finds model_1_ema.pt, too
    fitting = (g for g in (pattern, numbered, f"{begin}*")
               if {n for n in names if fnmatch.fnmatchcase(n, g)} == members)  # fmt: skip
    return next(fitting, "")
