"""Exact fallbacks for parameters that no rule measures: the model runs once more for them.

``vmap(grad)`` holds the gradients of a few examples at a time; one example at a time needs nothing
but autograd. Both take the seed of the ordinary backward pass, so the loss is treated alike.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, vmap

from analyze.errors import described, misplaced, out_of_memory
from analyze.gradients.device.devices import chunk_bytes
from analyze.gradients.forms import Reduction
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica, logits_of
from analyze.gradients.numbers import as_real
from analyze.gradients.plan import ONE_AT_A_TIME, Method, Plan
from analyze.gradients.step.failures import MethodFailedError, gives_way
from analyze.gradients.step.output import seeded

Reductions = Callable[[str], Reduction]  # of a parameter


def by_fallback(
    method: Method,
    replica: Replica,
    inputs: Inputs,
    seed: Tensor,
    plan: Plan,
    reductions: Reductions,
) -> dict[str, Reduction]:
    """The reduced gradients of the parameters that the plan leaves to a fallback, by name.

    ``reductions`` makes an empty one for a parameter. One that no example's output depends on is
    left out.

    Raises:
        MethodFailedError: ``vmap`` cannot follow the model.
    """
    names = plan.by_fallback(method)
    if method == ONE_AT_A_TIME:
        return one_at_a_time(replica, inputs, seed, names, reductions, plan.copies)
    try:
        return _vmap_grad(replica, inputs, seed, names, reductions)
    except Exception as error:  # the model's own forward may raise anything under vmap
        if out_of_memory(error):
            raise  # a smaller batch is left
        if misplaced(error) and not gives_way(error):
            raise
        raise MethodFailedError(names, f"{method} failed: {described(error)}") from error


def _vmap_grad(
    replica: Replica, inputs: Inputs, seed: Tensor, names: list[str], make: Reductions
) -> dict[str, Reduction]:
    """Per-example gradients of ``names`` by ``torch.func.vmap(grad)``, a chunk at a time.

    Raises:
        RuntimeError: the model does something that vmap cannot follow.
    """
    replica.forget()
    parameters = {name: replica.parameters[name].detach() for name in names}
    others = {n: p.detach() for n, p in replica.parameters.items() if n not in parameters}
    tensors = inputs.of_its_own(replica.device, replica.dtype)

    def objective(wanted: dict[str, Tensor], example: dict[str, Tensor], delta: Tensor) -> Tensor:
        batch = {name: tensor[None] for name, tensor in example.items()}
        args = (batch.pop(""),) if "" in batch else ()
        with replica.substituted(wanted | others), replica.computing():
            output = replica.model(*args, **batch)
        logits = logits_of(output).reshape(delta.shape)  # squeeze() may lack the [1]
        return (as_real(logits) * as_real(delta)).sum()

    per_example = vmap(grad(objective), in_dims=(None, 0, 0), randomness="error")
    size = sum(p.numel() * p.element_size() for p in parameters.values())
    step = max(1, 16 * chunk_bytes(replica.device) // max(1, size))
    reductions = {name: make(name) for name in names}
    for start in range(0, len(inputs), step):
        rows = slice(start, start + step)
        grads = per_example(parameters, {k: t[rows] for k, t in tensors.items()}, seed[rows])
        for name, values in grads.items():
            reductions[name].add(values.detach())
    replica.forget()
    return reductions


def one_at_a_time(
    replica: Replica,
    inputs: Inputs,
    seed: Tensor,
    names: list[str],
    make: Reductions,
    copies: int = 1,
) -> dict[str, Reduction]:
    """Per-example gradients of ``names`` by plain autograd, a forward and backward pass each.

    A parameter that no example's output depends on is left out. Of several ``copies`` of an
    example in a batch the gradient is divided by their number.
    """
    for name, parameter in replica.parameters.items():
        parameter.requires_grad_(name in names)
    wanted = [replica.parameters[name] for name in names]
    reductions = {name: make(name) for name in names}
    reached: set[str] = set()
    for k in range(len(inputs)):
        output = replica(inputs.take(torch.tensor([k] * copies)))
        grads: tuple[Tensor | None, ...] = (None,) * len(names)
        if output.requires_grad:
            start = seeded(output, seed[[k] * copies] / copies)
            grads = torch.autograd.grad(start, wanted, allow_unused=True)
        for name, parameter, gradient in zip(names, wanted, grads, strict=True):
            if gradient is not None:
                reached.add(name)
            values = torch.zeros_like(parameter) if gradient is None else gradient.to_dense()
            reductions[name].add(values[None])
    return {name: reductions[name] for name in names if name in reached}
