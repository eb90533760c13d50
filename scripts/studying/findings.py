"""The findings of the paper, each with what is seen here and whether it holds.

A finding holds where the 95 % intervals over the seeds of all its quantities lie on the side that
it says, in part where some do, and does not where all lie on the other side. Else it cannot be told
here. Quantities of too few seeds do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from scripts.studying import courses
from scripts.studying.design import FIRST_STEPS, NETWORKS
from scripts.studying.seeds import OverSeeds, digits, over_seeds
from scripts.studying.store import Measured, Study

FAR = 10.0  # "far above 1"
NEAR_ONE = 2.0  # "about 1" is below
ALIKE = 0.8  # correlation of two courses of one shape
COHERENT_GRADIENTS = "[2020](https://arxiv.org/abs/2002.10657), on another measure"
LATE = 10  # the step from which lag of batch norm's statistics is looked at


@dataclass(frozen=True)
class Seen:
    """One quantity of a finding: where, its values, and on which side of 1 (or a bound) it is."""

    where: str
    value: OverSeeds
    wanted: int  # 1: above, -1: below, 0: told for comparison
    bound: float | None = None

    @property
    def side(self) -> int:
        """1 as the finding says, -1 the contrary, 0 not to be told."""
        found = self.value.sign() if self.bound is None else self.value.above(self.bound)
        return found * self.wanted


@dataclass(frozen=True)
class Finding:
    """One line of the table: who says it, what was looked at, and a note."""

    name: str
    says: str
    unit: str  # of the numbers: what a ratio is of
    seen: Callable[[Study], Sequence[Seen]]
    note: str

    def verdict(self, study: Study) -> str:
        """``holds``, ``in part``, ``does not hold`` or ``cannot be told here``."""
        counted = [s for s in self.seen(study) if s.wanted and s.value.is_enough]
        return verdict([s.side for s in counted])


def verdict(sides: Sequence[int]) -> str:
    """What follows from the sides on which the intervals lie."""
    if not sides or not any(sides):
        return "cannot be told here"
    if all(side > 0 for side in sides):
        return "holds"
    if all(side < 0 for side in sides):
        return "does not hold"
    return "in part" if 1 in sides else "cannot be told here"


def _each_noise(
    quantity: Callable[[Measured, Sequence[Measured]], float | None],
    wanted: int,
    noises: Sequence[int] | None = None,
    *,
    bound: float | None = None,
    is_log: bool = True,
) -> Callable[[Study], list[Seen]]:
    """A quantity of a training, of the main network at each share of noise."""

    def seen(study: Study) -> list[Seen]:
        found = []
        for noise in study.noises():
            if noises is not None and noise not in noises:
                continue
            group = study.of(noise=noise)
            value = over_seeds(group, partial(_of_group, quantity, group), is_log=is_log)
            found.append(Seen(f"{noise} %", value, wanted, bound))
        return found

    return seen


def _of_group(
    quantity: Callable[[Measured, Sequence[Measured]], float | None],
    group: Sequence[Measured],
    measured: Measured,
) -> float | None:
    return quantity(measured, group)


def _against_real_labels(
    quantity: Callable[[Measured, Sequence[Measured]], float | None], wanted: int, words: str
) -> Callable[[Study], list[Seen]]:
    """Each share of noise over none, seed by seed."""

    def seen(study: Study) -> list[Seen]:
        real = study.of(noise=0)
        at_none = {m.training.seed: quantity(m, real) for m in real}
        found = []
        for noise in study.noises():
            if noise == 0:
                continue
            group = study.of(noise=noise)

            def ratio(m: Measured, group: Sequence[Measured] = group) -> float | None:
                first, second = at_none.get(m.training.seed), quantity(m, group)
                return None if first is None or second is None else second - first

            found.append(Seen(f"{words}, {noise} %", over_seeds(group, ratio), wanted))
        return found

    return seen


def _together(*parts: Callable[[Study], Sequence[Seen]]) -> Callable[[Study], list[Seen]]:
    return lambda study: [seen for part in parts for seen in part(study)]


def _named(name: str, part: Callable[[Study], Sequence[Seen]]) -> Callable[[Study], list[Seen]]:
    def seen(study: Study) -> list[Seen]:
        return [Seen(f"{name}, {s.where}", s.value, s.wanted, s.bound) for s in part(study)]

    return seen


def _layer_ratio(place: str) -> Callable[[Measured, Sequence[Measured]], float]:
    return lambda m, _: courses.fitting(m, place=place) - courses.fitting(m, place="last layer")


def _size_correlation(m: Measured, _: Sequence[Measured]) -> float:
    """Of the logarithms of m-coherence with m and with 2m probes, over the steps."""
    pair = [courses.log_coherence(m, size=size) for size in ("m", "2m")]
    both = courses.spaced(m) & np.isfinite(pair[0]) & np.isfinite(pair[1])
    return float(np.corrcoef(pair[0][both], pair[1][both])[0, 1])


def _before_half(m: Measured) -> np.ndarray:
    """Steps from 5 on until half of the training probes are fitted."""
    early = np.maximum.accumulate(m.values("accuracy")) < 0.5
    return courses.spaced(m) & (m.steps >= 5) & early


def _at_last(m: Measured) -> np.ndarray:
    """Steps when most corrupted probes, but not all, are fitted: the last of the learning."""
    accuracy = m.values("accuracy", subset="corrupted")
    return (accuracy >= 0.5) & (accuracy < 0.99)


def _while_learning(m: Measured) -> np.ndarray:
    return (m.steps >= LATE) & (m.values("accuracy") < 0.95)


LOSSES = np.geomspace(2.0, 0.05, 24)


def _clock(study: Study) -> list[Seen]:
    """How far apart real and random labels are at equal loss, over how far at equal steps."""
    real = {m.training.seed: m for m in study.of(noise=0)}

    def ratio(m: Measured) -> float | None:
        other = real.get(m.training.seed)
        if other is None:
            return None
        by_step = courses.smooth(courses.log_coherence(m) - courses.log_coherence(other))
        by_step = by_step[courses.spaced(m)]
        by_loss = courses.at_losses(m, LOSSES) - courses.at_losses(other, LOSSES)
        return float(np.log(_size(by_loss) / _size(by_step)))

    return [
        Seen(f"{noise} % against 0 %", over_seeds(study.of(noise=noise), ratio), 0)
        for noise in study.noises()
        if noise
    ]


def _size(differences: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean(differences**2)))


def _networks(study: Study) -> list[Seen]:
    """Correlation of each other network's course with that of the main one, by noise and seed."""
    found = []
    for name in ("inception", "group_norm", "no_norm"):
        for noise in study.noises(name):
            main = {m.training.seed: m for m in study.of(noise=noise)}

            def alike(m: Measured, main: dict[int, Measured] = main) -> float | None:
                other = main.get(m.training.seed)
                if other is None:
                    return None
                smooth = [courses.smooth(courses.log_coherence(x)) for x in (m, other)]
                pair = [series[courses.spaced(m)] for series in smooth]
                return float(np.corrcoef(pair[0], pair[1])[0, 1])

            group = study.of(name, noise)
            words = group[0].training.network.words
            found.append(
                Seen(f"{words}, {noise} %", over_seeds(group, alike, is_log=False), 1, ALIKE)
            )
    return found


def _ends_of_others(study: Study) -> list[Seen]:
    """M-coherence at the end, of the networks without batch norm."""
    found = []
    for network in (n for n in NETWORKS.values() if not n.has_batch_norm):
        for noise in study.noises(network.name):
            value = over_seeds(study.of(network.name, noise), courses.at_end)
            found.append(Seen(f"{network.words}, {noise} %", value, -1, NEAR_ONE))
    return found


def _at_end_of(place: str) -> Callable[[Measured, Sequence[Measured]], float]:
    return lambda m, _: courses.at_end(m, place=place)


FINDINGS = (
    Finding(
        "collapse", "Alignment collapses in the first steps (2020)",
        "m-coherence at steps 3 and 4 over that at step 0",
        _each_noise(lambda m, _: courses.at(m, courses.EARLY) - courses.at(m, (0,)), -1),
        "The paper's reason, an output that is nearly the same for all classes, was not tested.",
    ),
    Finding(
        "rise", "After that it rises to a peak (2020, 2022)",
        f"m-coherence at the peak over that at the lowest of the first {FIRST_STEPS} steps",
        _each_noise(lambda m, g: courses.change(m, g, "rise"), 1),
        "A peak is the highest place before the last three that were measured.",
    ),
    Finding(
        "return", "After the peak it falls again (2020, 2022)",
        "m-coherence at the end over that at the peak",
        _each_noise(lambda m, g: courses.change(m, g, "return"), -1),
        "The end is the mean of the last two values.",
    ),
    Finding(
        "rise_saved", "With saved batch norm statistics it rises to a peak (new here)",
        "as above, with saved statistics",
        _each_noise(lambda m, g: courses.change(m, g, "rise", mode="saved"), 1),
        "What is seen of the rise depends on the statistics; which ones the paper used is unknown.",
    ),
    Finding(
        "return_saved", "With saved batch norm statistics it falls again after the peak (new here)",
        "as above, with saved statistics",
        _each_noise(lambda m, g: courses.change(m, g, "return", mode="saved"), -1),
        "At the end the learning rate is 0, so that weights and averages stand still.",
    ),
    Finding(
        "one", "It ends at about 1 (2020, 2022)",
        "m-coherence at the end; below 2 counts as about 1",
        _each_noise(_at_end_of("network"), -1, bound=NEAR_ONE),
        "How many examples decide the value there is said above.",
    ),
    Finding(
        "one_others", "Networks without batch norm end at about 1 (new here)",
        "their m-coherence at the end; below 2 counts as about 1",
        _ends_of_others,
        "Looked at because the figure of the networks showed it: other seeds are to confirm it.",
    ),
    Finding(
        "lower", "With more noise the peak is lower (2020)",
        "m-coherence at the peak over that of real labels",
        _against_real_labels(lambda m, g: courses.change(m, g, "peak"), -1, "peak"),
        "Each share of noise against none, with the same images and seeds.",
    ),
    Finding(
        "later", "With more noise the peak is later (2020)",
        "step of the peak over that of real labels",
        _against_real_labels(lambda m, _: courses.peak_step(m), 1, "step"),
        "Here each training's own peak counts.",
    ),
    Finding(
        "random", "Random labels rise far above 1 (2020: to hundreds; 2022: mostly below 5)",
        f"m-coherence of random labels at the peak; above {FAR:.0f} counts as far",
        _each_noise(lambda m, g: courses.change(m, g, "peak"), 1, (100,), bound=FAR),
        "It grows with the sample, of which the paper's is over a hundred times as large, so that "
        "its numbers are not to be compared with these.",
    ),
    Finding(
        "random_saved",
        "With saved batch norm statistics random labels rise far above 1 (new here)",
        "as above, with saved statistics",
        _each_noise(lambda m, g: courses.change(m, g, "peak", mode="saved"), 1, (100,), bound=FAR),
        "The highest value of a single training is said below the table, with the figure.",
    ),
    Finding(
        "first", "The first convolution falls below 1 once all is fitted (2020)",
        "its m-coherence at the end; 1 is the bound",
        _each_noise(_at_end_of("first convolution"), -1, bound=1.0),
        "In few directions a value varies much by chance, and few examples decide it.",
    ),
    Finding(
        "layers", "Convolutions lie above the last layer (2020)",
        "m-coherence of a layer over that of the last one, while fitting",
        _together(
            _named("first convolution", _each_noise(_layer_ratio("first convolution"), 1)),
            _named("middle layer", _each_noise(_layer_ratio("middle layer"), 1)),
        ),
        "The paper's reason: a weight of a convolution is shared by all places of an image.",
    ),
    Finding(
        "size", "Twice the sample shows the same course (2020)",
        f"correlation of the two courses, in logarithms; above {ALIKE} counts as the same",
        _each_noise(_size_correlation, 1, bound=ALIKE, is_log=False),
        "The smaller sample is half of the larger one, so chance is shared in part.",
    ),
    Finding(
        "clean_first", f"Clean examples agree first ({COHERENT_GRADIENTS})",
        "m-coherence of clean probes over corrupted ones, at one size, before half of all are "
        "fitted",
        _each_noise(
            lambda m, _: courses.clean_over_corrupted(m, _before_half(m)), 1, (25, 50, 75)
        ),
        "There on shares of the loss drop; m-coherence by subset is new here.",
    ),
    Finding(
        "corrupted_later", f"Corrupted examples agree later ({COHERENT_GRADIENTS})",
        "the same, while the corrupted probes are being fitted: from 50 to 99 % of them",
        _each_noise(lambda m, _: courses.clean_over_corrupted(m, _at_last(m)), -1, (25, 50, 75)),
        "There on shares of the loss drop; m-coherence by subset is new here.",
    ),
    Finding(
        "clock", "Courses are more alike against the loss than against steps (2022 draws them so)",
        "root mean square difference from real labels at equal loss, over that at equal steps",
        _clock,
        "From 2 down to 0.05 nats. No test: the two have other ranges, and average over other "
        "numbers of values.",
    ),
    Finding(
        "lag", "While it learns, saved batch norm statistics show more (new here)",
        f"m-coherence with saved statistics over recomputed ones, from step {LATE} until 95 % are "
        "fitted",
        _each_noise(lambda m, _: courses.lag(m, _while_learning(m)), 1),
        "Saved averages were gathered while the weights were others.",
    ),
    Finding(
        "lag_at_start", "At step 0 they show less (new here)",
        "the same at step 0",
        _each_noise(lambda m, _: courses.lag(m, m.steps == 0), -1),
        "Fresh averages, of mean 0 and variance 1, fit no data.",
    ),
    Finding(
        "networks", "The same course in other networks (2020)",
        f"correlation with the course of the main network, in logarithms; above {ALIKE} counts as "
        "the same",
        _networks,
        "Networks without batch norm have no statistics that lag.",
    ),
)  # fmt: skip


NEW = "(new here)"
VERDICTS = ("holds", "in part", "does not hold", "cannot be told here")


def summary(study: Study) -> list[str]:
    """The findings by their verdicts, each said of the main network where it names no other."""
    found: dict[str, list[str]] = {name: [] for name in VERDICTS}
    for finding in FINDINGS:
        found[finding.verdict(study)].append(_without_source(finding.says))
    return [
        f"- **{name[0].upper()}{name[1:]}**: {'; '.join(says)}."
        for name, says in found.items()
        if says
    ]


def _without_source(says: str) -> str:
    """A finding in the middle of a sentence, and who says it only where that is this page."""
    plain = says if says.endswith(NEW) else says.partition(" (")[0]
    return plain[0].lower() + plain[1:]


def lines(study: Study) -> list[str]:
    """The table of the page."""
    rows = ["| the paper says | measured is | mean (95 % interval over seeds) | here | note |",
            "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for finding in FINDINGS:
        numbers = (
            "<br>".join(f"{s.where}: {s.value}" for s in finding.seen(study)) or "not measured"
        )
        cells = [finding.says, finding.unit, numbers, f"**{finding.verdict(study)}**", finding.note]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def floor_of_random_labels(study: Study) -> str:
    """The upper end of the band of chance of random labels, between steps 25 and the end."""
    values = [
        np.median(m.values("null_upper")[m.steps >= FIRST_STEPS]) for m in study.of(noise=100)
    ]
    return digits(float(np.mean(values)))
