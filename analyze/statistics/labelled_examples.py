"""Alignments of single examples on the tree; the work is done on plain arrays.

Letters as in ``alignment``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from analyze.errors import InputError
from analyze.probes.directions import OWN as MOVEMENTS
from analyze.probes.directions import UPDATE
from analyze.probes.subsets import ALL
from analyze.statistics import alignment as plain
from analyze.statistics.regrouping import (
    direction_members,
    example_table,
    grouped_examples,
    held_out,
    probe_members,
)

RATE = "learning_rate"  # a coordinate of checkpoints, where they have one

MEANINGS = {
    "alignment": ("dot product of the example's gradient with the direction", ""),
    "cosine": ("cosine between the example's gradient and the direction without it", "1"),
    "helped_by": ("examples of the group that a step along the example's gradient helps", "1"),
    "leave_one_out": ("dot product of the example's gradient with the sum of all others", ""),
    "zero_sum_share": ("share of the help that harm to other examples cancels", "1"),
    "share_helped": ("share of a subset's examples that help others of the group", "1"),
    "self_influence": ("squared gradient norm summed likewise", ""),
    "tracin": ("alignment summed over checkpoints, times the learning rate", ""),
}  # fmt: skip


def has_directions(results: xr.DataTree) -> bool:
    """Whether a run measured alignments with directions."""
    return "examples" in results.children and "alignment" in results.children["examples"].variables


def check_directions(results: xr.DataTree) -> None:
    """Refuse results without alignments.

    Raises:
        InputError: the run measured no directions.
    """
    if not has_directions(results):
        raise InputError(
            "the results do not say which way single examples pull",
            found="no alignment in the group /examples",
            expected="a run that measured directions: sums of subsets, with which each example's "
            "gradient is compared",
            fix=f"analyze run RUN --directions {','.join([ALL, *held_out(results)])} "
            "--output OUT.h5",
        )


def direction_names(results: xr.DataTree) -> list[str]:
    """The directions of a run; none where it measured none."""
    if not has_directions(results):
        return []
    table = example_table(results)
    return [str(name) for name in table["direction"].values]


def examples(
    results: xr.DataTree, *, layers: str | Mapping[str, Sequence[str]] = "network"
) -> xr.Dataset:
    """Whom each example helps: its alignment with every direction of the run.

    Args:
        results: The results tree of a run with ``directions``.
        layers: ``network``, ``layers``, or groups of layers by name, as for ``coherence``.

    Returns:
        Over checkpoint, direction, layer (but for the network) and probe: ``alignment``, g·v, in
        ``(loss per unit of weight)^2`` for sums of gradients; ``cosine`` with the direction, which
        is taken without the example itself where that is part of it; ``helped_by``, g·v/|g|^2,
        and ``leave_one_out``, g·v less |g|^2 for a member (both NaN for weights and updates).
        ``zero_sum_share`` without probe, and ``share_helped`` with ``subset`` in its place.

    Raises:
        InputError: a run without directions, or layers that ``coherence`` refuses.

    Example:
        ``analyze.statistics.examples(results)["cosine"].sel(direction="all")``

    Cost: a few passes over ``/examples``, in float64.
    """
    check_directions(results)
    group = grouped_examples(results, layers)
    a, q = group["alignment"].astype(float), group["gradient_sqnorm"].astype(float)
    names = [str(name) for name in group["direction"].values]
    order = tuple(d for d in ("checkpoint", "direction", "layer", "probe") if d in a.dims)
    a = a.transpose(*order)
    # The direction is an axis of its own, with a member's own part in each.
    squares = q.expand_dims(direction=names).transpose(*order).values
    member = np.stack(list(direction_members(results).values()))
    member = member.reshape(len(names), *[1] * (len(order) - 3), -1)
    norm = group["direction_norm"].transpose(*order[:-1]).values[..., None]
    others = plain.leave_one_out(a.values, squares, member)
    sums = ~np.isin(names, MOVEMENTS).reshape(len(names), *[1] * (len(order) - 2))
    dataset = xr.Dataset(coords={k: v for k, v in a.coords.items() if set(v.dims) <= set(order)})
    values = {
        "alignment": a.values,
        "cosine": plain.cosine_with_others(a.values, squares, norm, member),
        "helped_by": np.where(sums, plain.helped_by(a.values, squares), np.nan),
        "leave_one_out": np.where(sums, others, np.nan),
    }
    for name, value in values.items():
        dataset[name] = (order, value)
    dataset["zero_sum_share"] = (order[:-1], plain.zero_sum_share(a.values))
    dataset["share_helped"] = _shares(results, dataset, others, squares)
    return _described(dataset)


def tracin(
    results: xr.DataTree, *, layers: str | Mapping[str, Sequence[str]] = "network"
) -> xr.Dataset:
    """Influence of training on each example, summed over the checkpoints: TracIn.

    ``sum_t eta_t g_it . v_t`` for every direction that is a sum of gradients: the first-order drop
    of the summed loss of that group by steps on example i alone. ``eta_t`` is the coordinate
    ``learning_rate`` of the checkpoints where all that were measured have one, else 1; the
    attribute ``rates`` says which. Checkpoints are far apart, so it ranks, and predicts no loss.

    Args:
        results: The results tree of a run with ``directions``.
        layers: ``network``, ``layers``, or groups of layers by name, as for ``coherence``.

    Returns:
        ``tracin(direction, [layer,] probe)``, and ``self_influence([layer,] probe)``, the same sum
        of an example's squared norms.

    Raises:
        InputError: a run without directions, or layers that ``coherence`` refuses.

    Example:
        ``analyze.statistics.tracin(results)["tracin"].sel(direction="all")``
    """
    check_directions(results)
    group = grouped_examples(results, layers)
    group = group.sel(direction=~np.isin(group["direction"].values.astype(str), MOVEMENTS))
    rates, said = learning_rates(results)
    dataset = xr.Dataset(coords={k: v for k, v in group.coords.items() if k != "checkpoint"})
    for name, source in (("tracin", "alignment"), ("self_influence", "gradient_sqnorm")):
        values = group[source].astype(float).transpose("checkpoint", ..., "probe")
        dataset[name] = (values.dims[1:], plain.tracin(values.values, rates))
        dataset[name].attrs = {"rates": said}
    return _described(dataset.drop_vars(["step", "epoch", RATE], errors="ignore"))


def learning_rates(results: xr.DataTree) -> tuple[np.ndarray, str]:
    """The learning rate of each checkpoint, ``[T]``, and where it is from; 1 where unknown."""
    table = example_table(results)
    known = np.isfinite(table["loss"].transpose("checkpoint", "probe").values).any(1)
    if RATE in table.coords and np.isfinite(table[RATE].values[known]).all():
        return np.asarray(table[RATE].values, dtype=float), "those of the checkpoints"
    return np.ones(len(known)), "1 for every checkpoint, as their learning rates are not known"


def _shares(
    results: xr.DataTree, dataset: xr.Dataset, others: np.ndarray, squares: np.ndarray
) -> xr.DataArray:
    """``share_helped`` of every subset; an update helps where the loss falls along it."""
    rows = probe_members(results)
    # Along an update, g.v is the change of the loss: examples with a negative one are helped.
    update = dataset["direction"].values.astype(str) == UPDATE
    sign = np.where(update, -1.0, 1.0).reshape(-1, *[1] * (others.ndim - 2))
    shares = [plain.share_helped(sign * others[..., r], squares[..., r]) for r in rows.values]
    dims = (*(d for d in dataset["alignment"].dims if d != "probe"), "subset")
    return xr.DataArray(np.stack(shares, -1), dims=dims, coords={"subset": rows["subset"]})


def _described(dataset: xr.Dataset) -> xr.Dataset:
    """Every variable with its meaning, and its unit where all directions share one."""
    for name, variable in dataset.data_vars.items():
        long_name, units = MEANINGS.get(str(name), ("", ""))
        texts = {"long_name": long_name, "units": units}
        variable.attrs |= {key: text for key, text in texts.items() if text}
    return dataset
