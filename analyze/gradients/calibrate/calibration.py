"""Find the plan: run tiny batches, see where weights meet the examples, choose rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from analyze.errors import InputError, listed
from analyze.gradients.calibrate.dependence import meetings
from analyze.gradients.calibrate.evidence import SIZES, Evidence, gather, row_by_row, rows
from analyze.gradients.calibrate.patterns import most_alike
from analyze.gradients.calibrate.recording import Recording, record
from analyze.gradients.model.order import ForwardOrder
from analyze.gradients.model.replica import Inputs, Replica
from analyze.gradients.plan import DERIVED, NEVER_USED, TRACED, VMAP, CallPlan, Plan
from analyze.gradients.rules import ALONE, MASKED, RULES, Call, Rule
from analyze.gradients.rules.one_call import flattened, unflattened
from analyze.gradients.step.failures import described, gives_way
from analyze.gradients.step.intercept import ForwardChangedError, Interception, parameters_of
from analyze.gradients.step.seeding import seeded

SAME = 1e-4  # relative difference of two ways to one call's gradients, in float32


def calibrate(replica: Replica, probes: Inputs, sizes: tuple[int, int] = SIZES) -> Plan:
    """The plan for ``replica``, from a handful of ``probes`` (at least one; five are best).

    Each call in which weights meet the examples gets the first rule that is exact for it. A call
    whose examples lie irregularly leaves its parameters to the fallback; so does a parameter that
    autograd still reaches past the calls. Where a model makes other calls for other examples, it is
    the plan of those probes of which the most make the same calls; if none do, the fallback is left
    with all parameters. What went wrong in a rule that was tried is among the plan's notes.
    ``sizes`` are those of the batches that are looked at, where it takes so many examples to make
    the calls together.

    Raises:
        InputError: the model has no backward pass.

    Cost: ten forward and seven backward passes over two or three examples.
    """
    plan, regular = _calibrated(replica, probes, sizes)
    if not regular and sizes == SIZES:
        some = most_alike(replica, probes)
        if len(some) < len(probes):
            plan, _ = _calibrated(replica, probes.take(some), sizes)
    return plan


def _calibrated(replica: Replica, probes: Inputs, sizes: tuple[int, int]) -> tuple[Plan, bool]:
    """The plan, and whether the probes made the same calls whichever of them were in a batch."""
    names = {id(parameter): name for name, parameter in replica.parameters.items()}
    with ForwardOrder(replica) as order:
        base = {n: record(replica, probes.take(rows(n, len(probes)))) for n in sizes}
    used = _used(replica, base[sizes[0]])
    met = meetings(base[sizes[0]], base[sizes[1]], names)
    evidence = None if met is None else gather(replica, probes, base, met)
    calls: list[CallPlan] = []
    notes: list[str] = []
    irregular: set[str] = set() if evidence is not None else used
    choosing = any(call.chosen or call.record.packed for call in evidence or [])
    for call in evidence or []:
        # A state of zeros, say, has no rows of its own: they become those that it is added to.
        chosen = call.chosen or (choosing and not call.data)
        planned = _planned(replace(call, chosen=chosen), notes)
        if planned is None:
            irregular |= {name for w in call.weights.values() for name in w.parameters}
        else:
            calls.append(planned)
    irregular |= _differentiated(base[sizes[0]], names)
    methods = _methods(replica.parameters, calls, used, irregular)
    plan = Plan(tuple(calls), methods, order.names(used))
    leaked = _leaked(replica, probes.take(rows(sizes[1], len(probes))), plan)
    plan = replace(plan, methods=methods | dict.fromkeys(leaked, VMAP), notes=tuple(notes))
    return plan, evidence is not None


def _planned(evidence: Evidence, notes: list[str]) -> CallPlan | None:
    """The call by the first exact rule, its rows traced where they differ from batch to batch."""
    planned = None
    if not (evidence.ragged or evidence.record.packed):
        planned = planned_by_first_exact_rule(evidence, notes)
        if not evidence.chosen:
            return planned or _traced(evidence, notes)
        if planned is not None and _has_rows(planned):
            # The order seen here may be another one in the next batch, by as many rows.
            return replace(planned, traced=True)
    return _traced(evidence, notes) or planned


def _traced(evidence: Evidence, notes: list[str]) -> CallPlan | None:
    """The call by a rule that takes its rows for examples, whose they are to be found out."""
    by_row = row_by_row(evidence)
    planned = None if by_row is None else planned_by_first_exact_rule(by_row, notes, (ALONE,))
    return None if planned is None else replace(planned, traced=True)


def _has_rows(call: CallPlan) -> bool:
    """Whether what the call gets has the rows of what it gives."""
    positions = {at.positions for at in (call.output, *call.axes.values())}
    return call.rule != MASKED.name and len(positions) == 1


def planned_by_first_exact_rule(
    evidence: Evidence, notes: list[str], besides: tuple[Rule, ...] = (ALONE, MASKED)
) -> CallPlan | None:
    """The functional's own rule if it is exact for this call, else autograd of the call.

    Returns:
        None where it is not known where the examples lie in the result.
    """
    own = None if _complex(evidence) else RULES.get(evidence.record.function)
    for rule in (*([] if own is None else [own]), *besides):
        call = _tried(rule, evidence, notes)
        if call is not None:
            return CallPlan(
                number=evidence.record.number or 0,
                function=evidence.record.function.__name__,
                rule=rule.name,
                weights={k: tuple(w.parameters) for k, w in call.weights.items()},
                axes=call.axes,
                output=call.output,
                derived=tuple(k for k, w in call.weights.items() if not w.direct),
            )
    return None


def _differentiated(recording: Recording, names: Mapping[int, str]) -> set[str]:
    """Parameters that the model takes a gradient through itself, inside of its forward pass.

    Their calls are met by two backward passes, so that no rule knows what arrives there.
    """
    within = [r for r in recording.records if r.function is torch.autograd.grad]
    return {n for r in within for tensor in r.inputs for n in parameters_of(tensor, names)}


def _tried(rule: Rule, evidence: Evidence, notes: list[str]) -> Call | None:
    """The call as a rule sees it where it is exact for it."""
    try:
        call = _bound(rule, evidence)
        return call if call is not None and _exact(call) else None
    except Exception as error:
        if not gives_way(error):
            raise
        names = [name for w in evidence.weights.values() for name in w.parameters]
        notes.append(f"{listed(names, 4)}: not measured by {rule.name}: {described(error)}")
        return None


class _Place(str):
    """Stands for a tensor at its place among the arguments."""

    __slots__ = ()


def _complex(evidence: Evidence) -> bool:
    """Whether the call has complex numbers: rules are of real ones, and conjugate nothing."""
    record = evidence.record
    return any(tensor.is_complex() for tensor in (*record.inputs, *record.outputs))


def _bound(rule: Rule, evidence: Evidence) -> Call | None:
    """The call as a rule sees it; None where the rule knows no weight or no examples there."""
    record, output = evidence.record, evidence.output_axis
    if output is None:
        return None
    flat = flattened(record.args, record.kwargs)
    marks = {p: _Place(p) if isinstance(v, Tensor) else v for p, v in flat.items()}
    args, kwargs = unflattened(marks, record.args, record.kwargs)
    names = {str(v): k for k, v in rule.bind(args, kwargs).items() if isinstance(v, _Place)}
    known = evidence.argument_axes
    if not (evidence.weights.keys() | evidence.data) <= names.keys():
        return None
    if rule in (ALONE, MASKED):
        if rule is ALONE and not (evidence.data | evidence.arguments.keys()) <= known.keys():
            return None
    elif not (
        {names[p] for p in evidence.weights} <= set(rule.weights)
        and {names[p] for p in evidence.data} <= set(rule.data)
    ):
        return None
    return Call(
        rule=rule,
        function=record.function,
        args=record.args,
        kwargs=record.kwargs,
        arguments=rule.bind(record.args, record.kwargs),
        weights={names[p]: weight for p, weight in evidence.weights.items()},
        axes={names[p]: axis for p, axis in known.items() if p in names},
        output=output,
        wanted=frozenset(names[p] for p in evidence.weights),
    )


def _exact(call: Call) -> bool:
    """Whether the rule takes the call; of autograd for each example alone, whether it agrees.

    A call that has the size of the batch written into it cannot run for one example. Of one that
    got no rows, such as an expert's, nothing is known before the proof.
    """
    if call.rule is MASKED:
        return True
    if call.rule is not ALONE:
        return call.rule.accepts(call)
    try:
        dy = _random_like(_result(call))
        if not dy.numel():
            return True
        alone, masked = call.rule.forms(call, dy), MASKED.forms(call, dy)
        few = min(2, call.output.count(dy))
        return all(_same(alone[k].explicit(0, few), masked[k].explicit(0, few)) for k in alone)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return False


def _result(call: Call) -> Tensor:
    """What the call gives, on a copy of what it may write into."""
    first = call.args[0]
    target = first.clone() if isinstance(first, Tensor) else first
    with torch.no_grad():
        result = call.function(target, *call.args[1:], **call.kwargs)
    return target if result is None else result


def _random_like(tensor: Tensor) -> Tensor:
    kind = torch.complex64 if tensor.is_complex() else None
    generator = torch.Generator().manual_seed(0)
    return torch.randn(tensor.shape, generator=generator, dtype=kind).to(tensor)


def _same(a: Tensor, b: Tensor) -> bool:
    scale = float(b.abs().amax()) if b.numel() else 0.0
    return a.shape == b.shape and bool((a - b).abs().le(SAME * scale).all())


def _used(replica: Replica, recording: Recording) -> set[str]:
    """Parameters that autograd gives a gradient.

    Raises:
        InputError: it fails.
    """
    output = recording.output
    if not output.requires_grad:
        return set()
    try:
        return _given_gradients(output, replica.parameters, retain_graph=True)
    except RuntimeError as error:  # whatever torch has against it
        raise InputError(
            "the model has no backward pass",
            found=f"torch says: {str(error).splitlines()[0]}",
            expected="a model that loss.backward() works on in eval mode",
            fix="try loss.backward() on two probes; give a factory that builds a model on which it "
            "works: --model FILE.py:FACTORY",
        ) from error


def _given_gradients(output: Tensor, leaves: dict[str, Any], retain_graph: bool) -> set[str]:
    start = seeded(output, torch.ones_like(output))
    found = torch.autograd.grad(
        start, [*leaves.values()], retain_graph=retain_graph, allow_unused=True
    )
    return {name for name, g in zip(leaves, found, strict=True) if g is not None}


def _methods(
    parameters: Iterable[str], calls: list[CallPlan], used: set[str], irregular: set[str]
) -> dict[str, str]:
    """The method of each parameter: the rules of its calls, or the fallback."""
    rules: dict[str, dict[str, None]] = {}
    marks: dict[str, set[str]] = {DERIVED: set(), TRACED: set()}
    for call in calls:
        for argument, own in call.weights.items():
            for name in own:
                rules.setdefault(name, {})[call.rule] = None
            if argument in call.derived:
                marks[DERIVED] |= set(own)
            if call.traced:
                marks[TRACED] |= set(own)
    methods = {}
    for name in parameters:
        if name not in used:
            methods[name] = NEVER_USED
        elif name in irregular or name not in rules:
            methods[name] = VMAP
        else:
            told = [mark for mark, names in marks.items() if name in names]
            methods[name] = ", ".join([" + ".join(rules[name]), *told])
    return methods


def _leaked(replica: Replica, batch: Inputs, plan: Plan) -> set[str]:
    """Parameters of rules that autograd still gives a gradient once the calls are taken over."""
    names = {id(parameter): name for name, parameter in replica.parameters.items()}
    mode = Interception(
        {c.number: c for c in plan.calls if c.number in plan.wanted},
        names,
        lambda number, call: lambda dy: None,
    )
    try:
        with torch.enable_grad(), mode:
            output = replica(batch)
    except ForwardChangedError as error:  # another call already with three examples
        return error.parameters or set(plan.by_rule)
    if not plan.by_rule or not output.requires_grad:
        return set()
    own = {name: replica.parameters[name] for name in plan.by_rule}
    return _given_gradients(output, {"": mode.anchor} | own, retain_graph=False) - {""}
