"""Prove the plan: the engine against plain autograd, one example at a time, in float64.

Every parameter's per-example squared norms and sum are compared on real probes. What disagrees is
measured by the next method; what cannot be measured exactly is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from analyze.errors import InputError, listed
from analyze.gradients.calibrate.learning import replanned
from analyze.gradients.checks.along import differs_from_derivative, disagreeing, trial_directions
from analyze.gradients.checks.backward_pass import check_finite, trustworthy
from analyze.gradients.checks.floors import Floors
from analyze.gradients.checks.precision import losses_agree
from analyze.gradients.checks.proof import Proof
from analyze.gradients.checks.reference import Autograd, Reference
from analyze.gradients.checks.refusal import refuse_mixing
from analyze.gradients.data.loader import Examples
from analyze.gradients.forms import Summary
from analyze.gradients.numbers import double
from analyze.gradients.plan import FALLBACKS, ONE_AT_A_TIME, Plan
from analyze.gradients.step.along import Along
from analyze.gradients.step.batch import measure_batch
from analyze.gradients.step.failures import MethodFailedError, demoted
from analyze.gradients.step.intercept import ForwardChangedError
from analyze.gradients.step.result import BatchResult

DISAGREED = "the method before disagreed with plain autograd"
WATCHED = "the watched forward pass gave other losses"  # a rewritten call may be wrong
NO_DERIVATIVE = (
    "the gradients are not the derivatives of the losses, as behind a straight-through estimator "
    "or a gradient that is cut or reversed: alignments are those of the gradients"
)


def prove(
    autograd: Autograd,
    examples: Examples,
    plan: Plan,
    proof: Proof,
    directions: tuple[int, ...] = (),
) -> tuple[Plan, Proof]:
    """The plan with every parameter that disagreed demoted until all agree, and its proof.

    A parameter agrees when ``|q - q_ref| <= rtol * q_ref + floor`` for each example and ``|S -
    S_ref|`` is as small; it is proven once a reference gradient is above the floor
    (``floors.Floors``). The precision of ``autograd``, float64 where the model runs in it, fixes
    rtol: 1e-9 in float64 and 1e-3 in float32. The proof goes on from that of earlier checkpoints.

    ``directions`` has how many directions the gradients are multiplied with in each pass, the
    second of which does nothing else. As many random ones are tried, and have to agree as well. A
    note tells where the gradients do not add up to the losses' derivatives in forward mode.

    Raises:
        CheckpointError: autograd itself gives no finite losses or gradients.
        InputError: a parameter disagrees even one example at a time, or autograd itself gives an
            example another gradient alone than in a batch, and it is not shown which is right.

    Cost: a forward and backward pass per example, and one of all of them by the plan for every
    round of demotions; three more per example where a gradient is as small as rounding. Where
    something disagrees or is left to a fallback, a forward and backward pass of all by autograd.
    """
    trial = trial_directions(autograd.replica, max(directions)) if any(directions) else {}
    autograd = replace(autograd, copies=plan.copies, along=trial)
    reference = autograd.alone(examples)
    check_finite(reference)
    floors, trusted = Floors(autograd, examples, reference), False
    while True:
        try:
            passes = _passes(autograd, examples, plan, directions)
        except (ForwardChangedError, MethodFailedError) as failure:
            plan = replanned(autograd.replica, failure, plan).plan  # proven by what follows
            continue
        batch = passes[0]
        result, losses = _unscaled(batch), torch.from_numpy(batch.losses)
        losses_differ = not losses_agree(losses, reference.losses, autograd.precision)
        wrong = {*plan.by_rule} if losses_differ else floors.disagreeing(result, plan.methods)
        for dots in (of_pass.all_dots for of_pass in passes if of_pass.all_dots and not wrong):
            wrong = disagreeing(autograd, examples, reference, floors, dots, plan.methods)
        # A batch that gives each example its gradient alone, by its own backward pass, leaves no
        # doubt of either. A fallback has not been through that pass.
        if not trusted and (wrong or losses_differ or any(map(plan.by_fallback, FALLBACKS))):
            if wrong or losses_differ:
                refuse_mixing(autograd.replica, examples.inputs, autograd.precision)
            reference, autograd = trustworthy(autograd, examples, reference)
            trusted = True
            if autograd.copies != plan.copies:
                plan = replace(plan, copies=autograd.copies)
                floors = Floors(autograd, examples, reference)
                continue
        if losses_differ and not wrong:  # the model's own calls, unwatched: nothing left to change
            raise inexact(plan.methods)
        if not wrong:
            if trial and differs_from_derivative(autograd, examples, reference):
                plan = replace(plan, notes=(*plan.notes, NO_DERIVATIVE))
            return plan, _extended(proof, reference, result, floors, autograd.replica.dtype)
        if hopeless := {name for name in wrong if plan.methods[name] == ONE_AT_A_TIME}:
            raise inexact(hopeless)
        plan = demoted(plan, MethodFailedError(wrong, WATCHED if losses_differ else DISAGREED))


def _passes(
    autograd: Autograd, examples: Examples, plan: Plan, directions: tuple[int, ...]
) -> list[BatchResult]:
    """The results of the passes that a measurement makes, with random directions in each."""
    measured = partial(measure_batch, autograd.replica, *examples, autograd.loss, plan)
    if not any(directions):
        return [measured()]
    before, sums = ({n: v[:count] for n, v in autograd.along.items()} for count in directions)
    results = [measured(along=Along(before) if directions[0] else None)]
    return [*results, measured(along=Along(sums, alone=True))] if directions[1] else results


def inexact(names: Iterable[str], where: str = "") -> InputError:
    """The refusal of parameters that no method measures as plain autograd does."""
    return InputError(
        "some parameters cannot be measured exactly",
        found=f"{listed(sorted(names))}: another gradient each time it is computed{where}",
        expected="gradients that depend on the weights and one example alone",
        fix="give a factory that builds the model without caches: --model FILE.py:FACTORY",
    )


def _unscaled(batch: BatchResult) -> dict[str, Summary]:
    """The summary of each parameter without the scale: sums on their device, norms on the CPU."""
    norms = zip(batch.names, torch.from_numpy(batch.squared_norms), strict=True)
    return {name: Summary(_wide(batch.scaled_totals[name]) / batch.scale, q) for name, q in norms}


def _wide(totals: Tensor) -> Tensor:
    return totals if totals.is_complex() else double(totals)


def _extended(
    proof: Proof,
    reference: Reference,
    result: Mapping[str, Summary],
    floors: Floors,
    dtype: torch.dtype,
) -> Proof:
    """The proof with what was proven, and what showed only rounding."""
    errors, rounding = {}, set()
    for name, expected in reference.squared_norms.items():
        above = expected > floors.of(name)
        if bool(above.any()) and name in result:
            norms = result[name].squared_norms
            errors[name] = float(((norms - expected).abs() / expected)[above].max())
        elif bool((expected > 0).any()):
            rounding.add(name)
    return replace(
        proof.adding(errors, rounding),
        dtype=str(dtype).removeprefix("torch."),
        examples=proof.examples + len(reference.losses),
    )
