"""Runs at equal training loss: where each first falls to a level, and its values there.

The training loss is the mean over all training probes. A run is at level l where its loss first is
l or less: checkpoint k, with every earlier one above it. Between k - 1 and k values are linear in
the logarithm of the loss,

    v(l) = (1 - w) v(k - 1) + w v(k),   w = (log L(k-1) - log l) / (log L(k-1) - log L(k)),

and a loss that rises again later changes nothing. The weights count as known: the replicates of
the jackknife are interpolated as the value is, and give the error of the interpolated value. A run
that starts below a level or never falls to it has no value there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from analyze.errors import InputError
from analyze.probes.subsets import ALL
from analyze.statistics import jackknife

LEVELS = 24
SHARES = (0.9, 0.5, 0.1)  # levels of the key events, as shares of the lowest first loss


@dataclass(frozen=True)
class Crossings:
    """The checkpoints between which a run crosses each level, ``[level]``."""

    before: np.ndarray
    after: np.ndarray  # at or below the level
    weight: np.ndarray  # of ``after``; NaN where the level is not crossed

    def of(self, dataset: xr.Dataset) -> xr.Dataset:
        """Every variable over ``checkpoint``, interpolated to the levels; NaN where an end is."""
        bare = dataset.drop_vars([k for k, c in dataset.coords.items() if "checkpoint" in c.dims])
        over = [name for name in bare.data_vars if "checkpoint" in bare[name].dims]
        weight = xr.DataArray(self.weight, dims="checkpoint")
        first, second = (
            bare[over].isel(checkpoint=xr.DataArray(at, dims="checkpoint"))
            for at in (self.before, self.after)
        )
        # A level that a checkpoint hits needs that one alone: the other, times 0, may be NaN.
        mixed = (first * (1 - weight) + second * weight).where((weight > 0) & (weight < 1))
        mixed = mixed.fillna(second.where(weight == 1)).fillna(first.where(weight == 0))
        return bare.drop_vars(over).assign({str(k): v for k, v in mixed.data_vars.items()})


def training_loss(root: xr.Dataset) -> np.ndarray:
    """The mean loss of all training probes, ``[checkpoint]``; NaN where it was not measured."""
    return root["loss"].sel(subset=ALL).values.astype(float)


def in_order(tree: xr.DataTree) -> xr.DataTree:
    """Results with the checkpoints sorted by step, else by epoch, else as they are."""
    root = tree.to_dataset()
    for name in ("step", "epoch"):
        if np.isfinite(root[name].values).all():
            return _ordered(tree, np.argsort(root[name].values, kind="stable"))
    return tree


def _ordered(tree: xr.DataTree, order: np.ndarray) -> xr.DataTree:
    """A tree sorted group by group, as sorting it whole loses coordinates of groups."""
    if (order == np.arange(len(order))).all():
        return tree
    groups = {node.path: node.to_dataset(inherit=False) for node in tree.subtree}
    return xr.DataTree.from_dict(
        {k: v.isel(checkpoint=order, missing_dims="ignore") for k, v in groups.items()}
    )


def first_crossings(loss: np.ndarray, levels: np.ndarray) -> Crossings:
    """The first crossings of each level by a loss ``[checkpoint]`` in the order of training."""
    measured = np.flatnonzero(np.isfinite(loss))
    before, after = np.zeros((2, len(levels)), dtype=int)
    weight = np.full(len(levels), np.nan)
    for k, level in enumerate(levels):
        below = np.flatnonzero(loss[measured] <= level)
        if not len(below):
            continue
        at = int(below[0])
        if at == 0:
            before[k] = after[k] = measured[0]
            weight[k] = 0.0 if loss[measured[0]] == level else np.nan  # it starts below the level
            continue
        before[k], after[k] = measured[at - 1], measured[at]
        high, low = np.log(loss[before[k]]), np.log(loss[after[k]])
        weight[k] = (high - np.log(level)) / (high - low)
    return Crossings(before, after, weight)


def levels_of(losses: Sequence[np.ndarray]) -> np.ndarray | None:
    """Falling levels that at least two runs fall through, evenly spaced in the logarithm; or None.

    None as well for a run without a loss, or with one that is not positive.
    """
    known = [loss[np.isfinite(loss)] for loss in losses]
    if not all(len(loss) and loss.min() > 0 for loss in known):
        return None
    highest = sorted(float(loss[0]) for loss in known)[-2]
    lowest = sorted(float(loss.min()) for loss in known)[1]
    return np.geomspace(highest, lowest, LEVELS) if highest > lowest else None


def common_levels(losses: Sequence[np.ndarray], names: Sequence[str], fix: str) -> np.ndarray:
    """The ``levels_of`` the losses.

    Raises:
        InputError: a run without a loss or with one that is not positive, or no such level; with
            ``fix`` as what to type.
    """
    levels = levels_of(losses)
    if levels is not None:
        return levels
    known = [loss[np.isfinite(loss)] for loss in losses]
    for name, loss in zip(names, known, strict=True):
        if not len(loss) or loss.min() <= 0:
            raise InputError(
                "the run cannot be aligned by its training loss",
                found=f"{name}: " + (f"a loss of {loss.min():g}" if len(loss) else "no loss"),
                expected="positive losses, as levels are spaced by their logarithm",
                fix=fix,
            )
    raise InputError(
        "no two runs fall through the same training loss",
        found=", ".join(f"{n} from {v[0]:.4g} to {v.min():.4g}"
                        for n, v in zip(names, known, strict=True)),
        expected="at least two runs whose losses overlap",
        fix=fix,
    )  # fmt: skip


def event_levels(losses: Sequence[np.ndarray]) -> np.ndarray:
    """Levels of the key events; none if the loss of a run is unknown or not positive."""
    known = [loss[np.isfinite(loss)] for loss in losses]
    if not all(len(loss) and loss.min() > 0 for loss in known):
        return np.array([])
    return np.array(SHARES) * min(float(loss[0]) for loss in known)


def alpha_at(alpha: xr.Dataset, crossings: Crossings) -> xr.Dataset:
    """An estimate of unbiased alpha, its replicates and its error at the levels."""
    at = crossings.of(alpha.drop_vars(["member", "stderr", "lower", "upper"], errors="ignore"))
    theta = at["replicate"].transpose("fold", ...)
    error = jackknife.standard_error(theta.values, at["used"].transpose("fold", ...).values)
    at["stderr"] = theta.isel(fold=0, drop=True).copy(data=error)
    return at


def coherence_of(alpha: xr.Dataset, count: xr.DataArray) -> xr.Dataset:
    """M-coherence of m examples and its 95 % interval from an estimate of unbiased alpha."""
    value, error = alpha["value"], alpha["stderr"]
    scale = count - 1.0
    coherence, spread = (x.transpose(*value.dims) for x in (1.0 + scale * value, scale * error))
    degrees = alpha["degrees_of_freedom"].transpose(*value.dims)
    most = count.broadcast_like(coherence).transpose(*value.dims)
    ends = jackknife.root_interval(coherence.values, spread.values, degrees.values, most.values)
    lower, upper = (value.copy(data=end) for end in ends)
    return xr.Dataset(
        {
            "m_coherence": coherence,
            "m_coherence_stderr": spread,
            "m_coherence_lower": lower,
            "m_coherence_upper": upper,
            "alpha_unbiased": value,
            "alpha_unbiased_stderr": error,
        }
    )
