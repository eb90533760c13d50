"""Invented results of any size, built by the program itself from drawn gradient sums.

Everything derived is real: intervals, the noise floor, warnings, shares. Gradients live in a few
directions; a mean along the first of them rises and falls over training, against the corrupted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from analyze.gradients.measurement import Measurement, ParameterRow
from analyze.probes import Cells, ProbeSet
from analyze.results.tree import OK, Row, build_tree
from analyze.statistics.derived import derived

DIRECTIONS = 6
PARTS = ("conv", "norm", "attention", "mlp")
TYPES = ("Conv2d", "BatchNorm2d", "Linear", "MultiheadAttention")


def layer_names(count: int) -> list[str]:
    """Paths as a deep network has them."""
    return [f"encoder.blocks.{k // 4}.{PARTS[k % 4]}"
            for k in range(count)]  # fmt: skip


def subset_names(count: int) -> list[str]:
    """The known roles first."""
    roles = ["clean", "corrupted", "held_out"]
    return [*roles, *(f"class {k}" for k in range(max(0, count - 3)))][:count]


def synthetic(
    *,
    layers: int = 10,
    checkpoints: int = 12,
    subsets: int | Sequence[str] = 3,
    folds: int = 5,
    probes: int = 40,
    seed: int = 0,
    strength: float = 1.0,
    steps: Sequence[float] | None = None,
    skipped: Sequence[int] = (),
    directions: Sequence[str] = (),
) -> xr.DataTree:
    """A results tree; ``probes`` is the number of each subset.

    With ``directions`` it has every example's alignment with them, and its margin.
    """
    random = np.random.default_rng(seed)
    names = subset_names(subsets) if isinstance(subsets, int) else list(subsets)
    code = np.repeat(np.arange(len(names)), probes)
    given = ProbeSet(
        np.zeros((len(code), 1), dtype=np.float32), np.zeros(len(code), dtype=np.int64),
        [names[k] for k in code],
    )  # fmt: skip
    cells = Cells.of(given, folds)
    rows_of = [ParameterRow(f"{name}.weight", name, TYPES[k % 4], 1000, (), "linear")
               for k, name in enumerate(layer_names(layers))]  # fmt: skip
    noise = random.standard_normal((layers, len(code), DIRECTIONS))
    sign = np.where(np.array([n == "corrupted" for n in names])[code], -0.3, 1.0)
    rows, drawn = [], []
    if steps is None:
        steps = np.unique(np.concatenate([[0], np.round(np.geomspace(4, 4e4, checkpoints - 1))]))
        steps = np.round(np.linspace(0, 4e4, checkpoints)) if len(steps) < checkpoints else steps
    for k in range(checkpoints):
        along = k / max(checkpoints - 1, 1)
        if k in skipped:
            rows.append(Row(f"step_{k:05d}.pt", float(steps[k]), np.nan, "damaged: x", None))
            drawn.append(None)
            continue
        rise = strength * 4.0 * along * np.exp(-4.0 * along)
        fresh = random.standard_normal(noise.shape)
        scale = 0.05 + (1 - along) ** 2
        gradients = scale * (0.8 * noise + 0.6 * fresh)
        depth = np.linspace(1.5, 0.5, layers)
        gradients[..., 0] += scale * rise * depth[:, None] * sign
        drawn.append(gradients)
        sums = np.stack([gradients[:, cells.of_probe == c].sum(1) for c in range(len(cells))], 1)
        squares = np.square(gradients).sum(-1)
        squared = np.stack([squares[:, cells.of_probe == c].sum(1) for c in range(len(cells))], 1)
        loss = 2.3 * (1 - along) ** 2 + 0.02 + 0.1 * random.random(len(code)) * (1 - along)
        loss = loss + 0.5 * (sign < 0) * along * (1 - along)
        measured = Measurement(
            tuple(r.name for r in rows_of), np.einsum("lcd,led->lce", sums, sums), squared, loss,
            (loss < 1.0).astype(float),
        )  # fmt: skip
        rows.append(Row(f"step_{k:05d}.pt", float(steps[k]), float(steps[k]) / 400, OK, measured))
    provenance: dict[str, object] = {
        "held_out": ["held_out"] if "held_out" in names else [],
        "folds": folds,
    }
    provenance["inputs_sha256"] = f"{probes} invented probes of each subset"
    tree = build_tree(rows, rows_of, given, cells, provenance, examples=False)
    if not directions:
        return tree
    losses = np.stack(
        [r.measurement.loss if r.measurement else np.full(len(code), np.nan) for r in rows]
    )
    return with_alignments(tree, drawn, given, losses, directions)


def with_alignments(
    tree: xr.DataTree,
    gradients: Sequence[np.ndarray | None],
    probes: ProbeSet,
    losses: np.ndarray,
    directions: Sequence[str],
    columns: Mapping[str, Sequence[str]] | None = None,
) -> xr.DataTree:
    """A tree with the group ``/examples`` of these gradients, ``[L, N, D]`` of each checkpoint."""
    subset = np.array(probes.subset_names, dtype=object)[probes.subset]
    shape = next(g.shape for g in gradients if g is not None)
    random = np.random.default_rng(99)
    moves = random.standard_normal((len(gradients), shape[0], shape[2]))
    along, norms, squares = [], [], []
    for k, found in enumerate(gradients):
        g = np.full(shape, np.nan) if found is None else found
        vectors = np.stack([_direction(name, g, moves[k], subset, probes, columns or {})
                            for name in directions])  # fmt: skip
        along.append(np.einsum("vld,lnd->vln", vectors, g))
        norms.append(np.sqrt(np.square(vectors).sum(-1)))
        squares.append(np.square(g).sum(-1))
    axis = {n: tree.to_dataset()[n] for n in ("checkpoint", "step", "epoch")}
    group = xr.Dataset(
        {
            "gradient_sqnorm": (("checkpoint", "layer", "probe"), np.float32(squares)),
            "loss": (("checkpoint", "probe"), losses),
            "margin": (("checkpoint", "probe"), 1.0 - losses),
            "alignment": (("checkpoint", "direction", "layer", "probe"), np.float32(along)),
            "direction_norm": (("checkpoint", "direction", "layer"), np.array(norms)),
        },
        {
            **axis, "layer": tree["layers"]["layer"].values, "probe": probes.id,
            "subset": ("probe", subset), "target": ("probe", probes.targets),
            "direction": np.array(directions, dtype=object),
            **{n: ("probe", np.array(v, dtype=object)) for n, v in (columns or {}).items()},
        },
    )  # fmt: skip
    complete = tree.copy()
    complete["examples"] = xr.DataTree(group)
    for name, table in derived(complete).items():
        kept = {n: c for n, c in tree[name].coords.items() if n not in table.coords}
        complete[name] = xr.DataTree(table.assign_coords(kept).assign_coords(axis))
    return complete


def _direction(name, gradients, move, subset, probes, columns) -> np.ndarray:
    """The vector of a direction, ``[L, D]``."""
    if name in ("update", "weights"):
        return move if name == "update" else 10 * move
    if name in columns or "=" in name:
        column, _, label = name.partition("=")
        rows = np.array(columns[column]) == label
    else:
        rows = ~np.isin(subset, probes.held_out) if name == "all" else subset == name
    return gradients[:, rows].sum(1)
