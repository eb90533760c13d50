"""What single trainings show: logarithms of m-coherence over steps, at phases and at peaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scripts.studying.design import FIRST_STEPS, SPACED_STEPS
from scripts.studying.store import Measured

EARLY = (3, 4)  # steps: after the collapse
LAST = 2  # measured steps at the end; a peak lies before them and their neighbour


def log_coherence(measured: Measured, **choice: Any) -> np.ndarray:
    """``log m-coherence`` over the steps; NaN where it is not positive."""
    values = measured.values(**choice)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(values > 0, np.log(values), np.nan)


def smooth(series: np.ndarray) -> np.ndarray:
    """The mean of each value and its two neighbours, as far as there are such; else NaN."""
    padded = np.pad(series, 1, constant_values=np.nan)
    three = np.stack([padded[:-2], padded[1:-1], padded[2:]])
    count = np.isfinite(three).sum(0)
    return np.where(count, np.nansum(three, 0) / np.maximum(count, 1), np.nan)


def spaced(measured: Measured) -> np.ndarray:
    """Which steps lie evenly on a logarithmic axis: none of the phases counts for too much."""
    return np.isin(measured.steps, SPACED_STEPS)


def at(measured: Measured, steps: Sequence[int], **choice: Any) -> float:
    """The mean logarithm at some steps."""
    return float(np.nanmean(log_coherence(measured, **choice)[np.isin(measured.steps, steps)]))


def at_end(measured: Measured, **choice: Any) -> float:
    """The mean logarithm at the last measured steps."""
    return float(np.nanmean(log_coherence(measured, **choice)[-LAST:]))


def while_fitting(measured: Measured) -> np.ndarray:
    """Which steps: at least half, and no more than 95 %, of all training probes are fitted."""
    accuracy = measured.values("accuracy")
    return spaced(measured) & (accuracy >= 0.5) & (accuracy <= 0.95)


def fitting(measured: Measured, **choice: Any) -> float:
    """The mean logarithm while the training probes are being fitted."""
    series = log_coherence(measured, **choice)[while_fitting(measured)]
    return float(np.nanmean(series)) if np.isfinite(series).any() else float("nan")


def places_of_extremes(
    measured: Measured, others: Sequence[Measured], **choice: Any
) -> tuple[int, int] | None:
    """Where the trough and the peak after it are in the mean of the other seeds.

    The highest of many values that vary by chance is too high; at a place that other seeds chose a
    training's own value is not. None where there is no other seed.
    """
    series = [smooth(log_coherence(m, **choice)) for m in others if m is not measured]
    if not series:
        return None
    return trough_and_peak(np.mean(series, 0), measured.steps)


def trough_and_peak(mean: np.ndarray, steps: np.ndarray) -> tuple[int, int]:
    """The lowest place within the first steps, and the highest after it and before the end.

    Of smoothed values, so that the neighbour is among the first steps as well.
    """
    first = (steps >= 1) & (np.append(steps[1:], np.inf) <= FIRST_STEPS)
    trough = int(np.nanargmin(np.where(first, mean, np.nan)))
    return trough, trough + int(np.nanargmax(mean[trough : -LAST - 1]))


def peak_step(measured: Measured) -> float:
    """The logarithm of the step of the training's own peak."""
    return float(
        np.log(measured.steps[trough_and_peak(smooth(log_coherence(measured)), measured.steps)[1]])
    )


def change(
    measured: Measured, others: Sequence[Measured], which: str, **choice: Any
) -> float | None:
    """``rise`` from the trough to the peak, ``return`` from there to the end, ``peak``: its value.

    Logarithms; None where there is no other seed.
    """
    places = places_of_extremes(measured, others, **choice)
    if places is None:
        return None
    own = smooth(log_coherence(measured, **choice))
    trough, peak = own[places[0]], own[places[1]]
    values = {
        "rise": peak - trough, "return": at_end(measured, **choice) - peak, "peak": peak,
    }  # fmt: skip
    return float(values[which])


def at_size(measured: Measured, subset: str, size: int, **choice: Any) -> np.ndarray:
    """``1 + (size - 1) alpha``, what a subset would show with ``size`` probes, over the steps."""
    count = float(measured.table["count"].sel(subset=subset, size=choice.get("size", "2m"),
                                              mode=choice.get("mode", "recomputed")))  # fmt: skip
    values = measured.values(subset=subset, **choice)
    return 1 + (size - 1) * (values - 1) / (count - 1)


def clean_over_corrupted(measured: Measured, chosen: np.ndarray) -> float:
    """``log`` of the ratio of their m-coherence at one size, mean over the chosen steps."""
    pair = [at_size(measured, name, 100)[chosen] for name in ("clean", "corrupted")]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(pair[0] / pair[1])
    return float(np.nanmean(ratio)) if np.isfinite(ratio).any() else float("nan")


def at_losses(measured: Measured, losses: np.ndarray) -> np.ndarray:
    """``log m-coherence`` where the loss first falls to each of ``losses``, between two steps."""
    loss = np.minimum.accumulate(measured.values("loss"))
    series = smooth(log_coherence(measured))
    keep = np.concatenate([[True], np.diff(loss) < 0])
    return np.interp(-np.log(losses), -np.log(loss[keep]), series[keep], np.nan, np.nan)


def lag(measured: Measured, chosen: np.ndarray) -> float:
    """``log`` of m-coherence with saved statistics over recomputed ones, over the chosen steps."""
    ratio = log_coherence(measured, mode="saved") - log_coherence(measured)
    found = ratio[chosen & np.isfinite(ratio)]
    return float(found.mean()) if len(found) else float("nan")
