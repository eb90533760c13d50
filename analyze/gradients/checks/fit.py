"""Whether a model takes the probes, and its output their targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from analyze.errors import InputError, out_of_memory
from analyze.gradients.checks.embedding_ids import refuse_ids_out_of_range
from analyze.gradients.checks.model_errors import failed
from analyze.gradients.data.loader import ProbeLoader
from analyze.gradients.losses import Facts, Loss
from analyze.gradients.losses.user import UserLoss
from analyze.gradients.model.graph import channels_of
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica
from analyze.gradients.numbers import named


class Fit(NamedTuple):
    """What the first passes of a model have given."""

    output: Tensor  # of some probes together, [K, ...]
    alone: Tensor  # of the first of them, [1, ...]
    notes: list[str]  # what the user should know of how the loss takes the targets


def check_fit(replica: Replica, loader: ProbeLoader, rows: np.ndarray, loss: Loss) -> Fit:
    """Refuse a model that cannot be called with the probes, or whose output does not fit the loss.

    The model is called with the probes at ``rows``. The loss settles how it takes the targets.

    Raises:
        InputError: with the model's own error and its place, or what the output is.
        RuntimeError: out of memory.

    Cost: a forward pass of all of them and one of the first; one more where the model has an
    embedding.
    """
    refuse_ids_out_of_range(replica, loader, rows)
    probes = loader.take(rows).inputs
    output = _called(replica, probes)
    if output.shape[:1] != (len(probes),):
        raise _no_axis(f"an output {list(output.shape)} for {len(probes)} probes")
    alone = _called_alone(replica, probes)
    if alone.shape != (1, *output.shape[1:]):
        raise _no_axis(
            f"an output {list(output.shape)} for {len(probes)} probes and {list(alone.shape)} for "
            "one alone"
        )
    if not (output.is_floating_point() or output.is_complex()):
        raise InputError(
            "the model's output has no gradient",
            found=f"an output of {output.dtype}",
            expected="floating point numbers, from which a loss is computed",
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
    channels = partial(channels_of, partial(replica, probes))
    facts = Facts(loader.inputs.tensors, loader.subset, channels)
    return Fit(output, alone, loss.check(output, loader.targets, facts))


def _called(replica: Replica, probes: Inputs) -> Tensor:
    """The output of the model.

    Raises:
        InputError: the forward pass fails.
    """
    with refused_if_failing(replica, lambda: probes), torch.no_grad():
        return replica(probes)


@contextmanager
def refused_if_failing(replica: Replica, probes: Callable[[], Inputs]) -> Iterator[None]:
    """Within it, an error of the model's forward pass is a refusal that says where it arose.

    Raises:
        InputError: the forward pass fails; ``probes`` gives some on which it does.
        RuntimeError: out of memory.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a model's forward may raise anything
        if out_of_memory(error):
            raise
        raise failed(error, replica, probes()) from error


def _called_alone(replica: Replica, probes: Inputs) -> Tensor:
    """The output for the first probe alone: what is proven is compared with it."""
    try:
        return _called(replica, probes.take(torch.tensor([0])))
    except InputError as error:
        raise InputError(
            "the model cannot take one example alone",
            found=error.found,
            expected=f"an output for one probe as for the {len(probes)} together, which it takes",
            fix="keep the axis of examples in forward: squeeze(-1), not squeeze(); flatten(1): "
            "--model FILE.py:FACTORY",
        ) from error


def _no_axis(found: str) -> InputError:
    return InputError(
        "the model's output has no axis of examples",
        found=found,
        expected="an output [N, ...], one row per example",
        fix="wrap the model in a factory that returns its logits: --model FILE.py:FACTORY",
    )
