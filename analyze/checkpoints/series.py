"""The checkpoints of a run as a series: their order, and what a reader should know of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path, PurePosixPath

from analyze.checkpoints.checkpoint import NAN, Checkpoint
from analyze.checkpoints.naming import LAST_INTEGER_RULE, WEAK_RULES, natural_key
from analyze.checkpoints.options import Reading
from analyze.errors import RefusedError, listed

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


def one_kind_of_weights(found: list[Checkpoint], reading: Reading) -> list[Checkpoint]:
    """Unless the user chose, averaged weights are no part of a series of trained ones."""
    kinds = {c.weights for c in found if c.problem is None}
    if reading.weights is not None or len(kinds) < 2:
        return found
    return [replace(c, problem=_averaged(c)) if c.weights == "ema" else c for c in found]


def in_order(found: list[Checkpoint]) -> list[Checkpoint]:
    """By step, or by epoch where only epochs are known; those without one last, by age.

    What cannot be read may have neither; it stands first then, so that it is seen.
    """
    number = _progress(found)
    return sorted(found, key=lambda c: (
        c.problem is None and math.isnan(number(c)),
        0.0 if math.isnan(number(c)) else number(c),
        _changed(c.path) if c.problem is None and math.isnan(number(c)) else 0,
        natural_key(c.name),
    ))  # fmt: skip


def remarks(found: list[Checkpoint]) -> list[str]:
    """What a reader of the figures should know: one checkpoint only, gaps, the choice made."""
    readable = [c for c in found if c.problem is None]
    rules = (_single, _unordered, _chosen_by_metric, _gaps, _same_step, _averages)
    return [text for rule in rules if (text := rule(readable))]


def _progress(found: list[Checkpoint]) -> Callable[[Checkpoint], float]:
    """The number to order by: the epoch where it is known of more than the step is."""
    known = [
        c for c in found if c.problem is None and not (math.isnan(c.step) and math.isnan(c.epoch))
    ]
    epochs = not any(math.isnan(c.epoch) for c in known)
    steps = not any(math.isnan(c.step) for c in known)
    return (lambda c: c.epoch) if epochs and not steps else (lambda c: c.step)


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
    nameless = [c.name for c in found if math.isnan(number(c))]
    if not nameless or len(found) == 1:
        return ""
    return (
        f"no step is known of {listed(nameless, 3)}: they stand last, in the order in which the "
        "files were changed; --manifest or --step-regex says better"
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
    between = [f"{steps[k]:g} and {steps[k + 1]:g}" for k in holes]
    return f"gaps between {name} {listed(between, 3)}: the others are {usual:g} apart"


def _same_step(found: list[Checkpoint]) -> str:
    places: dict[tuple[float, str], list[str]] = {}
    for c in found:
        if not math.isnan(c.step):
            places.setdefault((c.step, str(PurePosixPath(c.name).parent)), []).append(c.name)
    twice = [f"{listed(names, 2)} (step {step:g})" for (step, _), names in places.items()
             if len(names) > 1]  # fmt: skip
    return (
        f"different weights at one step: {listed(twice, 3)}; two runs may be mixed" if twice else ""
    )


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
