"""Chooses the rule that measures a call: the first that is exact for it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from analyze.errors import described, listed, misplaced, out_of_memory
from analyze.gradients.calibrate.evidence import Evidence, row_by_row
from analyze.gradients.plan import CallPlan
from analyze.gradients.rules import ALONE, MASKED, RULES, Call, Rule
from analyze.gradients.rules.one_call import flattened, unflattened
from analyze.gradients.step.failures import gives_way

SAME = 1e-4  # relative difference of two ways to one call's gradients, in float32


def planned(evidence: Evidence, notes: list[str]) -> CallPlan | None:
    """The call by the first exact rule, its rows traced where they differ from batch to batch.

    ``notes`` gets what went wrong in a rule that was tried. The result is None where the examples
    lie irregularly.
    """
    call = None
    if not (evidence.ragged or evidence.record.packed):
        call = _by_first_exact_rule(evidence, notes)
        if not evidence.chosen:
            return call or _traced(evidence, notes)
        if call is not None and _has_rows(call):
            # The order seen here may be another one in the next batch, by as many rows.
            return replace(call, traced=True)
    return _traced(evidence, notes) or call


def _traced(evidence: Evidence, notes: list[str]) -> CallPlan | None:
    """The call by a rule that takes each row for an example, to be matched in every batch."""
    by_row = row_by_row(evidence)
    call = None if by_row is None else _by_first_exact_rule(by_row, notes, (ALONE,))
    return None if call is None else replace(call, traced=True)


def _has_rows(call: CallPlan) -> bool:
    """Whether the arguments of the call have the same rows as its result."""
    positions = {at.positions for at in (call.output, *call.axes.values())}
    return call.rule != MASKED.name and len(positions) == 1


def _by_first_exact_rule(
    evidence: Evidence, notes: list[str], besides: tuple[Rule, ...] = (ALONE, MASKED)
) -> CallPlan | None:
    """The functional's own rule if it is exact for this call, else autograd of the call.

    The result is None where it is not known where the examples lie in the result.
    """
    of_function = None if _complex(evidence) else RULES.get(evidence.record.function)
    for rule in (*([] if of_function is None else [of_function]), *besides):
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


def _tried(rule: Rule, evidence: Evidence, notes: list[str]) -> Call | None:
    """The call as a rule sees it, if the rule is exact for it."""
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
    """A stand-in for a tensor at its place among the arguments."""

    __slots__ = ()


def _complex(evidence: Evidence) -> bool:
    """Whether the call has complex numbers: rules are for real ones, and conjugate nothing."""
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
    """Whether the rule takes the call; for autograd of each example alone, whether it agrees.

    A call that has the size of the batch written into it cannot run for one example. Of a call that
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
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        if misplaced(error) or out_of_memory(error):  # which say nothing of the call
            raise
        return False


def _result(call: Call) -> Tensor:
    """The result of the call, on a copy of the argument that it may write into."""
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
