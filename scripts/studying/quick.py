"""A part of the study measured again, beside the page: whether each number is in its interval.

The interval is that of one more seed, 95 % of Student's t around the mean of the page's seeds.
"""

from __future__ import annotations

import numpy as np

from analyze.statistics.arrays import LEVEL
from scripts.studying.findings import FINDINGS
from scripts.studying.seeds import OverSeeds, digits
from scripts.studying.store import Measured, Study


def compared(page: Study, again: Study) -> tuple[list[str], bool]:
    """Lines to print, and whether at least 95 % of the numbers lie within.

    Args:
        page: The trainings of the page.
        again: Some of them, of the first network, trained and measured anew.
    """
    anew = {m.training: m for m in again.done}
    replaced = Study(tuple(anew.get(m.training, m) for m in page.done))
    noises = {f"{m.training.noise} %" for m in again.done}
    lines, inside = [], []
    for finding in FINDINGS:
        for first, second in zip(finding.seen(page), finding.seen(replaced), strict=True):
            if finding.name != "networks" and _noise(second.where) in noises:
                for value in _of_seeds(second.value, {m.training.seed for m in again.done}):
                    inside.append(first.value.holds_one_more(value))
                    lines.append(_line(f"{finding.name}, {first.where}", first.value, value))
    equal = all(m.table.equals(page_of.table) for m, page_of in _pairs(page, again))
    lines.append(
        f"{sum(inside)} of {len(inside)} numbers lie within the intervals of one more seed"
        f"{'; all files are equal to those of the page' if equal else ''}"
    )
    return lines, bool(inside) and float(np.mean(inside)) >= LEVEL


def _noise(where: str) -> str:
    """``50 %`` of ``first convolution, 50 %`` and of ``50 % against 0 %``."""
    return where.rpartition(", ")[2].partition(" against ")[0]


def _of_seeds(value: OverSeeds, seeds: set[int]) -> list[float]:
    return [v for v, seed in zip(value.values, value.seeds, strict=True) if seed in seeds]


def _pairs(page: Study, again: Study) -> list[tuple[Measured, Measured]]:
    named = {m.training: m for m in page.done}
    return [(m, named[m.training]) for m in again.done]


def _line(what: str, page: OverSeeds, value: float) -> str:
    shown = digits(float(np.exp(value)) if page.is_log else value)
    mark = "within" if page.holds_one_more(value) else "OUTSIDE"
    return f"{what:40} {shown:>8} {mark}; the page has {page}"
