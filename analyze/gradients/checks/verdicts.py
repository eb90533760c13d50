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

from analyze.gradients.checks.precision import ANEW, rounding_share, shaken
from analyze.gradients.checks.proof import RESOLVED, Levels
from analyze.gradients.checks.reference import Gradients, squared_norm, together
from analyze.gradients.data.loader import ProbeLoader
from analyze.gradients.losses import Loss
from analyze.gradients.model.replica import Replica
from analyze.gradients.sums.observation import Observation

EXAMPLES = 16  # at a time
FEW = 8  # probes of the first look
SHAKES = 2
AS_BEFORE = 16.0  # times a level that was judged before, or a part of it


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
    levels: Levels,
) -> Verdicts:
    """Judge each parameter by the probes that show most of it.

    A parameter of which any probe shows more than ``(64 eps)^2`` of the network's squared gradient
    is none of these. Of the others the gradient of a few probes together is taken, by plain
    autograd: in the run's precision, in the reference's, and there with the last digits of every
    weight changed. They must agree to a tenth; if not, for the strongest probe of each parameter.

    Args:
        seen: What the run found.
        replica: As it was measured.
        reference: It in float64 where it can.
        loader: Of the probes.
        loss: Of one of them.
        precision: The coarsest inside the replica, and inside the reference.
        levels: Sizes that were judged at other checkpoints: what is near one of them is not judged
            again. Brought up to date.

    Cost: nothing where no parameter is that small, or all are known; else four passes over eight
    probes, and over the strongest probes of what these do not settle.
    """
    share = {
        name: float(share)
        for name, share, row in zip(seen.names, seen.share, seen.strongest, strict=True)
        if row >= 0 and share <= rounding_share(precision[0])
    }
    noise = {n for n in share if share[n] <= AS_BEFORE * levels.rounding.get(n, 0.0)}
    real = {n for n in share if AS_BEFORE * share[n] >= levels.real.get(n, np.inf)}
    judged = share.keys() - (noise ^ real)
    strongest = dict(zip(seen.names, seen.strongest.tolist(), strict=True))
    left, lost = set(judged), set[str]()
    for most in (FEW, None):
        if left:
            rows, counts = np.unique([strongest[name] for name in left], return_counts=True)
            rows = np.sort(rows[np.argsort(-counts, kind="stable")][:most])
            resolved, lost = _resolved(replica, reference, loader, rows, loss, precision, left)
            left -= resolved
    for name in left:
        levels.rounding[name] = max(levels.rounding.get(name, 0.0), share[name])
    for name in judged - left:
        levels.real[name] = min(levels.real.get(name, np.inf), share[name])
    return Verdicts(frozenset(left | (noise - real)), frozenset(lost & left))


def _resolved(
    replica: Replica,
    reference: Replica,
    loader: ProbeLoader,
    rows: np.ndarray,
    loss: Loss,
    precision: tuple[torch.dtype, torch.dtype],
    names: Collection[str],
) -> tuple[set[str], set[str]]:
    """Parameters with a gradient over some probes; and those with one in the reference alone."""
    own, exact = precision
    rows = rows if len(rows) > 1 else rows.repeat(2)  # a batch of one may be wrong in torch itself
    truth = _sums(reference, loader, rows, loss, names)
    steady = set(truth)
    for seed in range(SHAKES):
        with shaken(reference, exact, seed, ANEW):
            steady &= _agreeing(truth, _sums(reference, loader, rows, loss, names))
    plain = truth if own == exact else _sums(replica, loader, rows, loss, names)
    both = steady & _agreeing(truth, plain)
    return both, steady - both


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
