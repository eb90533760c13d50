"""Refuses what has no per-example gradient: models that mix examples, or are not deterministic.

The same batch twice must give the same output, and so must an example alone and beside other mates.
Measuring one example at a time could not judge this: it never sees a mate.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from analyze.errors import InputError, listed
from analyze.gradients.checks.precision import LOSSES
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.module_calls import module_outputs
from analyze.gradients.model.replica import Replica

LOOKED_AT = 3  # examples


def refuse_mixing(replica: Replica, probes: Inputs, precision: torch.dtype) -> None:
    """Raise unless each example's output depends on that example alone.

    Outputs may differ by 1e-9 of their norm where the coarsest ``precision`` inside the model is
    float64, and by 1e-4 for float32. The first three of ``probes`` are looked at.

    Raises:
        InputError: naming the first module whose output differs.

    Cost: three forward passes and one for each probe, and two more to name the module.
    """
    count = min(LOOKED_AT, len(probes))
    probes = probes.take(torch.arange(count))
    with torch.no_grad():
        together = replica(probes)
        if differ(together, replica(probes), precision):
            culprit = _culprit(replica, probes, probes, precision)
            raise InputError(
                "the model is not deterministic, so its gradients have no fixed value",
                found=f"{culprit} gives another output for the same batch",
                expected="the same output for the same input: dropout and other noise off in eval "
                "mode",
                fix="make the module follow model.eval(), or give a factory that turns it off: "
                "--model FILE.py:FACTORY",
            )
        alone = replica(probes.take(torch.tensor([0])))
        for k in range(count):
            beside_itself = probes.take(torch.tensor([k] * count))
            others = [replica(beside_itself)[:1], *([alone] if k == 0 else [])]
            if any(differ(together[k : k + 1], other, precision) for other in others):
                first = probes.take(torch.arange(count).roll(-k))
                raise _mixing(_culprit(replica, first, beside_itself, precision))


def _mixing(culprit: str) -> InputError:
    return InputError(
        "the model mixes the examples of a batch, so no example has a gradient of its own",
        found=f"{culprit} gives one example another output when its batch mates change",
        expected="outputs that depend on one example each: per-example gradients are not defined "
        "otherwise",
        fix="use statistics that are kept (track_running_stats=True), or give a factory with a "
        "layer that treats examples apart: --model FILE.py:FACTORY",
    )


def refuse_frequency_scaling(model: nn.Module) -> None:
    """Raise where an embedding's gradient depends on which rows the other examples look up.

    Raises:
        InputError: naming the embeddings.
    """
    scaled = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.scale_grad_by_freq
    ]
    if scaled:
        raise InputError(
            "an embedding scales its gradient by how often a row occurs in the batch",
            found=f"scale_grad_by_freq=True in {listed(scaled)}",
            expected="gradients that depend on one example each",
            fix="give a factory that builds the model with scale_grad_by_freq=False: "
            "--model FILE.py:FACTORY",
        )


def differ(a: Tensor, b: Tensor, precision: torch.dtype) -> bool:
    """Whether two outputs differ beyond rounding; non-finite outputs are another matter."""
    scale = float(torch.maximum(a.norm(), b.norm()))
    return bool(float((a - b).norm()) > LOSSES[precision] * scale)


def _culprit(replica: Replica, first: Inputs, second: Inputs, precision: torch.dtype) -> str:
    """The first module, innermost first, whose output for example 0 differs between the batches."""
    a, b = module_outputs(replica, first), module_outputs(replica, second)
    for (name, kind, left), (_, _, right) in zip(a, b, strict=False):
        if left.shape != right.shape:
            return f"{name} ({kind})"
        whole = first is second
        views = [(left, right)] if whole else _slices_of_first_example(left, right)
        if all(differ(x, y, precision) for x, y in views):
            return f"{name} ({kind})"
    return "a part of the model that belongs to no module"


def _slices_of_first_example(a: Tensor, b: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The possible parts of example 0: index 0 of each axis, as the batch axis is not known."""
    return [(a.select(k, 0), b.select(k, 0)) for k in range(a.dim())] or [(a, b)]
