"""Invented results of any size, built by the program itself from drawn gradient sums.

Everything derived is real: intervals, the noise floor, warnings, shares. Gradients live in a few
directions; a mean along the first of them rises and falls over training, against the corrupted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from analyze.gradients.measurement import Measurement, ParameterRow
from analyze.probes import Cells, ProbeSet
from analyze.results.tree import OK, Row, build_tree

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
) -> xr.DataTree:
    """A results tree; ``probes`` is the number of each subset."""
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
    rows = []
    if steps is None:
        steps = np.unique(np.concatenate([[0], np.round(np.geomspace(4, 4e4, checkpoints - 1))]))
        steps = np.round(np.linspace(0, 4e4, checkpoints)) if len(steps) < checkpoints else steps
    for k in range(checkpoints):
        along = k / max(checkpoints - 1, 1)
        if k in skipped:
            rows.append(Row(f"step_{k:05d}.pt", float(steps[k]), np.nan, "damaged: x", None))
            continue
        rise = strength * 4.0 * along * np.exp(-4.0 * along)
        fresh = random.standard_normal(noise.shape)
        scale = 0.05 + (1 - along) ** 2
        gradients = scale * (0.8 * noise + 0.6 * fresh)
        depth = np.linspace(1.5, 0.5, layers)
        gradients[..., 0] += scale * rise * depth[:, None] * sign
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
    return build_tree(rows, rows_of, given, cells, provenance, examples=False)
