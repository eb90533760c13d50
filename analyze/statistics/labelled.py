"""Coherence from labelled sufficient statistics: xarray in, xarray out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from analyze.statistics import arrays

ATTRIBUTES: dict[str, tuple[str, str]] = {
    "m_coherence": ("m-coherence: |sum of gradients|^2 / sum of |gradient|^2", "1"),
    "m_coherence_stderr": ("standard error of m-coherence, jackknife over folds", "1"),
    "alpha": ("m-coherence divided by the number of examples", "1"),
    "alpha_unbiased": ("(m-coherence - 1) / (number of examples - 1)", "1"),
    "norm_of_mean_gradient": ("norm of the mean gradient", "loss per unit of weight"),
    "mean_squared_gradient_norm": (
        "mean squared norm of per-example gradients",
        "(loss per unit of weight)^2",
    ),
    "gradient_dot": (
        "dot product of the mean gradients of two subsets",
        "(loss per unit of weight)^2",
    ),
    "gradient_cosine": ("cosine between the mean gradients of two subsets", "1"),
}


def coherence(parameters: xr.Dataset, members: xr.DataArray) -> xr.Dataset:
    """The coherence variables of the results file.

    Args:
        parameters: ``gradient_gram(..., cell, cell_other)``, ``gradient_sqnorm(..., cell)`` and
            ``probe_count(cell)`` with the coordinate ``cell_fold``; any further dimensions.
        members: Booleans ``(subset, cell)``, which cells each subset is made of.

    Returns:
        ``m_coherence``, its standard error, ``alpha``, ``alpha_unbiased`` and the norms over
        ``(..., subset)``; ``gradient_dot`` and ``gradient_cosine`` also over ``subset_other``.
        Coherence is NaN where there is no gradient; norms are NaN only where the statistics are.
    """
    leading = [d for d in parameters["gradient_sqnorm"].dims if d != "cell"]
    gram = parameters["gradient_gram"].transpose(*leading, "cell", "cell_other").values
    squared = parameters["gradient_sqnorm"].transpose(*leading, "cell").values
    counts = parameters["probe_count"].values
    fold = parameters["cell_fold"].values
    which = members.transpose("subset", "cell").values
    m = which.astype(float) @ counts  # [S]

    dots = arrays.subset_dots(gram, which)
    total = np.diagonal(dots, axis1=-2, axis2=-1)
    squares = arrays.subset_squares(squared, which)
    single = {
        "m_coherence": arrays.m_coherence(total, squares),
        "m_coherence_stderr": arrays.m_coherence_stderr(gram, squared, counts, which, fold),
        "alpha": arrays.alpha(total, squares, m),
        "alpha_unbiased": arrays.alpha_unbiased(total, squares, m),
        "norm_of_mean_gradient": arrays.ratio(np.sqrt(np.maximum(total, 0.0)), m),
        "mean_squared_gradient_norm": arrays.ratio(squares, m),
    }
    paired = {
        "gradient_dot": arrays.ratio(dots, m[:, None] * m[None, :]),
        "gradient_cosine": arrays.cosine(dots),
    }
    names = members["subset"].values
    variables = {k: ((*leading, "subset"), v) for k, v in single.items()}
    variables |= {k: ((*leading, "subset", "subset_other"), v) for k, v in paired.items()}
    coords = {d: parameters[d] for d in leading if d in parameters.coords}
    dataset = xr.Dataset(variables, {**coords, "subset": names, "subset_other": names})
    for name in dataset.data_vars:
        long_name, units = ATTRIBUTES[str(name)]
        dataset[name].attrs = {"long_name": long_name, "units": units}
    return dataset


def subset_members(
    cell_subset: Sequence[str] | np.ndarray, subset_names: Sequence[str], held_out: Sequence[str]
) -> xr.DataArray:
    """Which cells each subset is made of, ``(subset, cell)``; ``all`` is what is not held out."""
    cells = np.asarray(cell_subset)
    rows = [cells == name for name in subset_names]
    rows.append(~np.isin(cells, list(held_out)))
    return xr.DataArray(
        np.stack(rows), dims=("subset", "cell"), coords={"subset": [*subset_names, "all"]}
    )


def summed_over(dataset: xr.Dataset, group: str) -> xr.Dataset:
    """Sufficient statistics added up over parameters with the same ``group`` coordinate.

    Parameters that are never used (NaN) are skipped; a group of nothing else stays NaN. The groups
    keep the order of their first parameters.
    """
    order = list(dict.fromkeys(dataset[group].values))
    sums = dataset[["gradient_gram", "gradient_sqnorm"]].groupby(group)
    summed = sums.sum("parameter", skipna=True, min_count=1, keep_attrs=True).sel({group: order})
    summed = summed.transpose("checkpoint", group, ...)
    return summed.assign(probe_count=dataset["probe_count"])


def summed_over_network(dataset: xr.Dataset) -> xr.Dataset:
    """Sufficient statistics added up over all parameters."""
    return dataset.sum("parameter", skipna=True, min_count=1, keep_attrs=True)
