"""An engine that is ready to measure a model, by whose shares and batch sizes it is timed."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from analyze.gradients.engine import Engine
from analyze.gradients.losses import build_loss
from analyze.gradients.measurement import Settings
from analyze.probes import ProbeSet


def prepared(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    settings: Settings,
    subset: list[str] | None = None,
    shared: bool = True,
) -> Engine:
    """An engine with a plan proven on a copy of ``model``.

    Args:
        model: A model.
        inputs: Of the probes.
        targets: Of the probes.
        settings: Device, batch norm, batch size, folds.
        subset: Name of the subset of each probe.
        shared: Whether threads may share the batches.
    """
    probes = ProbeSet(inputs.numpy(), targets.numpy(), subset=subset)
    engine = Engine(probes, build_loss("cross_entropy"), settings)
    if shared:
        engine.divide(model)
    engine.prepare([copy.deepcopy(model)])
    return engine
