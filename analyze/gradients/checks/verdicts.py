"""Whether a parameter's gradient is a gradient, or only what rounding leaves of zero.

A bias before a norm layer has the gradient zero, and numbers that are noise; a layer deep in a
sigmoid network has a tiny one, to many digits. Their arithmetic tells them apart, not their size:
noise changes entirely when the weights change in their last digits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from analyze.gradients.checks.floors import RESOLVED
from analyze.gradients.checks.precision import ANEW, rounding_share, shaken
from analyze.gradients.checks.proof import Levels
from analyze.gradients.checks.reference import Autograd, Gradients, squared_norms
from analyze.gradients.data.loader import ProbeLoader
from analyze.gradients.sums.observation import Observation

EXAMPLES = 16  # at a time
FEW = 8  # probes of the first look
SHAKES = 2
AS_BEFORE = 16.0  # times a level that was judged before, or a part of it


@dataclass(frozen=True)
class Verdicts:
    """What is known of the parameters whose gradients are as small as rounding for every probe."""

    rounding: frozenset[str]  # those that have nothing but rounding
    lost: frozenset[str]  # those of them that have a gradient in a finer precision
    levels: Levels  # the sizes that were judged so far


def verdicts(
    seen: Observation,
    measured: Autograd,
    truth: Callable[[], Autograd],
    loader: ProbeLoader,
    levels: Levels,
) -> Verdicts:
    """Judge each parameter by the probes that show most of it.

    A parameter of which any probe shows more than ``(64 eps)^2`` of the network's squared gradient
    is none of these. Of the others the gradient of a few probes together is taken, by plain
    autograd: in the run's precision, in the reference's, and there with the last digits of every
    weight changed. They must agree to a tenth; if not, for the strongest probe of each parameter.

    Args:
        seen: What the run showed of single probes.
        measured: Autograd of the model as it was measured.
        truth: Gives autograd of the reference, if it is needed.
        loader: The probes' examples.
        levels: Sizes that were judged at other checkpoints: what is near them is not judged again.

    Cost: nothing where no parameter is that small, or all are known; else four passes over eight
    probes, and over the strongest probes of what these do not settle.
    """
    share = {
        name: float(share)
        for name, share, row in zip(seen.names, seen.share, seen.strongest, strict=True)
        if row >= 0 and share <= rounding_share(measured.precision)
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
            resolved, lost = _resolved(measured, truth(), loader, rows, left)
            left -= resolved
    levels = levels.adding({n: share[n] for n in left}, {n: share[n] for n in judged - left})
    return Verdicts(frozenset(left | (noise - real)), frozenset(lost & left), levels)


def _resolved(
    measured: Autograd,
    truth: Autograd,
    loader: ProbeLoader,
    rows: np.ndarray,
    names: Collection[str],
) -> tuple[set[str], set[str]]:
    """Parameters with a gradient over some probes, and those with one in the reference alone."""
    rows = rows if len(rows) > 1 else rows.repeat(2)  # a batch of one may be wrong in torch itself
    exact = _sums(truth, loader, rows, names)
    steady = set(exact)
    for seed in range(SHAKES):
        with shaken(truth.replica, truth.precision, seed, ANEW):
            steady &= _agreeing(exact, _sums(truth, loader, rows, names))
    same = measured.precision == truth.precision
    both = steady & _agreeing(exact, exact if same else _sums(measured, loader, rows, names))
    return both, steady - both


def _sums(
    autograd: Autograd, loader: ProbeLoader, rows: np.ndarray, names: Collection[str]
) -> Gradients:
    """Gradients of some parameters, summed over the probes at ``rows``."""
    sums: Gradients = {}
    for some in np.array_split(rows, -(-len(rows) // EXAMPLES)):
        for name, gradient in autograd.gradients(loader.take(some), names).items():
            sums[name] = sums[name] + gradient if name in sums else gradient
    return sums


def _agreeing(exact: Gradients, other: Gradients) -> set[str]:
    """Parameters whose sums agree to a tenth of their length."""
    apart = squared_norms((n, g - other[n].to(g)) for n, g in exact.items() if n in other)
    lengths = squared_norms((name, exact[name]) for name in apart)
    return {name for name, square in lengths.items() if apart[name] <= RESOLVED * square}
