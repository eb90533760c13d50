"""Prove the plan: the engine against plain autograd, one example at a time, in float64.

Every parameter's per-example squared norms and sum are compared on real probes. What disagrees is
measured by the next method; what cannot be measured exactly is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from analyze.errors import CheckpointError, InputError, listed
from analyze.gradients.calibrate.learning import otherwise
from analyze.gradients.checks.finite_differences import derivative_among
from analyze.gradients.checks.precision import ANEW, LOSSES, RELATIVE, ROUNDINGS, rounding_share
from analyze.gradients.checks.reference import (
    Reference,
    alone,
    of_one,
    rounding_of,
    squared_norm,
    together,
)
from analyze.gradients.forms import Summary
from analyze.gradients.losses import Loss
from analyze.gradients.model.replica import Inputs, Replica
from analyze.gradients.plan import NEVER_USED, ONE_AT_A_TIME, Plan
from analyze.gradients.step.batch import BatchResult, measure_batch
from analyze.gradients.step.failures import MethodFailedError, demoted
from analyze.gradients.step.intercept import ForwardChangedError

RESOLVED = 0.1**2  # of a squared norm: rounding below it leaves a gradient to be seen
MARGIN = 8.0  # times what a parameter's own arithmetic rounds: its floor
EXPLAINED = 0.05**2  # of a squared norm: rounding below it may explain that two ways differ

PROVEN = "proven"
ROUNDING = "zero to rounding"
ZERO = "zero: unproven"


@dataclass
class Levels:
    """Largest squared norms, as shares of the network's, that parameters as small as rounding had.

    Args:
        rounding: Of those that were found to be nothing else: the largest of any checkpoint.
        real: Of those that were found to be gradients: the smallest.
    """

    rounding: dict[str, float] = field(default_factory=dict)
    real: dict[str, float] = field(default_factory=dict)


@dataclass
class Proof:
    """What was compared so far, over all checkpoints.

    Args:
        errors: Largest relative error of each proven parameter's squared norms.
        rounding: Parameters whose gradient was never more than rounding, but not always zero.
        levels: At which sizes they were judged.
        dtype: Precision of the comparison.
        examples: How many examples were compared.
        notes: Gets why a method gave way to the next one, for the user.
    """

    errors: dict[str, float] = field(default_factory=dict)
    rounding: set[str] = field(default_factory=set)
    levels: Levels = field(default_factory=Levels)
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


def prove(
    replica: Replica,
    inputs: Inputs,
    targets: Tensor,
    loss: Loss,
    plan: Plan,
    proof: Proof,
    precision: torch.dtype,
) -> Plan:
    """The plan, with every parameter that disagreed demoted until all agree.

    A parameter agrees when ``|q - q_ref| <= rtol * q_ref + floor`` for each example and
    ``|S - S_ref|`` is as small; it is proven once a reference gradient is above the floor, which is
    ``(64 eps)^2`` of the network's squared gradient, or what the parameter's own arithmetic rounds
    where that is less (``reference.rounding_of``). ``proof`` is brought up to date.

    Args:
        replica: In float64 where the model can.
        inputs: A few probes.
        targets: ``[N, ...]``.
        loss: As for the run.
        plan: With the algorithms as chosen for full batches, where it has run on one.
        proof: What earlier checkpoints showed.
        precision: The coarsest inside the replica, which fixes rtol (1e-9 in float64, 1e-3 in
            float32) and eps.

    Raises:
        CheckpointError: autograd itself gives no finite losses or gradients.
        InputError: a parameter disagrees even one example at a time, or autograd itself gives an
            example another gradient alone than in a batch, and it is not shown which is right.

    Cost: a forward and backward pass per example, one for all of them, and a batch for every round
    of demotions; three more per example where a gradient is as small as rounding.
    """
    examples = inputs, targets
    reference, copies = _checked_reference(replica, examples, loss, plan.copies, precision)
    _check_seed(replica, inputs, targets, loss)
    plan = replace(plan, copies=copies)
    floors = _Floors(replica, examples, loss, precision, copies, reference)
    while True:
        try:
            batch = measure_batch(replica, inputs, targets, loss, plan)
        except (ForwardChangedError, MethodFailedError) as failure:
            plan, _ = otherwise(replica, failure, plan, proof.notes)  # proven by what follows
            continue
        result = {name: _unscaled(batch, name) for name in batch.scaled_squares}
        if not same_losses(batch.losses, reference.losses, precision):
            if not plan.by_rule:  # the model's own calls, unwatched: nothing is left to change
                raise inexact(sorted(plan.methods))
            other = MethodFailedError(plan.by_rule, "the watched forward pass gave other losses")
            plan = demoted(plan, other, proof.notes)
            continue
        wrong = floors.unexplained(result, _disagreeing(reference, result, plan, floors))
        if not wrong:
            break
        hopeless = {name for name in wrong if plan.methods[name] == ONE_AT_A_TIME}
        if hopeless:
            raise inexact(sorted(hopeless))
        other = MethodFailedError(wrong, "the method before disagreed with plain autograd")
        plan = demoted(plan, other, proof.notes)
    _update(proof, reference, result, floors, replica.dtype)
    return plan


Examples = tuple[Inputs, Tensor]


def _checked_reference(
    replica: Replica, examples: Examples, loss: Loss, copies: int, precision: torch.dtype
) -> tuple[Reference, int]:
    """The reference, and how often an example stands in its batch there.

    Plain autograd over the batch must give the sum of what it gives one example at a time. The
    forward pass has been shown not to mix examples, so only a backward pass that is wrong for some
    shape can differ: torch's own has been, for some models, at a batch of one. An example beside
    itself is taken then, if finite differences side with it.

    Raises:
        CheckpointError: losses or gradients are not finite.
        InputError: the two differ, and it is not shown that one is right.
    """
    reference = alone(replica, *examples, loss, copies)
    _check_finite(reference)
    wrong = _off_the_batch(replica, examples, loss, reference, precision, copies)
    if not wrong:
        return reference, copies
    verdict = None
    if copies == 1:
        doubled = alone(replica, *examples, loss, 2)
        if not _off_the_batch(replica, examples, loss, doubled, precision, 2):
            verdict = _derivative_of(replica, examples, loss, reference, doubled)
        if verdict == 1:
            return doubled, 2
    sides = "with the gradient alone" if verdict == 0 else "with neither for sure"
    raise InputError(
        "the backward pass gives an example another gradient alone than beside others",
        found=f"{listed(wrong)}: the gradient of {len(examples[0])} probes together is not the sum "
        f"of those alone, though the outputs are the same (torch {torch.__version__}); finite "
        f"differences side {sides}",
        expected="one gradient of each example, whatever stands beside it",
        fix="look for a custom autograd function whose backward pass depends on the batch; for a "
        "maximum, mean or sort over the batch, or a parameter for each place in it, whose weight "
        "is zero as yet; and for a loss that looks at other examples. Give a model without what "
        "differs: --model FILE.py:FACTORY",
    )


def _off_the_batch(
    replica: Replica,
    examples: Examples,
    loss: Loss,
    reference: Reference,
    precision: torch.dtype,
    copies: int,
) -> list[str]:
    """Parameters whose gradient over the batch is not the sum of the reference's gradients."""
    _, gradients = together(replica, *examples, loss)
    floor = rounding_share(precision) * reference.network
    wrong = [
        name
        for name, gradient in gradients.items()
        if name in reference.totals
        and _sum_is_off(
            squared_norm(gradient - reference.totals[name]),
            reference.squared_norms[name], RELATIVE[precision], floor,
        )
    ]  # fmt: skip
    if not wrong:
        return []
    own = rounding_of(replica, *examples, loss, wrong, precision, copies)
    return [
        name
        for name in wrong
        if not _explained(
            squared_norm(gradients[name] - reference.totals[name]),
            own[name].sum(), reference.squared_norms[name].sum(),
        )
    ]  # fmt: skip


def _derivative_of(
    replica: Replica, examples: Examples, loss: Loss, one: Reference, other: Reference
) -> int | None:
    """Which reference finite differences side with, at the example in which they differ most."""
    k = int((one.network - other.network).abs().argmax())
    gradients = [of_one(replica, *examples, loss, k, copies)[1] for copies in (1, 2)]
    row = torch.tensor([k])
    example = examples[0].take(row), examples[1][row]
    return derivative_among(replica, *example, loss, gradients[0], gradients[1])


def _check_finite(reference: Reference) -> None:
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


def _unscaled(batch: BatchResult, name: str) -> Summary:
    """The summary as it is without the scale, in float64 on the CPU."""
    totals = batch.scaled_totals[name].cpu()
    totals = totals if totals.is_complex() else totals.double()
    return Summary(totals / batch.scale, batch.squared_norms(name))


def _sum_is_off(difference: float, expected: Tensor, rtol: float, floor: Tensor) -> bool:
    """Whether a sum of gradients is further from the expected one than rounding explains."""
    allowed = rtol**2 * len(floor) * expected.sum() + len(floor) * floor.sum()
    return bool(difference > allowed)


def _explained(difference: float, rounding: Tensor, expected: Tensor) -> bool:
    """Whether a squared difference is within the rounding of the parameter's own arithmetic.

    Rounding as large as the gradient explains nothing.
    """
    allowed = ROUNDINGS**2 * float(rounding)
    return difference <= allowed <= EXPLAINED * float(expected)


def same_losses(found: Tensor, expected: Tensor, precision: torch.dtype) -> bool:
    """Whether the watched forward pass is the model's own: rewritten calls may be wrong."""
    scale = expected.abs().clamp_min(1.0)
    return bool(((found - expected).abs() <= LOSSES[precision] * scale).all())


def inexact(names: list[str], where: str = "") -> InputError:
    """The refusal of parameters that no method measures as plain autograd does."""
    return InputError(
        "some parameters cannot be measured exactly",
        found=f"{listed(names)}: another gradient each time it is computed{where}",
        expected="gradients that depend on the weights and one example alone",
        fix="give a factory that builds the model without caches: --model FILE.py:FACTORY",
    )


class _Floors:
    """Below which size a gradient is rounding, for each parameter and example.

    Args:
        replica: The model.
        examples: N probes.
        loss: Of one of them.
        precision: The coarsest inside.
        copies: How often an example stands in its batch.
        reference: What autograd gives of them.
    """

    def __init__(
        self,
        replica: Replica,
        examples: Examples,
        loss: Loss,
        precision: torch.dtype,
        copies: int,
        reference: Reference,
    ) -> None:
        self._of = lambda names, steps: rounding_of(
            replica, *examples, loss, names, precision, copies, steps
        )
        self._reference = reference
        self.precision = precision
        self._network = rounding_share(precision) * reference.network
        self._own: dict[str, Tensor] = {}
        small = [
            name
            for name, squares in reference.squared_norms.items()
            if bool((squares > 0).any()) and bool((squares <= self._network).all())
        ]
        for name, rounding in self._rounding(small, ANEW).items():
            squares = reference.squared_norms[name]
            if bool((rounding <= RESOLVED * squares)[squares > 0].any()):
                self._own[name] = torch.minimum(MARGIN**2 * rounding.max(), self._network)

    def of(self, name: str) -> Tensor:
        """``[N]``."""
        return self._own.get(name, self._network)

    def unexplained(self, result: Mapping[str, Summary], wrong: Collection[str]) -> set[str]:
        """Of the parameters that disagree, those of which the model's own rounding is no reason."""
        left = set(wrong)
        for name, rounding in self._rounding([n for n in wrong if n in result], 1).items():
            squares, found = self._reference.squared_norms[name], result[name]
            change = squared_norm(found.totals[0] - self._reference.totals[name].cpu())
            lengths = (found.squared_norms.cpu().sqrt() - squares.sqrt()).square()
            if _explained(change, rounding.sum(), squares.sum()) and all(
                _explained(float(d), e, q)
                for d, e, q in zip(lengths, rounding, squares, strict=True)
            ):
                left.discard(name)
        return left

    def _rounding(self, names: Collection[str], steps: int) -> dict[str, Tensor]:
        return self._of(names, steps) if names else {}


def _disagreeing(
    reference: Reference, result: Mapping[str, Summary], plan: Plan, floors: _Floors
) -> set[str]:
    """Parameters whose squared norms or sum are not those of the reference."""
    rtol = RELATIVE[floors.precision]
    wrong = set()
    for name in plan.methods:
        floor = floors.of(name)
        expected = reference.squared_norms.get(name, torch.zeros_like(floor))
        norms, difference = torch.zeros_like(floor), reference.totals.get(name)
        if name in result:
            norms, total = result[name].squared_norms.cpu(), result[name].totals[0].cpu()
            difference = total if difference is None else total - difference.cpu()
        q_off = (norms - expected).abs() > rtol * expected + floor
        s_off = difference is not None and _sum_is_off(
            squared_norm(difference), expected, rtol, floor
        )
        if bool(q_off.any()) or s_off or not bool(norms.isfinite().all()):
            wrong.add(name)
    return wrong


def _update(
    proof: Proof,
    reference: Reference,
    result: Mapping[str, Summary],
    floors: _Floors,
    dtype: torch.dtype,
) -> None:
    """Record what was proven, and what showed only rounding."""
    proof.examples += len(reference.losses)
    proof.dtype = str(dtype).removeprefix("torch.")
    for name, expected in reference.squared_norms.items():
        above = expected > floors.of(name)
        if bool(above.any()) and name in result:
            found = result[name].squared_norms.cpu()
            error = float(((found - expected).abs() / expected)[above].max())
            proof.errors[name] = max(error, proof.errors.get(name, 0.0))
        elif bool((expected > 0).any()):
            proof.rounding.add(name)
