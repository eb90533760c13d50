"""Find the checkpoints of a run, decide on every file, and put them in order."""

from __future__ import annotations

import fnmatch
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from analyze.checkpoints.checkpoint import NAN, Checkpoint, LeftOut
from analyze.checkpoints.finding.duplicates import without_duplicates
from analyze.checkpoints.finding.manifest import Entry, read_manifest
from analyze.checkpoints.finding.series import (
    in_order,
    one_kind_of_weights,
    with_epochs_recognised,
    with_steps_of_epochs,
)
from analyze.checkpoints.finding.tree import Tree, look_through
from analyze.checkpoints.layouts.foreign import SUFFIXES
from analyze.checkpoints.naming.file_names import WEAK_RULES, Named, read_names
from analyze.checkpoints.naming.numerals import number_in
from analyze.checkpoints.naming.progress import Progress
from analyze.checkpoints.options import Reading
from analyze.checkpoints.reading import PLAIN, Content, read_content
from analyze.checkpoints.state import key_option, told
from analyze.errors import CheckpointError, InputError, counted, listed

SLICE = re.compile(r"^(-?\d*):(-?\d*)(?::(-?\d*))?$")
# How a number goes on that ended too early: the k of 10k.
CUT = re.compile(r"(?<=[0-9])(?:(?:,[0-9]{3}|\.[0-9]+)*[kKmMB]|[eE]\+?[0-9]+)(?![A-Za-z0-9])")
RECENT = 60.0  # seconds since a file was changed within which it may still be being written
PAUSE = 0.2  # seconds to see whether it is


class NoCheckpointsError(InputError):
    """There is no checkpoint, or none is chosen: of a training that goes on, none yet."""


@dataclass(frozen=True)
class Found:
    """The checkpoints of a run in order, and what else is there."""

    checkpoints: list[Checkpoint]
    left_out: list[LeftOut]


def find_checkpoints(
    run: Path, exclude: Iterable[Path] = (), reading: Reading = PLAIN
) -> list[Checkpoint]:
    """The checkpoints below a run's directory, in order of step, then epoch, then name.

    Args:
        run: A directory, or one checkpoint file.
        exclude: Files that are something else: the probe file.
        reading: What the user chose.

    Raises:
        InputError: there is no such directory, or a broken manifest.
        NoCheckpointsError: there is no checkpoint in it.
    """
    return find(run, exclude, reading).checkpoints


def find(run: Path, exclude: Iterable[Path] = (), reading: Reading = PLAIN) -> Found:
    """As ``find_checkpoints``, with the decision on everything else that is there.

    Cost: every candidate is opened; tensors are read only to compare copies.
    """
    if not run.exists():
        raise InputError(
            "the run is missing",
            found=f"no directory {run}",
            expected="a directory of checkpoints",
            fix="give the directory that your trainer saved to: analyze scan RUN",
        )
    tree = look_through(run, exclude)
    entries = {}
    if reading.manifest is not None:
        entries = {e.path: e for e in read_manifest(Path(reading.manifest), tree.root)}
        tree = _listed_only(tree, entries)
    found, none = _examined(tree, entries, reading)
    found, growing = _without_growing(found)
    found = with_steps_of_epochs(with_epochs_recognised(found))
    found, copies = without_duplicates(found, reading)
    left_out = [*tree.left_out, *none, *growing, *copies]
    if not found:
        raise _nothing(run, tree, left_out)
    found = one_kind_of_weights(found, reading)
    return Found(in_order(found), sorted(left_out, key=lambda one: one.name))


def select(checkpoints: list[Checkpoint], selection: str) -> list[Checkpoint]:
    """Those that a name, a glob on the names, or a slice such as ``::2`` or ``-3:`` picks.

    A name that is there is meant as it stands: ``[run 1] step=2.pt`` is a glob as well.

    Raises:
        NoCheckpointsError: nothing is left.
    """
    if exact := [c for c in checkpoints if c.name == selection]:
        return exact
    if match := SLICE.match(selection):
        start, stop, step = (int(g) if g else None for g in match.groups())
        picked = checkpoints[start:stop:step] if step != 0 else []
    else:
        picked = [c for c in checkpoints if fnmatch.fnmatch(c.name, selection)]
    if not picked:
        raise NoCheckpointsError(
            "the selection leaves no checkpoint",
            found=f"--checkpoints {selection!r} of {counted(len(checkpoints), 'checkpoint')}",
            expected=f"a glob or slice that matches names like {checkpoints[0].name}",
            fix=_escaped(checkpoints, selection) or "--checkpoints '*', or --checkpoints ::2",
        )
    return picked


def _escaped(checkpoints: list[Checkpoint], selection: str) -> str:
    """The same glob with its brackets as they stand, where that picks something."""
    glob = selection.replace("[", "[[]")
    if glob == selection or not any(fnmatch.fnmatch(c.name, glob) for c in checkpoints):
        return ""
    return f"--checkpoints '{glob}', as [ begins a set of characters in a glob"


def common_prefix(names: list[str]) -> str:
    """The dotted prefix that all names share, such as ``module.`` or ``model._orig_mod.``."""
    parts = [name.split(".")[:-1] for name in names]
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return "".join(f"{part}." for part in shared)


def _listed_only(tree: Tree, entries: dict[Path, Entry]) -> Tree:
    """What the manifest lists; its word goes before that of the names."""
    names = {tree.name(path) for path in entries}
    others = [p for p in tree.candidates if p not in entries]
    left_out = [one for one in tree.left_out if one.name not in names]
    left_out += [LeftOut(tree.name(path), "not in the manifest") for path in others]
    return Tree(tree.root, list(entries), left_out)


def _examined(
    tree: Tree, entries: dict[Path, Entry], reading: Reading
) -> tuple[list[Checkpoint], list[LeftOut]]:
    found: dict[str, Checkpoint] = {}
    left_out = []
    named = read_names([tree.name(path) for path in tree.candidates])
    for path in tree.candidates:
        name = tree.name(path)
        if name in found:  # two names that differ only in characters that cannot be printed
            left_out.append(LeftOut(name, "a second file whose name reads the same"))
            continue
        one = _examine(path, name, _Words(named[name], entries.get(path), reading))
        if isinstance(one, Checkpoint):
            found[name] = one
        else:
            left_out.append(one)
    return list(found.values()), left_out


@dataclass(frozen=True)
class _Words:
    """What is said of a checkpoint from outside: by its name and by the user."""

    named: Named
    entry: Entry | None
    reading: Reading


def _examine(path: Path, name: str, words: _Words) -> Checkpoint | LeftOut:
    """What a file or directory holds."""
    try:
        content = read_content(path, words.reading)
    except CheckpointError as problem:
        progress = _resolved(name, Progress(), words)
        return Checkpoint(
            name, path, _known(progress.step), _known(progress.epoch), progress.rule,
            "unknown", "", "", 0, problem, tokens=_known(progress.tokens),
            order=_known(progress.order),
        )  # fmt: skip
    if why := _why_none(content):
        return LeftOut(name, why)
    progress = _resolved(name, content.progress, words)
    return Checkpoint(
        name, path, _known(progress.step), _known(progress.epoch), progress.rule or "none",
        content.format, content.weights_key, common_prefix(content.names), len(content.names),
        None, _known(progress.epochs_completed), _known(progress.tokens), content.weights,
        content.both, progress.kept_by, content.files, progress.doubt, _known(progress.order),
        progress.also,
    )  # fmt: skip


def _why_none(content: Content) -> str:
    if content.elsewhere:
        others = told(content.elsewhere)
        return (
            f"no weights where they are looked for, but {others}: {key_option(content.elsewhere)}"
        )
    if not content.names:
        return "holds no tensors of a model"
    return "a probe file" if {"targets", "subset"} <= set(content.names) else ""


def _resolved(name: str, said: Progress, words: _Words) -> Progress:
    """The first of manifest, pattern, what the checkpoint says, and its name, for each number."""
    entry = words.entry or Entry(Path(name), None, None, None)
    given, named = _by_pattern(name, words.reading.step_regex), words.named
    steps = [
        ("manifest", entry.step),
        ("--step-regex", given.get("step")),
        (said.rule, said.step),
        (named.step_rule, named.step),
    ]
    rule, found = next(((r, step) for r, step in steps if step is not None), ("", None))
    epoch = _first((entry.epoch, given.get("epoch"), said.epoch, named.epoch))
    tokens = _first((entry.tokens, given.get("tokens"), said.tokens, named.tokens))
    by_user = given or words.entry is not None
    also = () if by_user else (*said.also, *_in_name_only(named, said))
    doubt = named.doubt if found is None and (epoch is None or epoch == named.epoch) else ""
    return Progress(
        found, epoch, said.epochs_completed, tokens, rule, said.kept_by, also, doubt, named.order
    )


def _in_name_only(named: Named, said: Progress) -> Iterator[tuple[str, str, float]]:
    """What the name says beside what was saved; a bare number may be the epoch."""
    epochs = () if said.epoch is None else (said.epoch, said.epoch + 1)
    is_epoch = named.step_rule in WEAK_RULES and named.step in epochs
    if named.step is not None and said.step is not None and not is_epoch:
        yield "step", named.step_rule, named.step
    if named.epoch is not None and said.epoch is not None:
        yield "epoch", named.epoch_rule, named.epoch


def _by_pattern(name: str, pattern: str | None) -> dict[str, float | None]:
    """The numbers that the user's pattern finds in a name."""
    match = None if pattern is None else re.search(pattern, name)
    found: dict[str, float | None] = {}
    if match is None:
        return found
    for group, text in match.groupdict().items():
        if text is None:
            continue
        number = number_in(text.removeprefix("-"))
        if number is None:
            raise InputError(
                "the pattern for steps finds no number",
                found=f"{group} {text!r} in {name}, by {pattern!r}",
                expected="a number such as 500, 10k or 1e4",
                fix=r"--step-regex 'iter(?P<step>\d+)', or --manifest FILE.csv",
            )
        more = CUT.match(name, match.end(group))
        if more and match.end(group) == match.end():  # else the pattern says what follows
            raise InputError(
                "the pattern for steps cuts a number off",
                found=f"{group} {text!r} of {text + more[0]!r} in {name}, by {pattern!r}",
                expected="all of a number: 10k, 1.5M, 1e4",
                fix=r"--step-regex 'iter(?P<step>[\d.]+[kM]?)', or --manifest FILE.csv",
            )
        found[group] = -number if text.startswith("-") else number
    return found


def _first(values: Iterable[float | None]) -> float | None:
    return next((value for value in values if value is not None), None)


def _known(value: float | None) -> float:
    return NAN if value is None else float(value)


def _without_growing(found: list[Checkpoint]) -> tuple[list[Checkpoint], list[LeftOut]]:
    """What cannot be read and changes while we wait a moment is left for later."""
    before = {c.name: _state(c.path) for c in found if c.problem is not None and recent(c)}
    if before:
        time.sleep(PAUSE)
    growing = {c.name for c in found if c.name in before and _state(c.path) != before[c.name]}
    left_out = [LeftOut(name, "still being written: run again later") for name in growing]
    return [c for c in found if c.name not in growing], left_out


def recent(checkpoint: Checkpoint) -> bool:
    """Whether its file was changed within the last minute."""
    return abs(time.time() - _state(checkpoint.path)[1] / 1e9) < RECENT


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:  # gone meanwhile
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _nothing(run: Path, tree: Tree, left_out: list[LeftOut]) -> NoCheckpointsError:
    files = [p for p in run.rglob("*") if p.is_file()] if run.is_dir() else [run]
    reasons = [f"{one.name}: {one.why}" for one in left_out if "by its ending" not in one.why]
    kinds = Counter(path.suffix or "without ending" for path in files)
    of_kinds = listed([f"{n} {kind}" for kind, n in kinds.most_common()], 4)
    kind = f" ({of_kinds})" if kinds else ""
    why = f"; {'; '.join(reasons[:3])}" if reasons else ""
    fix = "give the directory that your trainer saved to: analyze scan RUN"
    if "--weights-key" in why:
        fix = "say where the weights are: --weights-key KEY"
    return NoCheckpointsError(
        "no checkpoints in the run",
        found=f"{counted(len(files), 'file')} below {run}{kind}, none of them a checkpoint{why}",
        expected=f"files ending in {', '.join(SUFFIXES)} that hold weights",
        fix=fix,
    )
