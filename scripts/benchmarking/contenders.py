"""Ways to per-example squared norms and the sum of the gradients, each behind one interface."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from analyze.gradients.calibrate.calibration import calibrate
from analyze.gradients.losses import build_loss
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica
from analyze.gradients.step.batch import measure_batch


class Found(NamedTuple):
    """What a way gives for one parameter."""

    total: Tensor  # the sum over examples
    squared_norms: Tensor | None  # [N]; plain forward and backward has none


class RefusedError(Exception):
    """A tool does not take the model, or gives no gradient for some of its parameters."""


Step = Callable[[], dict[str, Found]]
Way = Callable[[nn.Module, Tensor, Tensor], Step]


def plain(model: nn.Module, inputs: Tensor, targets: Tensor) -> Step:
    """Forward and backward of a training step, on the summed loss."""
    parameters = dict(model.named_parameters())

    def step() -> dict[str, Found]:
        loss = _losses(model(inputs), targets).sum()
        grads = torch.autograd.grad(loss, [*parameters.values()])
        return {name: Found(g, None) for name, g in zip(parameters, grads, strict=True)}

    return step


def ours(model: nn.Module, inputs: Tensor, targets: Tensor) -> Step:
    """The engine, as ``analyze run`` uses it for one batch."""
    dtype = next(model.parameters()).dtype
    replica = Replica(copy.deepcopy(model), inputs.device, dtype)
    batch, loss = Inputs({"": inputs}), build_loss("cross_entropy")
    plan = calibrate(replica, batch.take(torch.arange(min(5, len(inputs)))))

    def step() -> dict[str, Found]:
        result = measure_batch(replica, batch, targets, loss, plan)
        norms = torch.from_numpy(result.squared_norms)
        return {
            name: Found(result.total(name), own)
            for name, own in zip(result.names, norms, strict=True)
        }

    return step


def one_at_a_time(model: nn.Module, inputs: Tensor, targets: Tensor) -> Step:
    """Plain autograd of one example after the other."""
    parameters = dict(model.named_parameters())

    def step() -> dict[str, Found]:
        totals = {name: torch.zeros_like(p) for name, p in parameters.items()}
        norms: dict[str, list[Tensor]] = {name: [] for name in parameters}
        for n in range(len(inputs)):
            loss = _losses(model(inputs[n : n + 1]), targets[n : n + 1]).sum()
            grads = torch.autograd.grad(loss, [*parameters.values()])
            for name, g in zip(parameters, grads, strict=True):
                totals[name] += g
                norms[name].append(g.square().sum())
        return {name: Found(totals[name], torch.stack(norms[name])) for name in parameters}

    return step


def vmap_of_grad(model: nn.Module, inputs: Tensor, targets: Tensor) -> Step:
    """``torch.func``: the gradient function, vectorised over the examples."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        output = functional_call(model, (weights, buffers), (x[None],))
        return _losses(output, y[None]).sum()

    per_example = vmap(grad(loss), in_dims=(None, 0, 0))

    def step() -> dict[str, Found]:
        return _summed(per_example(parameters, inputs, targets))

    return step


def backpack(model: nn.Module, inputs: Tensor, targets: Tensor) -> Step:
    """BackPACK's ``BatchL2Grad``."""
    import backpack
    from backpack.extensions import BatchL2Grad

    for module in model.modules():
        if isinstance(getattr(module, "inplace", None), bool):
            vars(module)["inplace"] = False
    loss_function = backpack.extend(nn.CrossEntropyLoss(reduction="sum"))

    extended = cast(nn.Module, backpack.extend(model, use_converter=True))
    extended.eval()
    parameters = dict(extended.named_parameters())

    def step() -> dict[str, Found]:
        extended.zero_grad()
        loss = loss_function(extended(inputs), targets)
        with backpack.backpack(BatchL2Grad()):
            loss.backward()
        return {n: Found(_there(p, "grad"), _there(p, "batch_l2")) for n, p in parameters.items()}

    return step


def opacus_hooks(model: nn.Module, inputs: Tensor, targets: Tensor) -> Step:
    """Opacus' ``GradSampleModule``: every per-example gradient at once."""
    from opacus import GradSampleModule

    wrapped = GradSampleModule(model, loss_reduction="sum")
    parameters = dict(wrapped._module.named_parameters())

    def step() -> dict[str, Found]:
        wrapped.zero_grad()
        _losses(wrapped(inputs), targets).sum().backward()
        return _summed({n: _there(p, "grad_sample") for n, p in parameters.items()})

    return step


def opacus_ghost(model: nn.Module, inputs: Tensor, targets: Tensor) -> Step:
    """Opacus' ghost clipping: norms without gradients, the sums from autograd."""
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    wrapped = GradSampleModuleFastGradientClipping(
        model, loss_reduction="sum", max_grad_norm=1.0, use_ghost_clipping=True
    )
    parameters = dict(wrapped._module.named_parameters())

    def step() -> dict[str, Found]:
        wrapped.zero_grad()
        _losses(wrapped(inputs), targets).sum().backward()
        return {
            n: Found(_there(p, "grad"), _there(p, "_norm_sample").square())
            for n, p in parameters.items()
        }

    return step


def refusing(way: Way) -> Way:
    """The way of another tool, which refuses by whatever it raises when it is first used."""

    def set_up(model: nn.Module, inputs: Tensor, targets: Tensor) -> Step:
        try:
            step = way(model, inputs, targets)
            step()
        except Exception as error:
            line = next(iter(str(error).splitlines()), "")
            raise RefusedError(f"{type(error).__name__}: {line}"[:200]) from error
        return step

    return set_up


WAYS: dict[str, Way] = {
    "ours": ours,
    "one at a time": one_at_a_time,
    "vmap(grad)": refusing(vmap_of_grad),
    "BackPACK": refusing(backpack),
    "Opacus, hooks": refusing(opacus_hooks),
    "Opacus, ghost": refusing(opacus_ghost),
}


def _losses(output: Tensor, targets: Tensor) -> Tensor:
    losses = F.cross_entropy(output, targets, reduction="none")
    return losses.flatten(1).sum(1) if losses.dim() > 1 else losses


def _summed(gradients: dict[str, Tensor]) -> dict[str, Found]:
    return {name: Found(g.sum(0), g.flatten(1).square().sum(1)) for name, g in gradients.items()}


def _there(parameter: Tensor, attribute: str) -> Tensor:
    """What a tool left at a parameter."""
    value = getattr(parameter, attribute, None)
    if value is None:
        raise RefusedError("no gradient for some parameters")
    return value
