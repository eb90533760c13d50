"""How well scores tell wrong labels from right ones, with intervals; plain arrays.

Letters: ``M`` scores (candidates) of ``N`` examples, of which m are wrong and n right; a higher
score says wrong. Examples without a score rank last. ``A`` is the area under the receiver operating
characteristic: the probability that a wrong example has a higher score than a right one, ties half.

Sources: DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated
receiver operating characteristic curves" (1988); for the maximum over many candidates the
multiplier bootstrap of Chernozhukov, Chetverikov and Kato (2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from analyze.statistics.arrays import LEVEL, ratio

DRAWS = 1000  # of the bootstrap
CHUNK = 1 << 24  # numbers of one product, a memory of 128 MiB
NEARLY_NONE = 1e-12  # variance below which two scores rank the examples alike


@dataclass(frozen=True)
class Areas:
    """Areas of M scores with what each example adds to them."""

    value: np.ndarray  # [M], A
    wrong: np.ndarray  # [M, m], share of right examples that each wrong one ranks above
    right: np.ndarray  # [M, n], share of wrong examples that rank above each right one

    @property
    def variance(self) -> np.ndarray:
        """DeLong's variance of each area, ``[M]``."""
        parts = (self.wrong, self.right)
        return np.sum([p.var(axis=1, ddof=1) / p.shape[1] for p in parts], axis=0)

    @property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the 95 % interval of each area, ``[M]``, by DeLong's error of its logit.

        On the scale of the logit an interval near 1 does not pass it. An area of 0 or 1 has none.
        """
        odds = self.value * (1.0 - self.value)
        half = special.ndtri(0.5 + LEVEL / 2) * ratio(np.sqrt(self.variance), odds)
        with np.errstate(divide="ignore"):
            middle = special.logit(self.value)
        known = np.isfinite(middle) & np.isfinite(half)
        middle = np.where(known, middle, np.nan)
        return special.expit(middle - half), special.expit(middle + half)

    def deviations(self, generator: np.random.Generator, draws: int) -> np.ndarray:
        """Draws of the areas' common noise around their values, ``[draws, M]``.

        Each example's share in the areas times a normal number, the same for all candidates.
        """
        total = np.zeros((draws, len(self.value)))
        for part in (self.wrong, self.right):
            count = part.shape[1]
            centred = part - part.mean(axis=1, keepdims=True)
            scale = np.sqrt(count * (count - 1.0))  # so that the variance is that of DeLong
            total += generator.standard_normal((draws, count)) @ centred.T / scale
        return total


def areas(scores: np.ndarray, wrong: np.ndarray) -> Areas:
    """The areas of scores ``[M, N]`` for the truth ``[N]``; at least two wrong and two right.

    Cost: three sorts of each score.
    """
    known = np.where(np.isnan(scores), -np.inf, scores)
    ranks = stats.rankdata(known, axis=1)
    count_wrong, count_right = int(wrong.sum()), int((~wrong).sum())
    above = (ranks[:, wrong] - stats.rankdata(known[:, wrong], axis=1)) / count_right
    below = 1.0 - (ranks[:, ~wrong] - stats.rankdata(known[:, ~wrong], axis=1)) / count_wrong
    return Areas(above.mean(axis=1), above, below)


@dataclass(frozen=True)
class Difference:
    """The best of some candidates against the best of others, given that all were tried."""

    first: int  # index of the best in each family
    second: int
    value: float  # difference of their areas
    lower: float  # ends of the interval that holds all differences at once in 95 % of cases
    upper: float
    p_value: float  # of so large a standardised difference anywhere, if no pair differs
    pairs: int


def best_against(first: Areas, second: Areas, seed: int = 0, draws: int = DRAWS) -> Difference:
    """The best candidate of one family less the best of another, on the same examples.

    ``d_jk = A_j - B_k`` of every pair has an interval ``d_jk -+ c SE_jk`` with DeLong's error of
    the difference; c is the 95 % quantile of ``max_jk |noise of d_jk| / SE_jk``, drawn for all
    pairs together. So the intervals hold at once, whichever pair turns out to be the best, and
    however many candidates were tried. Pairs that rank the examples alike do not count.

    Args:
        first: Candidates of one family, ``[J, ...]``.
        second: Candidates of the other, ``[K, ...]``, of the same examples.
        seed: Of the draws.
        draws: How many.

    Cost: ``J K (draws + m + n)`` multiplications.
    """
    error = np.sqrt(_variance_of_differences(first, second))  # [J, K]
    differ = error > NEARLY_NONE
    generator = np.random.default_rng(seed)
    pairs = zip(_fields(first), _fields(second), strict=True)
    noise = Areas(*(np.concatenate(pair) for pair in pairs))
    drawn = noise.deviations(generator, draws)
    one, other = np.split(drawn, [len(first.value)], axis=1)
    largest = np.zeros(draws)
    scale = np.where(differ, ratio(np.ones_like(error), error), 0.0)
    step = max(1, CHUNK // error.size)
    for start in range(0, draws, step):
        part = slice(start, start + step)
        gap = np.abs(one[part, :, None] - other[part, None, :]) * np.nan_to_num(scale)
        largest[part] = gap.max(axis=(1, 2))
    j, k = int(first.value.argmax()), int(second.value.argmax())
    value, width = float(first.value[j] - second.value[k]), float(error[j, k])
    critical = np.sort(largest)[math.ceil(LEVEL * (draws + 1)) - 1]  # so that p agrees with it
    half = float(critical) * width
    found = abs(value) / width if differ[j, k] else 0.0
    p = (1.0 + float((largest >= found).sum())) / (draws + 1.0)
    return Difference(j, k, value, value - half, value + half, p, int(differ.sum()))


def _fields(found: Areas) -> tuple[np.ndarray, ...]:
    return found.value, found.wrong, found.right


def _variance_of_differences(first: Areas, second: Areas) -> np.ndarray:
    """DeLong's variance of every difference, ``[J, K]``."""
    common = np.zeros((len(first.value), len(second.value)))
    for a, b in ((first.wrong, second.wrong), (first.right, second.right)):
        count = a.shape[1]
        centred = [part - part.mean(axis=1, keepdims=True) for part in (a, b)]
        common += centred[0] @ centred[1].T / (count * (count - 1.0))
    both = first.variance[:, None] + second.variance[None, :]
    return np.maximum(both - 2.0 * common, 0.0)


def average_precision(scores: np.ndarray, wrong: np.ndarray) -> float:
    """``sum_k (R_k - R_(k-1)) P_k`` over the distinct scores from the highest, ``[N]``.

    Precision ``P_k`` and recall ``R_k`` of calling the examples down to the k-th score wrong. By
    chance it is the share of wrong ones. NaN ranks last.
    """
    return float(_average_precisions(scores, wrong, np.ones((1, len(wrong))))[0])


def average_precision_interval(
    scores: np.ndarray, wrong: np.ndarray, weights: np.ndarray
) -> tuple[float, float]:
    """95 % percentile interval of the average precision, by the bootstrap.

    ``weights`` are those of ``drawn_again``, the same for all scores. Cost: as many passes over
    the examples as there are draws.
    """
    values = _average_precisions(scores, wrong, weights)
    lower, upper = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(lower), float(upper)


def drawn_again(wrong: np.ndarray, seed: int = 0, draws: int = DRAWS) -> np.ndarray:
    """How often each example is drawn in each bootstrap sample, ``[draws, N]``.

    Wrong and right examples are drawn with replacement, each as many as there are.
    """
    generator = np.random.default_rng(seed)
    weights = np.zeros((draws, len(wrong)))
    for group in (wrong, ~wrong):
        count = int(group.sum())
        weights[:, group] = generator.multinomial(count, np.full(count, 1 / count), size=draws)
    return weights


def _average_precisions(scores: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision with each row of weights ``[B, N]``, ``[B]``."""
    known = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-known, kind="stable")
    ends = np.flatnonzero(np.append(known[order][1:] != known[order][:-1], True))
    weights = weights[:, order]
    hits = np.cumsum(weights * wrong[order], axis=1)[:, ends]
    called = np.cumsum(weights, axis=1)[:, ends]
    gained = np.diff(hits, axis=1, prepend=0.0)
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    return (gained * precision).sum(axis=1) / hits[:, -1]
