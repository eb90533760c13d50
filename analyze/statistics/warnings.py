"""Warnings where the metric misleads: flags stored with each value, and sentences on them.

Every value of m-coherence has ``warning_flags`` beside it, a sum of powers of two in the convention
of CF (``flag_masks`` and ``flag_meanings``), computed from the results tree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import xarray as xr

from analyze.errors import listed
from analyze.probes.subsets import ALL
from analyze.statistics.regrouping import cell_members, held_out, provenance
from analyze.statistics.significance import RATE, within_chance
from analyze.text import place_text

FLAGS = "warning_flags"
LAGGING = 0.05  # relative difference of the loss under saved and recomputed statistics
OPPOSED = -0.9  # cosine between a subset and the rest of the training probes
CANCELLED = 0.5  # norm of the sum over the training probes, in that of the subset
# Effective examples, and their share of all, below both of which 95 % intervals cover less.
# Simulated, unequal norms (log-normal) at alpha 0.2: 100 probes with a share of 0.4 are covered in
# 94 % of the cases and with 0.17 in 85 %, 1,000 probes with 0.11 in 92 % and with 0.03 in 82 %.
FEW_EXAMPLES, FEW_SHARE = 100, 1 / 3
FEW_FOLDS = 5
UNEQUAL = "unbalanced_subsets"
UNBALANCED = 1.25  # ratio of the sizes of subsets
OWN_LOSSES = ("cross_entropy", "binary_cross_entropy_with_logits")


@dataclass(frozen=True)
class Kind:
    """A kind of warning; ``find`` gives booleans over some of checkpoint, layer and subset."""

    name: str  # in flag_meanings
    mark: str  # a letter to put at a value; empty where a whole column of values has the warning
    text: str  # the meaning for the value, in one sentence
    find: Callable[[xr.DataTree, xr.Dataset], xr.DataArray | bool]


def _near_stationary(results: xr.DataTree, group: xr.Dataset) -> xr.DataArray | bool:
    """Where a training subset's gradient is nearly opposite to that of all others together."""
    names = [str(name) for name in group["subset"].values]
    training = [name for name in names if name not in (ALL, *held_out(results))]
    if "gradient_dot" not in group or len(training) < 2:
        return False
    value = group["m_coherence"].transpose(..., "subset")
    count = results.to_dataset()["probe_count"].sel(subset=names).values.astype(float)
    means = group["gradient_dot"].transpose(*value.dims, "subset_other").values
    sums = means * count[:, np.newaxis] * count
    of_all = names.index(ALL)
    whole = sums[..., of_all]  # S_A . S
    squares = np.diagonal(sums, axis1=-2, axis2=-1)  # |S_A|^2
    of_whole = squares[..., [of_all]]
    rest = of_whole - 2 * whole + squares  # |S - S_A|^2
    product = squares * rest
    cosine = (whole - squares) / np.sqrt(np.where(product > 0, product, np.nan))
    opposed = (cosine < OPPOSED) & (of_whole < CANCELLED**2 * squares)
    opposed &= np.isin(names, training)
    if "null_upper" in group:  # with few directions noise is opposite by chance
        opposed &= value.values > group["null_upper"].transpose(*value.dims).values
    # The union is what cancels, so its value misleads, too.
    opposed |= opposed.any(-1, keepdims=True) & (np.array(names) == ALL)
    return value.copy(data=opposed)


def _unbalanced(results: xr.DataTree, group: xr.Dataset) -> xr.DataArray:
    """Where a subset is larger than the smallest one."""
    count = results.to_dataset()["probe_count"]
    named = count.sel(subset=count["subset"] != ALL)
    return (count > UNBALANCED * named.min()) & (count["subset"] != ALL)


KINDS = (
    Kind(
        "lagging_batch_norm", "b",
        "measured with saved batch norm statistics that lag behind the weights: the value may be "
        "mostly their lag; measure with --batch-norm recomputed",
        lambda results, _: provenance(results).get("batch_norm") == "saved"
        and _lagging_checkpoints(results),
    ),
    Kind(
        "below_precision", "p",
        "the subset is fitted below the reach of the precision: its gradients are mostly rounding",
        lambda results, _: results.to_dataset()["loss"] < precision_reach(results),
    ),
    Kind(
        "within_chance", "n",
        f"cannot be told from chance, at a false discovery rate of {RATE:.0%}: the value shows no "
        "agreement",
        lambda _, group: within_chance(group),
    ),
    Kind(
        "near_stationary", "s",
        "the training gradients nearly cancel, so that a subset and the rest must be opposite: "
        "coherence within them is forced; look at cosines between subsets and at held-out probes",
        _near_stationary,
    ),
    Kind(
        "few_examples", "q",
        f"fewer than {FEW_EXAMPLES} examples, and less than a third of the subset's, determine the "
        "value: intervals may be too narrow",
        lambda results, group: "effective_sample_size" in group
        and (group["effective_sample_size"] < FEW_EXAMPLES)
        & (group["effective_sample_size"] < FEW_SHARE * results.to_dataset()["probe_count"]),
    ),
    Kind(
        UNEQUAL, "",
        "m-coherence grows with the number of probes, and that of this subset is larger: compare "
        "by coherence_at_common_size or alpha_unbiased",
        _unbalanced,
    ),
    Kind(
        "few_folds", "f",
        f"fewer than {FEW_FOLDS} folds: the error and the band of chance are themselves uncertain",
        lambda results, _: folds_used(results) < FEW_FOLDS,
    ),
)  # fmt: skip

MEANINGS = " ".join(kind.name for kind in KINDS)  # of the flags, as CF writes them


def flag_group(results: xr.DataTree, group: xr.Dataset) -> xr.Dataset:
    """A group of the results, ``/network`` or ``/layers``, with ``warning_flags``.

    Flags are missing, NaN in memory, where m-coherence is; in a file they are integers.
    """
    value = group["m_coherence"]
    bits = np.zeros(value.shape)
    for bit, kind in enumerate(KINDS):
        bits += _beside(value, kind.find(results, group)) * 2**bit
    flags = value.copy(data=np.where(value.isnull(), np.nan, bits))
    flags.attrs = {
        "long_name": "why the value may mislead",
        "units": "1",
        "flag_masks": np.array([2**bit for bit in range(len(KINDS))], dtype=np.int32),
        "flag_meanings": MEANINGS,
    }
    flags.encoding = {"dtype": np.dtype(np.int32), "_FillValue": np.int32(-1)}
    return group.assign({FLAGS: flags})


def _beside(value: xr.DataArray, holds: xr.DataArray | bool) -> np.ndarray:
    """Booleans over some dimensions of a value, with an axis for each of its dimensions."""
    if isinstance(holds, bool):
        return np.array(holds)
    for name in holds.dims:
        if name in holds.coords and not np.array_equal(holds[name].values, value[name].values):
            raise ValueError(f"a warning and its value differ in {name}")
    kept = [name for name in value.dims if name in holds.dims]
    rows = tuple(slice(None) if name in kept else np.newaxis for name in value.dims)
    return np.asarray(holds.transpose(*kept).values[rows])


def are_flags(values: np.ndarray) -> bool:
    """Whether numbers are what ``warning_flags`` may hold: whole ones from 0, or NaN.

    A later version may have further kinds.
    """
    known = values[~np.isnan(values)]
    return bool(((known >= 0) & (known < 2.0**31) & (known == np.floor(known))).all())


def kinds_of(flags: float) -> list[Kind]:
    """The kinds of warning that a value of ``warning_flags`` stands for; none for NaN."""
    bits = 0 if np.isnan(flags) else int(flags)
    return [kind for bit, kind in enumerate(KINDS) if bits >> bit & 1]


def marks_of(flags: float) -> str:
    """The letters to put at a value, such as ``nq``."""
    return "".join(kind.mark for kind in kinds_of(flags))


def flagged(dataset: xr.Dataset, name: str) -> xr.DataArray:
    """Where one kind of warning holds in a group that has flags."""
    bit = [kind.name for kind in KINDS].index(name)
    return (dataset[FLAGS].fillna(0).astype(int) // 2**bit) % 2 == 1


def describe(results: xr.DataTree, without: Collection[str] = ()) -> list[str]:
    """A sentence for each kind of warning that the whole network's values have.

    Args:
        results: The results of a run.
        without: Names of kinds on which there is no sentence.

    Returns:
        Such as ``inside the 95 % band ...: held_out at step 960, 1280``; empty for results
        without flags, as older versions wrote them.

    Example:
        ``analyze.statistics.describe(results)``
    """
    network = results["network"].to_dataset()
    if FLAGS not in network:
        return []
    sentences = []
    for kind in KINDS:
        where = flagged(network, kind.name).transpose("checkpoint", "subset")
        if kind.name not in without and bool(where.any()):
            sentences.append(f"{kind.text} ({kind.name}: {_places(where, network)})")
    return sentences


def lagging_sentence(results: xr.DataTree) -> list[str]:
    """A sentence on checkpoints whose saved batch norm statistics lag behind, if there are any."""
    root = results.to_dataset()
    where = _lagging_checkpoints(results)
    if not bool(where.any()):
        return []
    names = []
    for name in root["checkpoint"].values[where.values]:
        at = root.sel(checkpoint=name, subset=ALL)
        saved, recomputed = float(at["loss_saved"]), float(at["loss_recomputed"])
        names.append(f"{name} ({saved:.3g} saved, {recomputed:.3g} recomputed)")
    used = provenance(results).get("batch_norm")
    return [
        f"the batch norm statistics saved in {len(names)} of {root.sizes['checkpoint']} "
        f"checkpoints lag behind the weights: the loss differs by more than {LAGGING:.0%} from "
        f"that with recomputed ones; measured with {used} statistics. {listed(names, 3)}. Probes "
        "that are not preprocessed as in training (mean and std, size of images) look the same"
    ]


def warnings_of_the_run(results: xr.DataTree) -> list[str]:
    """The warnings about the run as a whole, from the provenance."""
    texts = provenance(results).get("warnings", [])
    return [str(text) for text in texts] if isinstance(texts, list) else []


def _lagging_checkpoints(results: xr.DataTree) -> xr.DataArray:
    """Whether the loss depends on which batch norm statistics are used, ``(checkpoint)``."""
    root = results.to_dataset()
    if "loss_saved" not in root or "loss_recomputed" not in root:
        return xr.zeros_like(root["step"], dtype=bool)
    losses = root[["loss_saved", "loss_recomputed"]].sel(subset=ALL, drop=True)
    saved, recomputed = losses["loss_saved"], losses["loss_recomputed"]
    return abs(saved - recomputed) > LAGGING * np.maximum(saved, recomputed)


def precision_reach(results: xr.DataTree) -> float:
    """The mean loss below which gradients are mostly rounding.

    The backward pass of the built-in losses for classes keeps its relative accuracy until squares
    of gradients leave the range of the precision: ``sqrt(tiny)``. Any other loss may be a
    difference of two numbers, accurate to ``eps`` only.
    """
    origin = provenance(results)
    numbers = np.finfo(str(origin.get("precision") or "float32"))
    accurate = str(origin.get("loss", "")).partition("?")[0] in OWN_LOSSES
    return float(np.sqrt(numbers.tiny) if accurate else (64 * numbers.eps) ** 2)


def folds_used(results: xr.DataTree) -> xr.DataArray:
    """The number of folds in which each subset has probes, ``(subset)``."""
    cells = results["parameters"].to_dataset()
    members = cell_members(results)
    occupied = members.values & (cells["probe_count"].values > 0)
    fold = cells["cell_fold"].values
    used = [len(np.unique(fold[row])) for row in occupied]
    return xr.DataArray(used, dims="subset", coords={"subset": members["subset"]})


def _places(where: xr.DataArray, network: xr.Dataset) -> str:
    """The subsets and steps of a warning: ``clean at step 64, 128; held_out at step 960``."""
    steps = network["step"].values
    known = np.isfinite(steps).all()
    names = list(map(place_text, steps)) if known else network["checkpoint"].values.astype(str)
    measured = network["m_coherence"].notnull()
    parts: dict[str, list[str]] = {}
    for name in where["subset"].values.astype(str):
        holds = where.sel(subset=name).values
        if holds.all() or bool((holds == measured.sel(subset=name).values).all()):
            place = "every checkpoint" if len(holds) > 1 else ""
        else:
            place = ("step " if known else "") + listed([str(n) for n in np.array(names)[holds]])
        if holds.any():
            parts.setdefault(place, []).append(name)
    return "; ".join(
        ", ".join(subsets) + (f" at {place}" if place else "") for place, subsets in parts.items()
    )
