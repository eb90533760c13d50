"""The checkpoints of a run as a series: their order, the user's choice, and remarks on them."""

from __future__ import annotations

import fnmatch
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path, PurePosixPath

from analyze.checkpoints.checkpoint import NAN, Checkpoint, NoCheckpointsError
from analyze.checkpoints.finding.one_run import taking_turns
from analyze.checkpoints.naming.file_names import (
    LAST_INTEGER_RULE,
    WEAK_RULES,
    counted_anew,
    natural_key,
    read_names,
)
from analyze.checkpoints.options import ReadingOptions
from analyze.errors import RefusedError, counted, listed

CONTENT = "content "  # the beginning of rules that read a step from what was saved
SLICE = re.compile(r"^(-?\d*):(-?\d*)(?::(-?\d*))?$")
FEW = 10  # timm keeps this many, the best ones


def with_epochs_recognised(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """The checkpoints without steps that follow the epoch or never change: they are none.

    timm's ``checkpoint-12`` and torchvision's ``model_12`` count epochs; ``resnet18_last`` counts
    nothing. Decided for the whole series: one name alone could agree by chance.
    """
    weak = [c for c in checkpoints if c.step_rule in WEAK_RULES and c.problem is None]
    offsets = {c.step - c.epoch for c in weak}  # NaN where there is no epoch
    last = [c for c in weak if c.step_rule == LAST_INTEGER_RULE]
    never_changes = len(last) > 1 and len({c.step for c in last}) == 1
    no_step = weak if offsets and offsets <= {0.0, 1.0} else last if never_changes else []
    return [replace(c, step=NAN, step_rule="none") if c in no_step else c for c in checkpoints]


def with_steps_of_epochs(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """The checkpoints without saved steps that begin again in every epoch, or never change.

    Such steps order the checkpoints of an epoch, as those in names do.
    """
    both = {c.name: c for c in checkpoints if c.problem is None and c.step_rule.startswith(CONTENT)
            and not (math.isnan(c.step) or math.isnan(c.epoch))}  # fmt: skip
    groups = counted_anew({n: (c.step, c.epoch) for n, c in both.items()}, constant=True)
    anew = {name for names in groups for name in names}
    return [_without_step(c) if c.name in anew else c for c in checkpoints]


def _without_step(c: Checkpoint) -> Checkpoint:
    doubt = f"{c.step_rule} {c.step:.15g} is counted anew in every epoch"
    also = tuple(other for other in c.also if other[0] != "step")
    return replace(c, step=NAN, step_rule="none", order=c.step, doubt=doubt, also=also)


def one_kind_of_weights(checkpoints: list[Checkpoint], reading: ReadingOptions) -> list[Checkpoint]:
    """A series of trained weights refuses averaged ones, unless the user chose."""
    kinds = {c.weights for c in checkpoints if c.problem is None}
    if reading.weights is not None or len(kinds) < 2:
        return checkpoints
    return [replace(c, problem=_averaged(c)) if c.weights == "ema" else c for c in checkpoints]


def in_order(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """Checkpoints by step, or by epoch where only epochs are known; those without one last.

    The latter stand in the order of the times in their names where all have one, else by age. A
    checkpoint that cannot be read may have neither; it stands first, so that it is seen.
    """
    number = _progress(checkpoints)
    timed = _timed([c for c in checkpoints if c.problem is None and math.isnan(number(c))])

    def key(c: Checkpoint) -> tuple[object, ...]:
        if not math.isnan(number(c)):
            order = 0.0 if math.isnan(c.order) else c.order
            return False, number(c), order, 0, natural_key(c.name)
        unknown = c.problem is None
        order = c.order if unknown and timed else 0.0
        changed = size_and_time(c.path)[1] if unknown else 0
        return unknown, 0.0, order, changed, natural_key(c.name)

    return sorted(checkpoints, key=key)


def in_order_with_deleted(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """``in_order`` where files may be deleted: names say what orders checkpoints of one step."""
    named = read_names([c.name for c in checkpoints])
    orders = ((c, named[c.name].order) for c in checkpoints)
    return in_order([c if order is None else replace(c, order=order) for c, order in orders])


def select(checkpoints: list[Checkpoint], selection: str) -> list[Checkpoint]:
    """The checkpoints that a name, a glob on names, or a slice such as ``::2`` or ``-3:`` picks.

    A name of a checkpoint is no glob, even if it looks like one: ``[run 1] step=2.pt``.

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


def remarks(checkpoints: list[Checkpoint], chosen: list[Checkpoint] | None = None) -> list[str]:
    """Warnings for the reader of the figures: a single checkpoint, gaps, an unsure order.

    Where the user has ``chosen`` some, of these; a gap that is the choice's own is none.
    """
    readable = [c for c in checkpoints if c.problem is None]
    measured = readable if chosen is None else [c for c in chosen if c.problem is None]
    rules = (
        _single, _unordered, _doubtful, _read_differently, _chosen_by_metric, _gaps, _same_step,
        taking_turns, _averages, _unused,
    )  # fmt: skip
    return [text for rule in rules if rule(readable) and (text := rule(measured))]


def _escaped(checkpoints: list[Checkpoint], selection: str) -> str:
    """The option with the glob's brackets escaped; empty where that picks nothing either."""
    glob = selection.replace("[", "[[]")
    if glob == selection or not any(fnmatch.fnmatch(c.name, glob) for c in checkpoints):
        return ""
    return f"--checkpoints '{glob}', as [ begins a set of characters in a glob"


def _progress(checkpoints: list[Checkpoint]) -> Callable[[Checkpoint], float]:
    """The number to order by: the step, or the epoch or tokens where only these are complete."""
    good = [c for c in checkpoints if c.problem is None]
    known = [c for c in good if not (math.isnan(c.step) and math.isnan(c.epoch))]
    if not known and good and not any(math.isnan(c.tokens) for c in good):
        return lambda c: c.tokens
    epochs = not any(math.isnan(c.epoch) for c in known)
    steps = not any(math.isnan(c.step) for c in known)
    return (lambda c: c.epoch) if epochs and not steps else (lambda c: c.step)


def _timed(unknown: list[Checkpoint]) -> bool:
    """Whether all of these checkpoints have a time in their names."""
    return bool(unknown) and not any(math.isnan(c.order) for c in unknown)


def size_and_time(path: Path) -> tuple[int, int]:
    """Size and time of change of a file; zeros where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _single(checkpoints: list[Checkpoint]) -> str:
    if len(checkpoints) != 1:
        return ""
    return (
        "only one checkpoint: nothing can be said about the course of training; Lightning keeps "
        "one unless told save_top_k=-1"
    )


def _unordered(checkpoints: list[Checkpoint]) -> str:
    number = _progress(checkpoints)
    unknown = [c for c in checkpoints if math.isnan(number(c))]
    if not unknown or len(checkpoints) == 1:
        return ""
    if len(unknown) == 1 and not math.isnan(number(checkpoints[0])):
        return (
            f"no step is known of {unknown[0].name}, which is taken for the last checkpoint; "
            "--manifest or --step-regex says better, --checkpoints GLOB leaves it out"
        )
    order = "of the times in their names" if _timed(unknown) else "in which the files were changed"
    return (
        f"no step is known of {listed([c.name for c in unknown], 3)}: they stand last, in the "
        f"order {order}; --manifest or --step-regex says better"
    )


def _doubtful(checkpoints: list[Checkpoint]) -> str:
    """Numbers in names that may be steps or not."""
    doubts = [f"{c.name} ({c.doubt})" for c in checkpoints if c.doubt and math.isnan(c.step)]
    if not doubts:
        return ""
    return (
        f"a step cannot be read for sure in {listed(doubts, 3)}: say which number is the step by "
        r"--step-regex 'WORD(?P<step>\d+)', or list the steps by --manifest FILE.csv"
    )


def _read_differently(checkpoints: list[Checkpoint]) -> str:
    """Steps and epochs that two rules read differently, and not only by counting from one."""
    differing = []
    for kind, other in dict.fromkeys((kind, rule) for c in checkpoints for kind, rule, _ in c.also):
        pairs = [(float(getattr(c, kind)), n, c) for c in checkpoints for k, r, n in c.also
                 if (k, r) == (kind, other)]  # fmt: skip
        if {n - taken for taken, n, _ in pairs} in ({0.0}, {1.0}, {-1.0}):
            continue
        numbers = [n for _, n, _ in sorted(pairs, key=lambda pair: pair[:2])]
        if other in WEAK_RULES and numbers == sorted(numbers):
            continue  # counted in another unit
        taken, n, c = next(pair for pair in pairs if pair[0] != pair[1])
        by = c.step_rule if kind == "step" else "what was saved"
        differing.append(f"{c.name} ({kind} {taken:.15g} by {by}, {n:.15g} by {other})")
    if not differing:
        return ""
    return (
        f"two rules read different numbers in {listed(differing, 3)}: the first is taken; "
        "--manifest FILE.csv or --step-regex takes another"
    )


def _chosen_by_metric(checkpoints: list[Checkpoint]) -> str:
    by = {c.kept_by for c in checkpoints if c.kept_by}
    if not by or len(checkpoints) > FEW:
        return ""
    return (
        f"these may be the checkpoints that were best by {listed(sorted(by), 2)}, not evenly "
        "spaced over training: what is between them is unknown"
    )


def _gaps(checkpoints: list[Checkpoint]) -> str:
    """A regular series with some missing; series spaced otherwise (by powers of two) have none.

    Neither has one that is dense at first: a hole has the usual distance again somewhere after it.
    """
    steps = [c.step for c in checkpoints]
    name = "step"
    if any(map(math.isnan, steps)):
        steps, name = [c.epoch for c in checkpoints], "epoch"
    steps = sorted(set(steps))
    if any(map(math.isnan, steps)) or len(steps) < 4:
        return ""
    jumps = [b - a for a, b in pairwise(steps)]
    usual, count = Counter(jumps).most_common(1)[0]
    last = len(jumps) - 1 - jumps[::-1].index(usual)
    holes = [k for k, jump in enumerate(jumps[:last]) if jump > usual and jump % usual == 0]
    if count <= len(jumps) / 2 or not holes:
        return ""
    between = [f"{steps[k]:.15g} and {steps[k + 1]:.15g}" for k in holes]
    return f"gaps between {name} {listed(between, 3)}: the others are {usual:.15g} apart"


def _same_step(checkpoints: list[Checkpoint]) -> str:
    """Different weights at one step, or at one epoch where no step is known."""
    places: dict[tuple[str, float, str], list[str]] = {}
    for c in checkpoints:
        name, number = ("epoch", c.epoch) if math.isnan(c.step) else ("step", c.step)
        if not math.isnan(number) and (name == "step" or math.isnan(c.order)):
            place = (name, number, str(PurePosixPath(c.name).parent))
            places.setdefault(place, []).append(c.name)
    twice = [(name, f"{listed(names, 2)} ({name} {number:.15g})")
             for (name, number, _), names in places.items() if len(names) > 1]  # fmt: skip
    if not twice:
        return ""
    where = listed([text for _, text in twice], 3)
    return f"different weights at one {twice[0][0]}: {where}; two runs may be mixed"


def _averages(checkpoints: list[Checkpoint]) -> str:
    if any(c.both and c.weights == "model" for c in checkpoints):
        return "averaged (EMA) weights are there as well; the trained ones are taken: --weights ema"
    if any(c.weights == "ema" for c in checkpoints):
        return "these are averaged (EMA) weights, not those that the optimizer stepped from"
    return ""


def _unused(checkpoints: list[Checkpoint]) -> str:
    unused = frozenset.intersection(*(c.unused for c in checkpoints)) if checkpoints else ()
    if not unused:
        return ""
    rules = " ".join(f"--rename {rule}" for rule in sorted(unused))
    return f"{rules} changes no name: no checkpoint has such tensors"


def _averaged(checkpoint: Checkpoint) -> RefusedError:
    return RefusedError(
        "the checkpoint holds averaged weights among checkpoints of trained ones",
        found=f"EMA weights only in {checkpoint.name}",
        expected="one kind of weights in a series",
        fix="--weights model, or --weights ema where all have them, or --checkpoints GLOB",
    )
