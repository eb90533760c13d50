"""Whether a model takes the probes, and its output their targets."""

from __future__ import annotations

import numpy as np
import torch

from analyze.errors import InputError
from analyze.gradients.kinds import named
from analyze.gradients.loader import ProbeLoader
from analyze.gradients.losses import Loss
from analyze.gradients.losses.user import UserLoss
from analyze.gradients.replica import Replica


def check_fit(replica: Replica, loader: ProbeLoader, rows: np.ndarray, loss: Loss) -> None:
    """Refuse a model that cannot be called with the probes, or whose output does not fit the loss.

    Args:
        replica: The model.
        loader: Of the probes.
        rows: Some of them, with which it is called.
        loss: Of one example.

    Raises:
        InputError: saying what the model says, or what its output is.
    """
    probes = loader.take(rows).inputs
    try:
        with torch.no_grad():
            output = replica(probes)
    except InputError:
        raise
    except Exception as error:  # whatever a model's forward raises on inputs it cannot take
        shapes = {k or "inputs": list(t.shape[1:]) for k, t in probes.tensors.items()}
        raise InputError(
            "the model cannot take the probe inputs",
            found=f"probes of shape {shapes}; the model says: {_first_line(error)}",
            expected=f"inputs that {type(replica.model).__name__}.forward takes",
            fix="give the probes the model was trained on: --probes FILE",
        ) from error
    if output.shape[:1] != (len(probes),):
        raise InputError(
            "the model's output has no axis of examples",
            found=f"an output {list(output.shape)} for {len(probes)} probes",
            expected="an output [N, ...], one row per example",
            fix="wrap the model in a factory that returns its logits: --model FILE.py:FACTORY",
        )
    if output.is_complex() and not isinstance(loss, UserLoss):
        raise InputError(
            "the model's output is complex, and the loss is of real numbers",
            found=f"an output {list(output.shape)} of {named(output.dtype)}",
            expected="real logits or predictions",
            fix="return the real part, the magnitude or torch.view_as_real of it, or give a loss "
            "of your own: --loss FILE.py:FUNCTION",
        )
    shape = (len(loader.targets), *output.shape[1:])
    loss.check(output.new_empty(()).expand(shape), loader.targets)


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
