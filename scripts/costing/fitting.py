"""Speeds from times: non-negative seconds for each thing that takes time, by relative error."""

from __future__ import annotations

import statistics
from collections import defaultdict

import numpy as np
from scipy.optimize import minimize_scalar, nnls

from analyze.gradients.costs.costs import Costs
from analyze.gradients.costs.speeds import Speeds
from analyze.gradients.costs.work import EVERYTHING, Work
from analyze.gradients.data.batches import BatchShape
from scripts.costing.corpus import MODELS
from scripts.costing.times import Timed, Times

ROUNDS = 12
DIGITS = 3

FITTED = {model.name for model in MODELS if model.fitted}


def works(times: Times, call: Timed) -> dict[str, Work]:
    """What each timed algorithm of a call does."""
    form = call.shapes.form(filled=False)
    costs = Costs(BatchShape(form.count, 1, times.threads))
    return {algorithm: costs.work(form, algorithm) for algorithm in call.seconds}


def fitted_seconds(times: Times) -> dict[str, float]:
    """Seconds by one thread of all that takes time, fitted to the models that are for that.

    Least squares of ``log(predicted / measured)``, by solving non-negative linear least squares
    again with the weights that this has at the solution before. The slower an algorithm is than the
    call's best, the less it counts.
    """
    amounts, measured, counts = [], [], []
    for call in times.measured:
        if call.models.keys().isdisjoint(FITTED):
            continue
        best = min(call.seconds.values())
        for algorithm, work in works(times, call).items():
            amounts.append([work[what] for what in EVERYTHING])
            measured.append(call.seconds[algorithm])
            counts.append(best / call.seconds[algorithm])
    solution = _fitted(np.array(amounts, float), np.array(measured), np.array(counts))
    return {w: float(f"{s:.{DIGITS}g}") for w, s in zip(EVERYTHING, solution, strict=True)}


def _fitted(amounts: np.ndarray, measured: np.ndarray, counts: np.ndarray) -> np.ndarray:
    scale = (amounts / measured[:, None]).max(0)
    scale[scale == 0] = 1.0
    amounts, weights = amounts / scale, counts / measured
    for _ in range(ROUNDS):
        solution, _ = nnls(amounts * weights[:, None], measured * weights, maxiter=100_000)
        ratio = np.maximum(amounts @ solution / measured, 1e-3)
        off = np.where(np.abs(ratio - 1) < 1e-6, 1.0, ratio - 1)
        logarithms = np.where(off == 1.0, 1.0, np.log(ratio))
        weights = counts * logarithms / off / measured
    return solution / scale


def fitted_gain(times: Times, seconds: dict[str, float]) -> float:
    """The gain of several threads, 0 to 1, from times by so many."""
    rows = [
        (work, call.seconds[algorithm])
        for call in times.measured
        for algorithm, work in works(times, call).items()
    ]

    def error(gain: float) -> float:
        speeds = Speeds(seconds, gain)
        logs = [np.log(speeds.of(work, times.threads) / measured) for work, measured in rows]
        return float(np.abs(logs).mean())

    return round(float(minimize_scalar(error, bounds=(0.0, 1.0)).x), 2)


def regrets(times: Times, speeds: Speeds) -> dict[str, float]:
    """By model: the time of the algorithms that speeds choose, over that of the fastest."""
    chosen: dict[str, float] = defaultdict(float)
    best: dict[str, float] = defaultdict(float)
    for call in times.measured:
        predicted = {a: speeds.of(w, times.threads) for a, w in works(times, call).items()}
        choice = min(predicted, key=predicted.__getitem__)
        for model, often in call.models.items():
            chosen[model] += often * call.seconds[choice]
            best[model] += often * min(call.seconds.values())
    return {model: chosen[model] / best[model] for model in chosen}


def spread(times: Times, speeds: Speeds) -> dict[str, float]:
    """By algorithm: the median of how far predictions are off, as a factor."""
    off: dict[str, list[float]] = defaultdict(list)
    for call in times.measured:
        for algorithm, work in works(times, call).items():
            ratio = speeds.of(work, times.threads) / call.seconds[algorithm]
            off[algorithm].append(max(ratio, 1 / ratio))
    return {algorithm: statistics.median(ratios) for algorithm, ratios in off.items()}
