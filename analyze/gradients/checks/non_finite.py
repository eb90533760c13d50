"""Refuses losses and gradients that are not finite: where they begin, and for how many probes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from analyze.errors import CheckpointError, listed
from analyze.gradients.layers import owner
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.module_calls import module_outputs
from analyze.gradients.model.replica import Replica
from analyze.probes import Cells


def check_losses(
    losses: np.ndarray, probes: np.ndarray, cells: Cells, replica: Replica, inputs: Inputs
) -> None:
    """Refuse losses that are not finite, with their number in each subset and where they begin.

    ``losses`` ``[K]`` are those of ``probes`` ``[K]``, ``inputs`` and ``cells`` those of all
    probes. The replica runs one bad probe again, to see which module is the first to give such a
    value.

    Raises:
        CheckpointError: some are not finite.
    """
    wrong = ~np.isfinite(losses)
    if not wrong.any():
        return
    bad = probes[wrong]
    subset = cells.subset[cells.of_probe[bad]]
    where = _first_module(replica, inputs.take(torch.from_numpy(bad[:1])))
    raise CheckpointError(
        "the loss is not finite",
        found=f"{losses[wrong][0]} for probe {bad[0]}; {len(bad)} such probes of {len(losses)}: "
        f"{_by_subset(np.bincount(subset), cells)}; {where}",
        expected="finite losses: no coherence exists otherwise",
        fix="try --precision float64, or leave the checkpoint out: --checkpoints GLOB",
    )


def check_gradients(bad: Mapping[str, np.ndarray], cells: Cells, replica: Replica) -> None:
    """Refuse gradients that are not finite, with their number in each layer and subset.

    ``bad`` maps each parameter, in forward order, to ``[C]``: how many of the cell's probes have a
    squared norm that is not finite.

    Raises:
        CheckpointError: some are not finite.
    """
    layers: dict[str, np.ndarray] = {}  # [C], the most of any parameter of the layer
    for name, counts in bad.items():
        layer = owner(replica.model, name)[0]
        layers[layer] = np.maximum(layers.get(layer, 0), counts)
    wrong = [
        f"{layer} ({_by_subset(np.bincount(cells.subset, counts).astype(int), cells)})"
        for layer, counts in reversed(layers.items())  # a backward pass begins at the output
        if counts.any()
    ]
    if not wrong:
        return
    raise CheckpointError(
        "a gradient is not finite",
        found=f"NaN or infinity in {len(wrong)} of {len(layers)} layers, from the output on: "
        f"{listed(wrong, 3)}",
        expected="finite gradients",
        fix="try --precision float64, or leave the checkpoint out: --checkpoints GLOB",
    )


def _by_subset(counts: np.ndarray, cells: Cells) -> str:
    return ", ".join(f"{n} of {cells.subset_names[code]}" for code, n in enumerate(counts) if n)


def _first_module(replica: Replica, example: Inputs) -> str:
    """The first module, in the order in which they finish, that gives no finite numbers."""
    with torch.no_grad():
        for name, kind, output in module_outputs(replica, example):
            if not output.isfinite().all():
                return f"first in the output of {name} ({kind})"
    return "all modules give finite outputs"
