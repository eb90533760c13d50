"""Find the checkpoints of a run, decide on every file, and put them in order."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from analyze.checkpoints.checkpoint import NAN, Checkpoint, LeftOut, NoCheckpointsError
from analyze.checkpoints.finding.duplicates import without_duplicates
from analyze.checkpoints.finding.manifest import read_manifest
from analyze.checkpoints.finding.series import (
    in_order,
    one_kind_of_weights,
    size_and_time,
    with_epochs_recognised,
    with_steps_of_epochs,
)
from analyze.checkpoints.finding.tree import Tree, look_through
from analyze.checkpoints.fitting.tensor_names import unused_rules
from analyze.checkpoints.layouts.foreign import BY_ENDING
from analyze.checkpoints.layouts.table import ENDINGS
from analyze.checkpoints.naming.file_names import WEAK_RULES, position_by_pattern, read_names
from analyze.checkpoints.naming.training_position import TrainingPosition
from analyze.checkpoints.options import DEFAULTS, ReadingOptions
from analyze.checkpoints.reading import UNREADABLE, Content, read_content
from analyze.checkpoints.state import as_words, common_prefix, key_option
from analyze.errors import CheckpointError, InputError, counted, listed
from analyze.files.permission import barrier, may_be_listed, not_permitted
from analyze.files.present import is_there
from analyze.files.walking import walk

RECENT = 60.0  # seconds since a file was changed within which it may still be being written
PAUSE = 0.2  # seconds to see whether it is


@dataclass(frozen=True)
class Discovery:
    """The checkpoints of a run in order, and the files that are left out."""

    checkpoints: list[Checkpoint]
    left_out: list[LeftOut]


def find(run: Path, exclude: Iterable[Path] = (), reading: ReadingOptions = DEFAULTS) -> Discovery:
    """The checkpoints below a run's directory, in order of step, then epoch, then name.

    ``run`` may also be one checkpoint file; files in ``exclude``, the probe file, are none.

    Raises:
        InputError: there is no such directory, or a broken manifest.
        NoCheckpointsError: there is no checkpoint in it.

    Cost: every candidate is opened; tensors are read only to compare copies.
    """
    if not is_there(run):
        raise InputError(
            "the run is missing",
            found=f"no directory {run}{barrier(run)}",
            expected="a directory of checkpoints",
            fix="give the directory that your trainer saved to: analyze scan RUN",
        )
    if not may_be_listed(run):
        raise not_permitted(run)
    tree = look_through(run, exclude)
    entries: dict[Path, TrainingPosition] = {}
    if reading.manifest is not None:
        entries = read_manifest(Path(reading.manifest), tree.root)
        tree = _listed_only(tree, entries)
    checkpoints, foreign = _examined(tree, entries, reading)
    checkpoints, growing = _without_growing(checkpoints)
    checkpoints = with_steps_of_epochs(with_epochs_recognised(checkpoints))
    checkpoints, copies = without_duplicates(checkpoints, reading)
    left_out = [*tree.left_out, *foreign, *growing, *copies]
    if not checkpoints:
        raise _nothing(run, left_out)
    checkpoints = one_kind_of_weights(checkpoints, reading)
    return Discovery(in_order(checkpoints), sorted(left_out, key=lambda file: file.name))


def _listed_only(tree: Tree, entries: dict[Path, TrainingPosition]) -> Tree:
    """The tree with the manifest's checkpoints as its candidates, whatever their names."""
    names = {tree.name(path) for path in entries}
    left_out = [file for file in tree.left_out if file.name not in names]
    left_out += [
        LeftOut(tree.name(path), "not in the manifest")
        for path in tree.candidates if path not in entries
    ]  # fmt: skip
    return Tree(tree.root, list(entries), left_out)


def _examined(
    tree: Tree, entries: dict[Path, TrainingPosition], reading: ReadingOptions
) -> tuple[list[Checkpoint], list[LeftOut]]:
    """Every candidate opened: the checkpoints, and what turns out to be none."""
    checkpoints: dict[str, Checkpoint] = {}
    left_out = []
    named = read_names([tree.name(path) for path in tree.candidates])
    for path in tree.candidates:
        name, problem = tree.name(path), None
        if name in checkpoints:  # two names that differ only in characters that cannot be printed
            left_out.append(LeftOut(name, "a second file whose name reads the same"))
            continue
        try:
            content = read_content(path, reading)
        except CheckpointError as error:
            content, problem = UNREADABLE, error
        if problem is None and (why := _why_none(content)):
            left_out.append(LeftOut(name, why))
            continue
        by_user = [entries.get(path), position_by_pattern(name, reading.step_regex)]
        position = _resolved([p for p in by_user if p], content.position, named[name])
        unused = unused_rules(tuple(content.names), tuple(reading.rename))
        checkpoints[name] = _checkpoint(name, path, content, position, problem, unused)
    return list(checkpoints.values()), left_out


def _checkpoint(
    name: str, path: Path, content: Content, position: TrainingPosition,
    problem: CheckpointError | None, unused: frozenset[str],
) -> Checkpoint:  # fmt: skip
    return Checkpoint(
        name, path, _known(position.step), _known(position.epoch), position.step_rule or "none",
        content.format, content.weights_key, common_prefix(content.names), len(content.names),
        problem,
        _known(position.epochs_completed), _known(position.tokens), content.weights,
        content.both, position.kept_by, content.files, position.doubt, _known(position.order),
        position.also, _known(content.learning_rate), unused,
    )  # fmt: skip


def _why_none(content: Content) -> str:
    """Why a file with this content is no checkpoint; empty where it is one."""
    if content.elsewhere:
        return (
            f"no weights where they are looked for, but {as_words(content.elsewhere)}: "
            f"{key_option(content.elsewhere)}"
        )
    if not content.names:
        return "holds no tensors of a model"
    return "a probe file" if {"targets", "subset"} <= set(content.names) else ""


def _resolved(
    by_user: list[TrainingPosition], saved: TrainingPosition, named: TrainingPosition
) -> TrainingPosition:
    """For each number the first source that has it: the user, the content, then the name."""
    sources = [*by_user, saved, named]
    by_step = next((source for source in sources if source.step is not None), TrainingPosition())
    epoch = next((source.epoch for source in sources if source.epoch is not None), None)
    tokens = next((source.tokens for source in sources if source.tokens is not None), None)
    also = () if by_user else (*saved.also, *_in_name_only(named, saved))
    doubt = named.doubt if epoch in (None, named.epoch) else ""
    doubt = "" if by_step.step is not None else saved.doubt or doubt
    return replace(
        saved, step=by_step.step, step_rule=by_step.step_rule,
        epoch=epoch, tokens=tokens, also=also, doubt=doubt, order=named.order,
    )  # fmt: skip


def _in_name_only(
    named: TrainingPosition, saved: TrainingPosition
) -> Iterator[tuple[str, str, float]]:
    """Numbers in the name where the content has one too, but a bare one that is the epoch."""
    epochs = () if saved.epoch is None else (saved.epoch, saved.epoch + 1)
    is_epoch = named.step_rule in WEAK_RULES and named.step in epochs
    if named.step is not None and saved.step is not None and not is_epoch:
        yield "step", named.step_rule, named.step
    if named.epoch is not None and saved.epoch is not None:
        yield "epoch", named.epoch_rule, named.epoch


def _known(value: float | None) -> float:
    return NAN if value is None else float(value)


def _without_growing(checkpoints: list[Checkpoint]) -> tuple[list[Checkpoint], list[LeftOut]]:
    """Unreadable files that change while we wait a moment are left for later."""
    before = {c.name: size_and_time(c.path) for c in checkpoints if c.problem and recent(c)}
    if before:
        time.sleep(PAUSE)
    growing = {
        c.name for c in checkpoints
        if c.name in before and size_and_time(c.path) != before[c.name]
    }  # fmt: skip
    left_out = [LeftOut(name, "still being written: run again later") for name in growing]
    return [c for c in checkpoints if c.name not in growing], left_out


def recent(checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint's file was changed within the last minute."""
    return abs(time.time() - size_and_time(checkpoint.path)[1] / 1e9) < RECENT


def _nothing(run: Path, left_out: list[LeftOut]) -> NoCheckpointsError:
    files = [run]
    if run.is_dir():
        files = [place / name for place, _, names in walk(run) for name in names]
    reasons = [f"{file.name}: {file.why}" for file in left_out if file.why != BY_ENDING]
    kinds = Counter(path.suffix or "without ending" for path in files)
    of_kinds = listed([f"{n} {kind}" for kind, n in kinds.most_common()], 4)
    kind = f" ({of_kinds})" if kinds else ""
    why = f"; {'; '.join(reasons[:3])}" if reasons else ""
    fix = "give the directory that your trainer saved to: analyze scan RUN"
    if "--weights-key" in why:
        keys = {key for reason in reasons for key in re.findall(r"--weights-key \S+", reason)}
        key = keys.pop() if len(keys) == 1 else "--weights-key KEY"
        fix = f"say where the weights are: {key}"
    return NoCheckpointsError(
        "no checkpoints in the run",
        found=f"{counted(len(files), 'file')} below {run}{kind}, none of them a checkpoint{why}",
        expected=f"files ending in {', '.join(ENDINGS)} that hold weights",
        fix=fix,
    )
