"""Coherence from labelled sufficient statistics: xarray in, xarray out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

from analyze.probes.subsets import ALL
from analyze.statistics import arrays, companions, jackknife, noise_floor
from analyze.statistics.variables import described

Variables = dict[str, np.ndarray]


@dataclass(frozen=True)
class Sums:
    """Sufficient statistics as plain arrays; see ``jackknife.replicates`` for the letters.

    Args:
        leading: Names of the dimensions before the cells.
        gram: ``[..., C, C]``.
        squared: ``[..., C]``.
        counts: ``[C]``.
        fold: ``[C]``.
        members: ``[S, C]``.
        subsets: The names of the subsets.
    """

    leading: tuple[Hashable, ...]
    gram: np.ndarray
    squared: np.ndarray
    counts: np.ndarray
    fold: np.ndarray
    members: np.ndarray
    subsets: list[str]

    @classmethod
    def of(cls, parameters: xr.Dataset, members: xr.DataArray) -> Sums:
        """From ``gradient_gram``, ``gradient_sqnorm`` and ``probe_count``, in any order of axes."""
        leading = tuple(d for d in parameters["gradient_sqnorm"].dims if d != "cell")
        return cls(
            leading,
            parameters["gradient_gram"].transpose(*leading, "cell", "cell_other").values,
            parameters["gradient_sqnorm"].transpose(*leading, "cell").values,
            parameters["probe_count"].values,
            parameters["cell_fold"].values,
            members.transpose("subset", "cell").values,
            [str(name) for name in members["subset"].values],
        )

    @cached_property
    def size(self) -> np.ndarray:
        """Examples of each subset, ``[S]``."""
        return self.members.astype(float) @ self.counts

    @cached_property
    def dots(self) -> np.ndarray:
        """``[..., S, S]``, dot products of the subsets' gradient sums."""
        return arrays.subset_dots(self.gram, self.members)

    @cached_property
    def squares(self) -> np.ndarray:
        """``[..., S]``, sums of squared norms."""
        return arrays.subset_squares(self.squared, self.members)

    def replicates(self) -> jackknife.Replicates:
        """What is left without each fold."""
        return jackknife.replicates(self.gram, self.squared, self.counts, self.members, self.fold)


def coherence(
    parameters: xr.Dataset, members: xr.DataArray, examples: xr.Dataset | None = None
) -> xr.Dataset:
    """The coherence variables of the results file; ``docs/statistics.md`` explains each.

    Args:
        parameters: ``gradient_gram(..., cell, cell_other)``, ``gradient_sqnorm(..., cell)`` and
            ``probe_count(cell)`` with the coordinate ``cell_fold``; any further dimensions.
        members: Booleans ``(subset, cell)``, which cells each subset is made of.
        examples: What ``of_examples`` gives, over the same dimensions; its variables are taken
            over, and single examples that stand out widen the intervals.

    Returns:
        Over ``(..., subset)`` m-coherence, alpha, their errors and intervals, the noise floor and
        companions; over ``subset_other`` as well what is between subsets. Coherence is NaN where
        there is no gradient; norms are NaN only where the statistics are.
    """
    sums = Sums.of(parameters, members)
    single = _values(sums) | _noise_floor(sums) | _companions(sums)
    between = _between(sums)
    kurtosis = None
    if examples is not None:
        kept = examples.transpose(*sums.leading, "subset")
        kurtosis = kept["excess_kurtosis"].values
        single |= {str(k): v.values for k, v in kept.drop_vars("excess_kurtosis").items()}
    _add_errors(single, between, sums, kurtosis)
    variables = {k: ((*sums.leading, "subset"), v) for k, v in single.items()}
    variables |= {k: ((*sums.leading, "subset", "subset_other"), v) for k, v in between.items()}
    coords = {d: parameters[d] for d in sums.leading if d in parameters.coords}
    dataset = xr.Dataset(
        variables, {**coords, "subset": sums.subsets, "subset_other": sums.subsets}
    )
    for name in ("coherence_at_common_size", "coherence_at_common_size_stderr"):
        dataset[name].attrs["size"] = common_size(sums)
    return described(dataset)


def of_examples(norms: xr.DataArray, members: xr.DataArray) -> xr.Dataset:
    """What does not add up over parameters, from every example's squared norm.

    Args:
        norms: ``(..., probe)``.
        members: Booleans ``(subset, probe)``.

    Returns:
        ``m_coherence_ceiling``, ``effective_sample_size``, ``share_without_gradient`` and
        ``excess_kurtosis`` of the squared norms, ``(..., subset)``.
    """
    leading = [d for d in norms.dims if d != "probe"]
    values = norms.transpose(*leading, "probe").values.astype(float)
    functions = {
        "m_coherence_ceiling": companions.ceiling,
        "effective_sample_size": companions.effective_sample_size,
        "share_without_gradient": companions.share_without_gradient,
        "excess_kurtosis": companions.excess_kurtosis,
    }
    rows = members.transpose("subset", "probe").values
    nothing = np.full(values.shape[:-1], np.nan)
    found = {
        name: np.stack([f(values[..., r]) if r.any() else nothing for r in rows], axis=-1)
        for name, f in functions.items()
    }
    coords = {d: norms[d] for d in leading if d in norms.coords}
    return xr.Dataset(
        {name: ((*leading, "subset"), v) for name, v in found.items()},
        {**coords, "subset": members["subset"].values},
    )


def common_size(sums: Sums) -> int:
    """The size at which subsets are compared: that of the smallest that has any examples."""
    sizes = sums.size[sums.size > 0]
    return int(sizes.min(initial=np.inf)) if len(sizes) else 0


def _values(sums: Sums) -> Variables:
    total, squares, m = np.diagonal(sums.dots, axis1=-2, axis2=-1), sums.squares, sums.size
    unbiased = arrays.alpha_unbiased(total, squares, m)
    return {
        "m_coherence": arrays.m_coherence(total, squares),
        "alpha": arrays.alpha(total, squares, m),
        "alpha_unbiased": unbiased,
        "coherence_at_common_size": companions.coherence_at_size(unbiased, common_size(sums)),
        "norm_of_mean_gradient": arrays.ratio(np.sqrt(np.maximum(total, 0.0)), m),
        "mean_squared_gradient_norm": arrays.ratio(squares, m),
    }


def _noise_floor(sums: Sums) -> Variables:
    total = np.diagonal(sums.dots, axis1=-2, axis2=-1)
    value = arrays.m_coherence(total, sums.squares)
    dimension = noise_floor.effective_dimension(
        sums.gram, sums.squared, sums.counts, sums.members, sums.fold
    )
    lower, upper = noise_floor.null_band(dimension)
    p = noise_floor.p_value(value, dimension)
    one_by_one = [noise_floor.adjusted(p[..., k]) for k in range(p.shape[-1])]
    return {
        "effective_dimension": dimension,
        "null_lower": lower,
        "null_upper": upper,
        "p_value": p,
        "p_value_adjusted": np.stack(one_by_one, axis=-1),
        "z_score": noise_floor.z_score(p),
    }


def _companions(sums: Sums) -> Variables:
    value = arrays.m_coherence(np.diagonal(sums.dots, axis1=-2, axis2=-1), sums.squares)
    found = {
        "noise_scale": companions.noise_scale(value, sums.size),
        "gradient_diversity": companions.gradient_diversity(value),
    }
    if ALL in sums.subsets:
        whole = sums.subsets.index(ALL)
        found["loss_drop_share"] = companions.loss_drop_share(sums.dots, whole)
    return found


def _between(sums: Sums) -> Variables:
    dots, m, members = sums.dots, sums.size, sums.members.astype(float)
    common = np.einsum("sc,tc,c->st", members, members, sums.counts)
    shared = np.einsum("sc,tc,...c->...st", members, members, sums.squared)
    return {
        "gradient_dot": arrays.ratio(dots, m[:, None] * m[None, :]),
        "gradient_cosine": arrays.cosine(dots),
        "cross_help": companions.cross_help(dots, shared, m, common),
    }


def _add_errors(
    single: Variables, between: Variables, sums: Sums, kurtosis: np.ndarray | None
) -> None:
    """Standard errors of what has one, and the interval of m-coherence."""
    left = sums.replicates()
    error = jackknife.standard_error(left.alpha_unbiased(), left.used)
    degrees = jackknife.degrees_of_freedom(
        left.used.sum(0), sums.size, np.zeros_like(error) if kurtosis is None else kurtosis
    )
    value, stderr = single["m_coherence"], (sums.size - 1.0) * error
    degrees = np.where(np.isnan(value), np.nan, degrees)
    lower, upper = jackknife.interval(value, stderr, degrees)
    single |= {
        "m_coherence_stderr": stderr,
        "m_coherence_lower": lower,
        "m_coherence_upper": upper,
        "degrees_of_freedom": degrees,
        "alpha_unbiased_stderr": error,
        "coherence_at_common_size_stderr": (common_size(sums) - 1.0) * error,
    }
    between["gradient_cosine_stderr"] = jackknife.standard_error(left.cosine(), left.used_pairs)


def subset_members(
    cell_subset: Sequence[str] | np.ndarray, subset_names: Sequence[str], held_out: Sequence[str]
) -> xr.DataArray:
    """Which cells each subset is made of, ``(subset, cell)``; ``all`` is what is not held out."""
    cells = np.asarray(cell_subset, dtype=str)
    rows = [cells == name for name in subset_names]
    rows.append(~np.isin(cells, list(held_out)))
    return xr.DataArray(
        np.stack(rows), dims=("subset", "cell"), coords={"subset": [*subset_names, ALL]}
    )


def summed(dataset: xr.Dataset) -> xr.Dataset:
    """Sufficient statistics added up over all parameters.

    Parameters that are never used (NaN) are skipped; where there is nothing else it stays NaN.
    """
    return dataset.sum("parameter", skipna=True, min_count=1, keep_attrs=True)
