"""Whether a parameter's gradient is a gradient, or only what rounding leaves of zero.

A bias before a norm layer has the gradient zero, and numbers that are noise; a layer deep in a
sigmoid network has a tiny one, to many digits. Their size does not tell them apart, their own
arithmetic does: noise changes entirely when the weights change in their last digits.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch

from analyze.gradients.loader import ProbeLoader
from analyze.gradients.losses import Loss
from analyze.gradients.observation import Observation
from analyze.gradients.precision import ANEW, rounding_share, shaken
from analyze.gradients.proof import RESOLVED
from analyze.gradients.reference import Gradients, squared_norm, together
from analyze.gradients.replica import Replica

EXAMPLES = 16  # at a time
SHAKES = 2
AS_BEFORE = 16.0  # times a level that was found to be rounding before


@dataclass(frozen=True)
class Verdicts:
    """Of the parameters whose gradients are as small as rounding, for every probe.

    Args:
        rounding: Those that are nothing else.
        lost: Of these, those that a finer precision has.
    """

    rounding: frozenset[str]
    lost: frozenset[str]


def verdicts(
    seen: Observation,
    replica: Replica,
    reference: Replica,
    loader: ProbeLoader,
    loss: Loss,
    precision: tuple[torch.dtype, torch.dtype],
    levels: dict[str, float],
) -> Verdicts:
    """Judge each parameter by the probes that show most of it.

    A parameter of which any probe shows more than ``(64 eps)^2`` of the network's squared gradient
    is none of these. Of the others the gradient of their strongest probes together is taken, by
    plain autograd: in the run's precision, in the reference's, and there with the last digits of
    every weight changed. They must agree to a tenth.

    Args:
        seen: What the run found.
        replica: As it was measured.
        reference: It in float64 where it can.
        loader: Of the probes.
        loss: Of one of them.
        precision: The coarsest inside the replica, and inside the reference.
        levels: Shares of the network's squared gradient that were rounding at other checkpoints;
            what is near its own is taken for rounding. Brought up to date.

    Cost: nothing where no parameter is that small; else four passes over their strongest probes.
    """
    own, exact = precision
    small = {
        name: (float(share), int(row))
        for name, share, row in zip(seen.names, seen.share, seen.strongest, strict=True)
        if row >= 0 and share <= rounding_share(own)
    }
    known = {n for n, (share, _) in small.items() if share <= AS_BEFORE * levels.get(n, 0.0)}
    judged = small.keys() - known
    if not judged:
        return Verdicts(frozenset(known), frozenset())
    rows = np.unique([small[name][1] for name in judged])
    rows = rows if len(rows) > 1 else rows.repeat(2)  # a batch of one may be wrong in torch itself
    truth = _sums(reference, loader, rows, loss, judged)
    steady = set(judged)
    for seed in range(SHAKES):
        with shaken(reference, exact, seed, ANEW):
            moved = _sums(reference, loader, rows, loss, judged)
        steady &= _agreeing(truth, moved)
    plain = truth if own == exact else _sums(replica, loader, rows, loss, judged)
    real = steady & _agreeing(truth, plain)
    for name in judged - real:
        levels[name] = max(levels.get(name, 0.0), small[name][0])
    return Verdicts(frozenset(known | (judged - real)), frozenset(steady - real))


def _sums(
    replica: Replica, loader: ProbeLoader, rows: np.ndarray, loss: Loss, names: Collection[str]
) -> Gradients:
    """Gradients of some parameters, summed over the probes at ``rows``."""
    found: Gradients = {}
    for some in np.array_split(rows, -(-len(rows) // EXAMPLES)):
        _, gradients = together(replica, *loader.take(some), loss, names=names)
        for name, gradient in gradients.items():
            found[name] = found[name] + gradient if name in found else gradient
    return found


def _agreeing(truth: Gradients, other: Gradients) -> set[str]:
    """Parameters whose sums agree to a tenth of their length."""
    return {
        name
        for name in truth.keys() & other.keys()
        if squared_norm(truth[name] - other[name].to(truth[name]))
        <= RESOLVED * squared_norm(truth[name])
    }
