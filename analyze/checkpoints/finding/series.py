"""The checkpoints of a run as a series: their order, and what a reader should know of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path, PurePosixPath

from analyze.checkpoints.checkpoint import NAN, Checkpoint
from analyze.checkpoints.naming.file_names import (
    LAST_INTEGER_RULE,
    WEAK_RULES,
    alike,
    folders_of,
    natural_key,
    read_names,
)
from analyze.checkpoints.options import ReadingOptions
from analyze.errors import RefusedError, listed

CONTENT = "content "  # begins the rules by which a step was saved
FEW = 10  # timm keeps this many, the best ones


def with_epochs_recognised(found: list[Checkpoint]) -> list[Checkpoint]:
    """A number in the names that follows the epoch, or never changes, is no step.

    timm's ``checkpoint-12`` and torchvision's ``model_12`` count epochs; ``resnet18_last`` counts
    nothing. Decided for the whole series: one name alone could agree by chance.
    """
    weak = [c for c in found if c.step_rule in WEAK_RULES and c.problem is None]
    offsets = {c.step - c.epoch for c in weak}  # NaN where there is no epoch
    if offsets and offsets <= {0.0, 1.0}:
        return [replace(c, step=NAN, step_rule="none") if c in weak else c for c in found]
    last = [c for c in weak if c.step_rule == LAST_INTEGER_RULE]
    if len(last) > 1 and len({c.step for c in last}) == 1:
        return [replace(c, step=NAN, step_rule="none") if c in last else c for c in found]
    return found


def with_steps_of_epochs(found: list[Checkpoint]) -> list[Checkpoint]:
    """Saved steps that begin again in every epoch, or never change, are none of the run.

    They order the checkpoints of an epoch, as those in names do.
    """
    both = {c.name: c for c in found if c.problem is None and c.step_rule.startswith(CONTENT)
            and not (math.isnan(c.step) or math.isnan(c.epoch))}  # fmt: skip
    result = {c.name: c for c in found}
    for names in alike({name: folders_of(name) for name in both}):
        pairs = sorted((both[name].step, both[name].epoch) for name in names)
        epochs = [epoch for _, epoch in pairs]
        same = len({step for step, _ in pairs}) == 1 and len(set(epochs)) > 1
        if not same and epochs == sorted(epochs):
            continue
        for name in names:
            c = both[name]
            doubt = f"{c.step_rule} {c.step:.15g} is counted anew in every epoch"
            also = tuple(one for one in c.also if one[0] != "step")
            result[name] = replace(
                c, step=NAN, step_rule="none", order=c.step, doubt=doubt, also=also
            )
    return [result[c.name] for c in found]


def one_kind_of_weights(found: list[Checkpoint], reading: ReadingOptions) -> list[Checkpoint]:
    """Unless the user chose, averaged weights are no part of a series of trained ones."""
    kinds = {c.weights for c in found if c.problem is None}
    if reading.weights is not None or len(kinds) < 2:
        return found
    return [replace(c, problem=_averaged(c)) if c.weights == "ema" else c for c in found]


def in_order(found: list[Checkpoint]) -> list[Checkpoint]:
    """By step, or by epoch where only epochs are known; those without one last.

    The latter stand in the order of the times in their names where all have one, else by age. What
    cannot be read may have neither; it stands first then, so that it is seen.
    """
    number = _progress(found)
    timed = _timed([c for c in found if c.problem is None and math.isnan(number(c))])

    def key(c: Checkpoint) -> tuple[object, ...]:
        if not math.isnan(number(c)):
            order = 0.0 if math.isnan(c.order) else c.order
            return False, number(c), order, 0, natural_key(c.name)
        unknown = c.problem is None
        order = c.order if unknown and timed else 0.0
        return unknown, 0.0, order, _changed(c.path) if unknown else 0, natural_key(c.name)

    return sorted(found, key=key)


def in_order_with_deleted(found: list[Checkpoint]) -> list[Checkpoint]:
    """``in_order``, where some are deleted: only their names still say what orders equal ones."""
    named = read_names([c.name for c in found])
    orders = {name: NAN if one.order is None else one.order for name, one in named.items()}
    known = [c if math.isnan(orders[c.name]) else replace(c, order=orders[c.name]) for c in found]
    return in_order(known)


def remarks(found: list[Checkpoint]) -> list[str]:
    """What a reader of the figures should know: one checkpoint only, gaps, the choice made."""
    readable = [c for c in found if c.problem is None]
    rules = (
        _single, _unordered, _doubtful, _read_differently, _chosen_by_metric, _gaps, _same_step,
        _averages,
    )  # fmt: skip
    return [text for rule in rules if (text := rule(readable))]


def _progress(found: list[Checkpoint]) -> Callable[[Checkpoint], float]:
    """The number to order by: the epoch where it is known of more than the step is.

    Tokens, where nothing but them is known of all.
    """
    good = [c for c in found if c.problem is None]
    known = [c for c in good if not (math.isnan(c.step) and math.isnan(c.epoch))]
    if not known and good and not any(math.isnan(c.tokens) for c in good):
        return lambda c: c.tokens
    epochs = not any(math.isnan(c.epoch) for c in known)
    steps = not any(math.isnan(c.step) for c in known)
    return (lambda c: c.epoch) if epochs and not steps else (lambda c: c.step)


def _timed(unknown: list[Checkpoint]) -> bool:
    """Whether all these have a time in their names."""
    return bool(unknown) and not any(math.isnan(c.order) for c in unknown)


def _changed(path: Path) -> int:
    """When a file was changed last; 0 where it is gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _single(found: list[Checkpoint]) -> str:
    if len(found) != 1:
        return ""
    return (
        "only one checkpoint: nothing can be said about the course of training; Lightning keeps "
        "one unless told save_top_k=-1"
    )


def _unordered(found: list[Checkpoint]) -> str:
    number = _progress(found)
    unknown = [c for c in found if math.isnan(number(c))]
    if not unknown or len(found) == 1:
        return ""
    order = "of the times in their names" if _timed(unknown) else "in which the files were changed"
    return (
        f"no step is known of {listed([c.name for c in unknown], 3)}: they stand last, in the "
        f"order {order}; --manifest or --step-regex says better"
    )


def _doubtful(found: list[Checkpoint]) -> str:
    """Numbers in names that could not be read for sure."""
    doubts = [f"{c.name} ({c.doubt})" for c in found if c.doubt and math.isnan(c.step)]
    if not doubts:
        return ""
    return (
        f"a step cannot be read for sure in {listed(doubts, 3)}: say which number is the step by "
        r"--step-regex 'WORD(?P<step>\d+)', or list the steps by --manifest FILE.csv"
    )


def _read_differently(found: list[Checkpoint]) -> str:
    """Steps and epochs that two rules read differently, and not only by counting from one."""
    told = []
    for kind, other in dict.fromkeys((kind, rule) for c in found for kind, rule, _ in c.also):
        pairs = [(float(getattr(c, kind)), n, c) for c in found for k, r, n in c.also
                 if (k, r) == (kind, other)]  # fmt: skip
        if {n - taken for taken, n, _ in pairs} in ({0.0}, {1.0}, {-1.0}):
            continue
        numbers = [n for _, n, _ in sorted(pairs, key=lambda pair: pair[:2])]
        if other in WEAK_RULES and numbers == sorted(numbers):
            continue  # counted in another unit
        taken, n, c = next(pair for pair in pairs if pair[0] != pair[1])
        by = c.step_rule if kind == "step" else "what was saved"
        told.append(f"{c.name} ({kind} {taken:.15g} by {by}, {n:.15g} by {other})")
    if not told:
        return ""
    return (
        f"two rules read different numbers in {listed(told, 3)}: the first is taken; --manifest "
        "FILE.csv or --step-regex takes another"
    )


def _chosen_by_metric(found: list[Checkpoint]) -> str:
    by = {c.kept_by for c in found if c.kept_by}
    if not by or len(found) > FEW:
        return ""
    return (
        f"these may be the checkpoints that were best by {listed(sorted(by), 2)}, not evenly "
        "spaced over training: what is between them is unknown"
    )


def _gaps(found: list[Checkpoint]) -> str:
    """A regular series with some missing; series spaced otherwise (by powers of two) have none."""
    steps = [c.step for c in found]
    name = "step"
    if any(map(math.isnan, steps)):
        steps, name = [c.epoch for c in found], "epoch"
    steps = sorted(set(steps))
    if any(map(math.isnan, steps)) or len(steps) < 4:
        return ""
    jumps = [b - a for a, b in pairwise(steps)]
    usual, count = Counter(jumps).most_common(1)[0]
    holes = [k for k, jump in enumerate(jumps) if jump > usual and jump % usual == 0]
    if count <= len(jumps) / 2 or not holes:
        return ""
    between = [f"{steps[k]:.15g} and {steps[k + 1]:.15g}" for k in holes]
    return f"gaps between {name} {listed(between, 3)}: the others are {usual:.15g} apart"


def _same_step(found: list[Checkpoint]) -> str:
    """Different weights at one step, or at one epoch where no step is known."""
    places: dict[tuple[str, float, str], list[str]] = {}
    for c in found:
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


def _averages(found: list[Checkpoint]) -> str:
    if any(c.both and c.weights == "model" for c in found):
        return "averaged (EMA) weights are there as well; the trained ones are taken: --weights ema"
    if any(c.weights == "ema" for c in found):
        return "these are averaged (EMA) weights, not those that the optimizer stepped from"
    return ""


def _averaged(checkpoint: Checkpoint) -> RefusedError:
    return RefusedError(
        "the checkpoint holds averaged weights among checkpoints of trained ones",
        found=f"EMA weights only in {checkpoint.name}",
        expected="one kind of weights in a series",
        fix="--weights model, or --weights ema where all have them, or --checkpoints GLOB",
    )
