"""Results as ``build_tree`` lays them out, with invented numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from analyze.pages.figures import rendered
from analyze.statistics.warnings import flag_group

STEPS = (0, 4, 8, 16, 32, 64, 128, 256, 448, 640, 960, 1280)


def make_tree(
    *,
    steps: Sequence[float] = STEPS,
    epochs: Sequence[float] | None = None,
    subsets: Sequence[str] = ("clean", "corrupted", "held_out"),
    held_out: Sequence[str] = ("held_out",),
    layers: Sequence[str] = ("conv1", "bn1", "fc"),
    skipped: dict[int, str] | None = None,
    probes: int = 500,
    folds: int = 10,
    provenance: dict[str, Any] | None = None,
) -> xr.DataTree:
    """Results as ``build_tree`` lays them out, with invented numbers."""
    random, skipped = np.random.default_rng(0), skipped or {}
    count, names = len(steps), [*subsets, "all"]
    along = {
        "checkpoint": np.array([f"step_{k:05d}.pt" for k in range(count)], dtype=object),
        "step": ("checkpoint", np.array(steps, dtype=float)),
        "epoch": ("checkpoint", np.array(epochs or [np.nan] * count, dtype=float)),
    }

    def values(*shape: int) -> np.ndarray:
        drawn = np.exp(random.normal(2.0, 0.8, (count, *shape, len(names))))
        drawn[list(skipped)] = np.nan
        return drawn

    def coherence(*dims: str, shape: tuple[int, ...] = ()) -> dict[str, Any]:
        drawn, over = values(*shape), ("checkpoint", *dims, "subset")
        error = 0.1 * drawn if folds > 1 else drawn * np.nan
        cosine = np.broadcast_to(np.eye(len(names)), (*drawn.shape, len(names)))
        return {
            "m_coherence": (over, drawn),
            "m_coherence_stderr": (over, error),
            "gradient_cosine": ((*over, "subset_other"), cosine),
        }

    subset = {"subset": names, "subset_other": names}
    counted = [0 if name in held_out else probes for name in subsets]
    cells = [(name, fold) for name in subsets for fold in range(folds)]
    groups = {
        "/": xr.Dataset(
            {
                "loss": (("checkpoint", "subset"), values(), {"units": "nats"}),
                "accuracy": (("checkpoint", "subset"), values() / 100),
                "probe_count": ("subset", [*[probes] * len(subsets), sum(counted)]),
            },
            {
                **along,
                "subset": names,
                "status": (
                    "checkpoint",
                    np.array([skipped.get(k, "ok") for k in range(count)], dtype=object),
                ),
            },
        ),
        "/network": xr.Dataset(coherence(), {**along, **subset}),
        "/layers": xr.Dataset(
            coherence("layer", shape=(len(layers),)),
            {
                **along,
                **subset,
                "layer": np.array(layers, dtype=object),
                "layer_type": ("layer", np.array(["Conv2d"] * len(layers), dtype=object)),
                "parameter_count": ("layer", np.full(len(layers), 1234)),
            },
        ),
        "/parameters": xr.Dataset(
            {"probe_count": ("cell", [probes // folds for _ in cells])},
            {
                **along,
                "cell_subset": ("cell", np.array([name for name, _ in cells], dtype=object)),
                "cell_fold": ("cell", [fold for _, fold in cells]),
            },
        ),
    }
    tree = xr.DataTree.from_dict(groups)
    facts = {"held_out": list(held_out), "folds": folds, **(provenance or {})}
    tree.attrs = {"schema_version": 1, "provenance": json.dumps(facts)}
    return tree


def with_chance(tree: xr.DataTree) -> xr.DataTree:
    """Invented results with a noise floor: a band around 1, and values inside it flagged."""
    for name in ("network", "layers"):
        group = tree[name].to_dataset()
        value = group["m_coherence"]
        group["null_lower"], group["null_upper"] = 0 * value + 0.5, 0 * value + 2.0
        group["p_value_adjusted"] = (value < 2.0) * 0.9 + 0.01
        tree[name] = xr.DataTree(flag_group(tree, group))
    return tree


def pictures(*names: str) -> dict[str, bytes]:
    """Empty figures under these names, as a page takes them: contents of SVG files."""
    return {name: rendered(Figure((2, 1)), ["svg"])["svg"] for name in names}
