"""Prove the plan: the engine against plain autograd, one example at a time, in float64.

Every parameter's per-example squared norms and sum are compared on real probes. What disagrees is
measured by the next method; what cannot be measured exactly is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from analyze.errors import CheckpointError, InputError, listed
from analyze.gradients.batch import BatchResult, measure_batch
from analyze.gradients.failures import MethodFailedError, demoted
from analyze.gradients.float64 import double
from analyze.gradients.forms import Summary
from analyze.gradients.intercept import ForwardChangedError
from analyze.gradients.learning import otherwise
from analyze.gradients.losses import Loss
from analyze.gradients.plan import NEVER_USED, ONE_AT_A_TIME, Plan
from analyze.gradients.replica import Inputs, Replica
from analyze.gradients.seeding import seeded

RELATIVE = {torch.float64: 1e-9, torch.float32: 1e-3}
ZERO_TO_ROUNDING = 64  # a gradient below this many eps of the network's is rounding

PROVEN = "proven"
ROUNDING = "zero to rounding"
ZERO = "zero: unproven"


@dataclass
class Proof:
    """What was compared so far, over all checkpoints.

    Args:
        errors: Largest relative error of each proven parameter's squared norms.
        rounding: Parameters whose gradient was never more than rounding, but not always zero.
        dtype: Precision of the comparison.
        examples: How many examples were compared.
        notes: Gets why a method gave way to the next one, for the user.
    """

    errors: dict[str, float] = field(default_factory=dict)
    rounding: set[str] = field(default_factory=set)
    dtype: str = "float64"
    examples: int = 0
    notes: list[str] = field(default_factory=list)

    def unproven(self, plan: Plan) -> set[str]:
        """Parameters in use whose reference gradient was never more than zero or rounding."""
        return {n for n, m in plan.methods.items() if m != NEVER_USED and n not in self.errors}

    def verdict(self, name: str, plan: Plan) -> str:
        """What is known of a parameter, in words."""
        if name in self.errors:
            return PROVEN
        if plan.methods[name] == NEVER_USED:
            return NEVER_USED
        return ROUNDING if name in self.rounding else ZERO

    @property
    def zero_to_rounding(self) -> set[str]:
        """Parameters that showed rounding and nothing else."""
        return self.rounding - set(self.errors)


@dataclass(frozen=True)
class _Reference:
    """Plain autograd, one example at a time."""

    squared_norms: dict[str, Tensor]  # [N] each; parameters without any gradient are missing
    totals: dict[str, Tensor]
    network: Tensor  # [N], squared norm of the whole gradient
    losses: Tensor  # [N]


def prove(
    replica: Replica, inputs: Inputs, targets: Tensor, loss: Loss, plan: Plan, proof: Proof
) -> Plan:
    """The plan, with every parameter that disagreed demoted until all agree.

    A parameter agrees when ``|q - q_ref| <= rtol * q_ref + (64 eps)^2 * |network gradient|^2`` for
    each example and ``|S - S_ref|`` is as small; it is proven once a reference gradient is above
    that floor. ``proof`` is brought up to date.

    Args:
        replica: In float64 where the model can; it fixes rtol (1e-9, or 1e-3 in float32).
        inputs: A few probes.
        targets: ``[N, ...]``.
        loss: As for the run.
        plan: With the algorithms as chosen for full batches, where it has run on one.
        proof: What earlier checkpoints showed.

    Raises:
        CheckpointError: autograd itself gives no finite losses or gradients.
        InputError: a parameter disagrees even one example at a time, or autograd itself gives an
            example another gradient alone than in a batch.

    Cost: a forward and backward pass per example, one for all of them, and a batch for every round
    of demotions.
    """
    reference = _reference(replica, inputs, targets, loss)
    _check_finite(reference)
    _check_seed(replica, inputs, targets, loss)
    _check_reference(reference, replica, inputs, targets, loss)
    while True:
        try:
            batch = measure_batch(replica, inputs, targets, loss, plan)
        except (ForwardChangedError, MethodFailedError) as failure:
            plan, _ = otherwise(replica, failure, plan, proof.notes)  # proven by what follows
            continue
        result = {name: _unscaled(batch, name) for name in batch.scaled_squares}
        if not _same_losses(batch.losses, reference.losses, replica.dtype):
            if not plan.by_rule:  # the model's own calls, unwatched: nothing is left to change
                raise _inexact(sorted(plan.methods))
            other = MethodFailedError(plan.by_rule, "the watched forward pass gave other losses")
            plan = demoted(plan, other, proof.notes)
            continue
        wrong = _disagreeing(reference, result, replica.dtype, plan)
        if not wrong:
            break
        hopeless = {name for name in wrong if plan.methods[name] == ONE_AT_A_TIME}
        if hopeless:
            raise _inexact(sorted(hopeless))
        other = MethodFailedError(wrong, "the method before disagreed with plain autograd")
        plan = demoted(plan, other, proof.notes)
    _update(proof, reference, result, replica.dtype)
    return plan


def _check_finite(reference: _Reference) -> None:
    """What is not finite in plain autograd can be proven by nothing."""
    losses, norms = reference.losses, reference.squared_norms
    bad = [name for name, squares in norms.items() if not squares.isfinite().all()]
    if bad or not losses.isfinite().all():
        raise CheckpointError(
            "losses or gradients are not finite",
            found=f"losses {listed([f'{loss:.4g}' for loss in losses.tolist()], 4)} of probes; "
            f"gradients with NaN or infinity in {listed(bad, 4) or 'no parameter'}",
            expected="finite losses and gradients by plain autograd: the proof compares with it",
            fix="leave the checkpoint out: --checkpoints GLOB",
        )


def _check_seed(replica: Replica, inputs: Inputs, targets: Tensor, loss: Loss) -> None:
    """The seed that the engine uses must be the gradient of the loss that it reports."""
    with torch.no_grad():
        output = replica(inputs)
    output = output.detach().requires_grad_(True)
    target = targets.to(output.device)
    (expected,) = torch.autograd.grad(loss.per_example(output, target).sum(), output)
    seed = loss.seed(output.detach(), target)
    if not torch.allclose(seed, expected, rtol=RELATIVE[replica.dtype], atol=1e-6):
        raise AssertionError("the seed is not the gradient of the loss")


def _reference(replica: Replica, inputs: Inputs, targets: Tensor, loss: Loss) -> _Reference:
    """Gradients by autograd, one example at a time, from the same stable seed."""
    for parameter in replica.parameters.values():
        parameter.requires_grad_(True)
    names, parameters = list(replica.parameters), list(replica.parameters.values())
    norms: dict[str, Tensor] = {}
    totals: dict[str, Tensor] = {}
    losses = torch.zeros(len(inputs), dtype=torch.float64)
    for k in range(len(inputs)):
        output = replica(inputs.take(torch.tensor([k])))
        target = targets[k : k + 1].to(output.device)
        seed = loss.seed(output.detach(), target)
        losses[k] = float(loss.per_example(output.detach(), target))
        grads = torch.autograd.grad(seeded(output, seed), parameters, allow_unused=True)
        for name, gradient in zip(names, grads, strict=True):
            if gradient is None:
                continue
            g = gradient.to_dense()  # embeddings may give sparse ones
            norms.setdefault(name, torch.zeros(len(inputs), dtype=torch.float64))
            norms[name][k] = float(double(g).square().sum())
            totals[name] = totals[name] + g if name in totals else g
    network = torch.stack([*norms.values()]).sum(0) if norms else torch.zeros(len(inputs))
    return _Reference(norms, totals, network, losses)


def _unscaled(batch: BatchResult, name: str) -> Summary:
    """The summary as it is without the scale, in float64 on the CPU."""
    totals = batch.scaled_totals[name].cpu().double() / batch.scale
    return Summary(totals, batch.squared_norms(name))


def _check_reference(
    reference: _Reference, replica: Replica, inputs: Inputs, targets: Tensor, loss: Loss
) -> None:
    """Plain autograd over the batch must give the sum of what it gives one example at a time.

    The forward pass has been shown not to mix examples, so only a backward pass that is wrong for
    some shape can differ: torch's own has been, for some models, at a batch of one.
    """
    output = replica(inputs)
    seed = loss.seed(output.detach(), targets.to(output.device))
    names, parameters = list(replica.parameters), list(replica.parameters.values())
    grads = torch.autograd.grad(seeded(output, seed), parameters, allow_unused=True)
    rtol, floor = RELATIVE[replica.dtype], _floor(replica.dtype) * reference.network
    wrong = []
    for name, gradient in zip(names, grads, strict=True):
        if gradient is None or name not in reference.totals:
            continue
        difference = gradient.to_dense() - reference.totals[name]
        if _sum_is_off(difference, reference.squared_norms[name], rtol, floor):
            wrong.append(name)
    if wrong:
        raise InputError(
            "torch's backward pass gives an example another gradient alone than beside others",
            found=f"{listed(wrong)}: the gradient of {len(inputs)} probes together is not the sum "
            f"of the {len(inputs)} alone (torch {torch.__version__})",
            expected="the same gradient, as the model's outputs are the same",
            fix="another version of torch, or a model without the operation that differs; "
            "no number of this model can be trusted here",
        )


def _sum_is_off(difference: Tensor, expected: Tensor, rtol: float, floor: Tensor) -> bool:
    """Whether a sum of gradients is further from the expected one than rounding explains."""
    allowed = rtol**2 * len(floor) * expected.sum() + len(floor) * floor.sum()
    return bool(double(difference).square().sum().cpu() > allowed)


def _same_losses(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Whether the watched forward pass is the model's own: rewritten calls may be wrong."""
    scale = expected.abs().clamp_min(1.0)
    return bool(((found - expected).abs() <= RELATIVE[dtype] * scale).all())


def _inexact(names: list[str]) -> InputError:
    return InputError(
        "some parameters cannot be measured exactly",
        found=f"{listed(names)}: another gradient each time it is computed",
        expected="gradients that depend on the weights and one example alone",
        fix="give a factory that builds the model without caches: --model FILE.py:FACTORY",
    )


def _disagreeing(
    reference: _Reference, result: Mapping[str, Summary], dtype: torch.dtype, plan: Plan
) -> set[str]:
    """Parameters whose squared norms or sum are not those of the reference."""
    rtol, floor = RELATIVE[dtype], _floor(dtype) * reference.network
    wrong = set()
    for name in plan.methods:
        expected = reference.squared_norms.get(name, torch.zeros_like(floor))
        norms, difference = torch.zeros_like(floor), reference.totals.get(name)
        if name in result:
            norms, total = result[name].squared_norms.cpu(), result[name].totals[0].cpu()
            difference = total if difference is None else total - difference.cpu()
        q_off = (norms - expected).abs() > rtol * expected + floor
        s_off = difference is not None and _sum_is_off(difference, expected, rtol, floor)
        if bool(q_off.any()) or bool(s_off) or not bool(norms.isfinite().all()):
            wrong.add(name)
    return wrong


def _update(
    proof: Proof, reference: _Reference, result: Mapping[str, Summary], dtype: torch.dtype
) -> None:
    """Record what was proven, and what showed only rounding."""
    proof.examples += len(reference.network)
    proof.dtype = str(dtype).removeprefix("torch.")
    floor = _floor(dtype) * reference.network
    for name, expected in reference.squared_norms.items():
        above = expected > floor
        if bool(above.any()) and name in result:
            found = result[name].squared_norms.cpu()
            error = float(((found - expected).abs() / expected)[above].max())
            proof.errors[name] = max(error, proof.errors.get(name, 0.0))
        elif bool((expected > 0).any()):
            proof.rounding.add(name)


def _floor(dtype: torch.dtype) -> float:
    """Share of the network's squared gradient norm below which a parameter's is rounding."""
    return (ZERO_TO_ROUNDING * torch.finfo(dtype).eps) ** 2
