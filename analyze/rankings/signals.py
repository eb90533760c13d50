"""What may tell wrong labels: the four scores, and what is used today, from the same run.

A signal is ``[T, N]``, higher where a label looks wrong; its value over all checkpoints is the mean
over them, or the last of what already sums over training.

Sources of what is used today: the loss; the margin and its mean over training, AUM (Pleiss et al.,
2020, arXiv:2001.10528); gradient norm, GraNd (Paul et al., 2021, arXiv:2107.07075); forgetting
(Toneva et al., 2019, arXiv:1812.05159); TracIn of an example on itself (Pruthi et al., 2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from analyze.probes.directions import UPDATE
from analyze.rankings.labels import Labels
from analyze.rankings.reference import Reference, pull
from analyze.rankings.scores import SCORES, over_all
from analyze.statistics.alignment import tracin
from analyze.statistics.labelled_examples import learning_rates
from analyze.statistics.regrouping import example_table, grouped_examples

NETWORK = "whole network"
OF_OUTPUT = "output"  # in place of a layer, for what the output alone gives
OVER_ALL = "all"
ALIGNMENT, TODAY = "alignment", "today"  # the two families that are compared
EL2N = "el2n"  # of an example's output, where results have it


@dataclass(frozen=True)
class Candidate:
    """One signal in one layer at one checkpoint, or over all of them."""

    signal: str
    family: str
    layer: str
    checkpoint: str
    score: np.ndarray  # [N]


def layer_names(results: xr.DataTree) -> list[str]:
    """The network, then its layers in forward order."""
    table = example_table(results)
    return [NETWORK, *table["layer"].values.astype(str).tolist()]


def in_layer(results: xr.DataTree, layer: str) -> xr.Dataset:
    """Squared norms and alignments of the network, a layer, or the layers of a pattern, summed."""
    if layer == NETWORK:
        return grouped_examples(results, "network")
    return grouped_examples(results, {layer: [layer]}).isel(layer=0, drop=True)


def candidates(
    results: xr.DataTree, labels: Labels, compared: list[Reference], layers: list[str]
) -> Iterator[Candidate]:
    """Every signal in every layer and at every checkpoint that has it, and over all of them.

    The first of ``compared`` is the one of the four scores; of the others suspicion only.
    """
    table = example_table(results)
    names = [str(name) for name in table["checkpoint"].values]
    measured = np.isfinite(table["loss"].transpose("checkpoint", "probe").values).any(1)
    rates, _ = learning_rates(results)
    for signal, values, last in _of_output(table):
        yield from _of_signal(signal, TODAY, OF_OUTPUT, values, names, measured, last)
    for layer in layers:
        group = in_layer(results, layer)
        squares = group["gradient_sqnorm"].transpose("checkpoint", "probe").values
        norms = np.sqrt(squares)
        yield from _of_signal("gradient norm (GraNd)", TODAY, layer, norms, names, measured)
        own = tracin(squares, rates)
        yield Candidate("TracIn of itself", TODAY, layer, OVER_ALL, own)
        for number, one in enumerate(compared):
            found = pull(group, one)
            for score in list(SCORES.values())[: 1 if number else None]:
                values = score.of(found) * (1.0 if score.wrong_is_high else -1.0)
                name = score.name if score.wrong_is_high else f"{score.name}, reversed"
                name = f"{name}, against {one.name}" if number else name
                yield from _of_signal(name, ALIGNMENT, layer, values, names, measured)
        if UPDATE in group["direction"].values:
            hurt = group["alignment"].sel(direction=UPDATE).transpose("checkpoint", "probe").values
            yield from _of_signal("hurt by the update", ALIGNMENT, layer, hurt, names, measured)


def _of_output(table: xr.Dataset) -> Iterator[tuple[str, np.ndarray, bool]]:
    """Signals of the output: name, ``[T, N]``, and whether the last stands for all checkpoints."""
    yield "loss", table["loss"].transpose("checkpoint", "probe").values, False
    if EL2N in table:
        yield "EL2N", table[EL2N].transpose("checkpoint", "probe").values, False
    if "margin" in table:
        margin = table["margin"].transpose("checkpoint", "probe").values
        yield "margin, reversed", -margin, False
        yield "mean margin so far (AUM), reversed", -_so_far(margin), True
        yield "forgetting", forgetting(margin), True


def _so_far(values: np.ndarray) -> np.ndarray:
    """Means over the checkpoints up to each, ``[T, N]``."""
    return np.stack([over_all(values[: t + 1]) for t in range(len(values))])


def forgetting(margin: np.ndarray) -> np.ndarray:
    """How often an example that was right became wrong up to each checkpoint, ``[T, N]``.

    Infinite for one that never was right, which counts as forgotten most. Ties count as wrong.
    Only measured checkpoints count, so it is less than over every step of training.
    """
    result = np.full(margin.shape, np.nan)
    measured = np.flatnonzero(np.isfinite(margin).any(1))
    right = margin[measured] > 0
    lost = np.zeros(right.shape)
    lost[1:] = right[:-1] & ~right[1:]
    learnt = np.maximum.accumulate(right, axis=0) if len(right) else right
    result[measured] = np.where(learnt, np.cumsum(lost, axis=0), np.inf)
    return np.where(np.isnan(margin), np.nan, result)


def _of_signal(
    signal: str,
    family: str,
    layer: str,
    values: np.ndarray,
    names: list[str],
    measured: np.ndarray,
    last: bool = False,
) -> Iterator[Candidate]:
    """A signal at each checkpoint where any example has it, and over all."""
    known = measured & ~np.isnan(values).all(1)
    if not known.any():
        return
    for t in np.flatnonzero(known):
        yield Candidate(signal, family, layer, names[t], values[t])
    end = values[np.flatnonzero(known)[-1]] if last else over_all(values)
    yield Candidate(signal, family, layer, OVER_ALL, end)
