"""Finds the plan: run tiny batches, see where weights meet the examples, choose rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from analyze.errors import InputError, first_line, out_of_memory
from analyze.gradients.calibrate.choosing import planned
from analyze.gradients.calibrate.dependence import meetings
from analyze.gradients.calibrate.evidence import (
    SIZES,
    Gathered,
    Gradients,
    backward,
    gather,
    results_of,
    rows,
)
from analyze.gradients.calibrate.patterns import most_alike
from analyze.gradients.calibrate.recording import EVERY_CALL, Recording, record
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.module_calls import forward_order
from analyze.gradients.model.replica import Replica
from analyze.gradients.plan import NEVER_USED, VMAP, CallPlan, Method, Plan
from analyze.gradients.step.intercept import ForwardChangedError, Interception, parameters_of
from analyze.gradients.step.output import seeded

NONE = Gathered(None, steady=False)  # where the two batches make other calls


class Calibration(NamedTuple):
    """A plan, and what the passes that it was found by have shown besides."""

    plan: Plan
    recording: Recording  # one of the passes
    regular: bool  # whether the model made the same calls whichever probes were in a batch
    steady: bool  # whether each example had the same output to the bit, whatever its mates


def calibrate(replica: Replica, probes: Inputs, sizes: tuple[int, int] = SIZES) -> Plan:
    """The plan for ``replica``, see ``calibrated``."""
    return calibrated(replica, probes, sizes).plan


def calibrated(replica: Replica, probes: Inputs, sizes: tuple[int, int] = SIZES) -> Calibration:
    """The plan for ``replica``, from a handful of ``probes`` (at least one; five are best).

    Each call in which weights meet the examples gets the first rule that is exact for it. A call
    whose examples lie irregularly leaves its parameters to the fallback; so does a parameter that
    autograd still reaches past the calls. Where a model makes other calls for other examples, the
    plan is that of the largest group of probes that make the same calls; where a batch of these
    makes others, the fallback is left with all parameters. The plan's notes say what went wrong in
    rules that were tried. ``sizes`` are those of the tiny batches, larger where it takes several
    examples to make the calls.

    Raises:
        InputError: the model has no backward pass.

    Cost: a forward pass of two examples, five of three, and four backward passes of three.
    """
    of_all = _calibrated(replica, probes, sizes)
    if not of_all.regular and sizes == SIZES:
        some = most_alike(replica, probes)
        if len(some) < len(probes):
            of_some = _calibrated(replica, probes.take(some), sizes)
            return of_some._replace(steady=False)  # of the others it is not known
    return of_all


def _calibrated(replica: Replica, probes: Inputs, sizes: tuple[int, int]) -> Calibration:
    """The calibration on probes that are taken to make the same calls."""
    names = {id(parameter): name for name, parameter in replica.parameters.items()}
    with forward_order(replica) as order:
        base = {n: record(replica, probes.take(rows(n, len(probes))), EVERY_CALL) for n in sizes}
    small, large = base.values()
    met = meetings(small, large, names)
    results = {} if met is None else results_of(met, small, large)
    used, at_results = _used(replica, large, results)
    gathered = NONE if met is None else gather(replica, probes, base, met, at_results)
    evidence = gathered.calls or []
    calls: list[CallPlan] = []
    notes: list[str] = []
    irregular: set[str] = used if gathered.calls is None else set()
    choosing = any(call.chosen or call.record.packed for call in evidence)
    for call in evidence:
        # A state of zeros, say, has no rows of its own: they become those that it is added to.
        chosen = call.chosen or (choosing and not call.data)
        call_plan = planned(replace(call, chosen=chosen), notes)
        if call_plan is None:
            irregular |= {name for w in call.weights.values() for name in w.parameters}
        else:
            calls.append(call_plan)
    irregular |= _differentiated(small, names)
    methods = _methods(replica.parameters, calls, used, irregular)
    in_order = dict.fromkeys((*order, *replica.parameters))
    never_used_last = sorted(in_order, key=lambda name: name not in used)
    plan = Plan(tuple(calls), methods, tuple(never_used_last))
    leaked = _leaked(replica, probes.take(rows(sizes[1], len(probes))), plan)
    plan = replace(plan, methods=methods | dict.fromkeys(leaked, VMAP), notes=tuple(notes))
    return Calibration(plan, small, gathered.calls is not None, gathered.steady)


def _differentiated(recording: Recording, names: Mapping[int, str]) -> set[str]:
    """Parameters that the model takes a gradient through itself, inside of its forward pass.

    Two backward passes meet their calls, so that no rule knows what arrives there.
    """
    within = [r for r in recording.records if r.function is torch.autograd.grad]
    return {n for r in within for tensor in r.inputs for n in parameters_of(tensor, names)}


def _used(
    replica: Replica, recording: Recording, results: Gradients
) -> tuple[set[str], dict[int, Tensor]]:
    """Parameters that autograd gives a gradient, and the first example's gradient at results.

    Raises:
        InputError: the backward pass fails.
    """
    try:
        gradients = backward(recording.output, 0, {**results, **replica.parameters})
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise InputError(
            "the model has no backward pass",
            found=f"torch says: {first_line(error)}",
            expected="a model that loss.backward() works on in eval mode",
            fix="try loss.backward() on two probes; give a factory that builds a model on which it "
            "works: --model FILE.py:FACTORY",
        ) from error
    used = replica.parameters.keys() & gradients.keys()
    return used, {number: g for number, g in gradients.items() if number in results}


def _given_gradients(output: Tensor, leaves: dict[str, Any], retain_graph: bool) -> set[str]:
    start = seeded(output, torch.ones_like(output))
    gradients = torch.autograd.grad(
        start, [*leaves.values()], retain_graph=retain_graph, allow_unused=True
    )
    return {name for name, g in zip(leaves, gradients, strict=True) if g is not None}


def _methods(
    parameters: Iterable[str], calls: list[CallPlan], used: set[str], irregular: set[str]
) -> dict[str, Method]:
    """The method of each parameter: the rules of its calls, or the fallback."""
    methods: dict[str, Method] = {}
    for call in calls:
        for argument, names in call.weights.items():
            method = Method((call.rule,), argument in call.derived, call.traced)
            for name in names:
                methods[name] = methods[name].merged(method) if name in methods else method
    return {
        name: NEVER_USED if name not in used
        else VMAP if name in irregular
        else methods.get(name, VMAP)
        for name in parameters
    }  # fmt: skip


def _leaked(replica: Replica, batch: Inputs, plan: Plan) -> set[str]:
    """Parameters of rules that autograd still gives a gradient once the calls are taken over."""
    names = {id(parameter): name for name, parameter in replica.parameters.items()}
    mode = Interception(
        {c.number: c for c in plan.calls if c.number in plan.wanted},
        names,
        lambda number, call: lambda dy: None,
        replica.device,
    )
    try:
        with torch.enable_grad(), mode:
            output = replica(batch)
    except ForwardChangedError as error:  # three examples make another call already
        return error.parameters or set(plan.by_rule)
    if not plan.by_rule or not output.requires_grad:
        return set()
    by_rule = {name: replica.parameters[name] for name in plan.by_rule}
    return _given_gradients(output, {"": mode.anchor} | by_rule, retain_graph=False) - {""}
