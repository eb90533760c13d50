"""Find the plan: run tiny batches, see which calls use parameters and where the examples lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from analyze.gradients.intercept import Interception
from analyze.gradients.layout import (
    ExampleLayout,
    agrees,
    changed_entries,
    possible_layouts,
)
from analyze.gradients.plan import NEVER_USED, VMAP, CallPlan, Plan
from analyze.gradients.replica import Inputs, Replica
from analyze.gradients.rules import Call

BATCH_SIZES = (2, 3)


def calibrate(replica: Replica, probes: Inputs) -> Plan:
    """The plan for ``replica``, from a handful of ``probes`` (at least one; five are best).

    For batch sizes 2 and 3 every example in turn is exchanged for another; where the input of a
    call changes tells which of its entries belong to that example. A call whose map is irregular,
    whose rule is not exact for its arguments, or that is not the same in every pass leaves its
    parameters to the fallback; so does a parameter that autograd still reaches past the calls.

    Cost: nine forward passes and one backward pass over two or three examples.
    """
    rows = {n: torch.arange(n) % len(probes) for n in BATCH_SIZES}
    base = {n: _calls(replica, probes.take(rows[n])) for n in BATCH_SIZES}
    signatures = [[call.signature for call in calls] for calls in base.values()]
    regular = all(s == signatures[0] for s in signatures)
    layouts = _layouts(replica, probes, rows, base) if regular else [None] * len(signatures[0])

    irregular: set[str] = set()
    for call, layout in zip(base[BATCH_SIZES[0]], layouts, strict=True):
        if layout is None or not call.rule.accepts(call.arguments, layout):
            irregular |= set(call.parameters.values())
    trace = _trace(replica, probes.take(rows[BATCH_SIZES[0]]))
    methods = {}
    for name in replica.parameters:
        functionals = trace.functionals.get(name, [])
        if name in trace.leaked or name in irregular:
            methods[name] = VMAP
        elif name not in trace.reached:
            methods[name] = NEVER_USED
        else:
            methods[name] = " + ".join(dict.fromkeys(functionals))
    calls = tuple(CallPlan(s, layout) for s, layout in zip(signatures[0], layouts, strict=True))
    return Plan(calls, methods, trace.order)


@dataclass(frozen=True)
class _Trace:
    """What one forward and backward pass shows of the parameters."""

    functionals: dict[str, list[str]]  # parameter to the functionals that use it
    reached: set[str]  # parameters whose calls a gradient came back to
    leaked: set[str]  # parameters that autograd reaches past the calls
    order: tuple[str, ...]


def _calls(replica: Replica, batch: Inputs) -> list[Call]:
    """The calls of one forward pass that use parameters, their inputs as they were then."""
    calls: list[Call] = []

    def record(call: Call) -> None:
        call.arguments["input"] = call.data.clone()  # later layers may write over it
        calls.append(call)

    # With gradients on: without them attention takes a fast path that makes no such calls.
    with torch.enable_grad(), Interception(_names(replica), record):
        replica(batch)
    return calls


def _layouts(
    replica: Replica, probes: Inputs, rows: dict[int, Tensor], base: dict[int, list[Call]]
) -> list[ExampleLayout | None]:
    """Where the examples of each call's input lie; None where no layout explains the changes."""
    found = [
        possible_layouts({n: calls[k].data.shape for n, calls in base.items()})
        for k in range(len(base[BATCH_SIZES[0]]))
    ]
    for n, example, exchanged in _exchanges(len(probes), rows):
        calls = _calls(replica, probes.take(exchanged))
        if [c.signature for c in calls] != [c.signature for c in base[n]]:
            return [None] * len(found)
        for k, (call, other) in enumerate(zip(base[n], calls, strict=True)):
            if call.data.shape != other.data.shape:
                found[k] = []
            else:
                changed = changed_entries(call.data, other.data)
                found[k] = [layout for layout in found[k] if agrees(layout, changed, example)]
    return [layouts[0] if len(layouts) == 1 else None for layouts in found]


def _exchanges(available: int, rows: dict[int, Tensor]) -> Iterator[tuple[int, int, Tensor]]:
    """Batch size, the example exchanged, and the rows of the probes with it exchanged."""
    for n, base in rows.items():
        for example in range(n):
            exchanged = base.clone()
            exchanged[example] = (n + example) % available
            yield n, example, exchanged


def _trace(replica: Replica, batch: Inputs) -> _Trace:
    """One pass with gradients: who is reached by the calls, who past them, and in which order."""
    functionals: dict[str, list[str]] = {}
    reached: set[str] = set()
    order: dict[str, None] = {}
    module_of = {id(m): name for name, m in replica.model.named_modules()}

    def on_call(call: Call) -> Callable[[Tensor], None]:
        names = list(call.parameters.values())
        order.update(dict.fromkeys(names))
        for name in names:
            functionals.setdefault(name, []).append(call.rule.name)
        return lambda _dy: reached.update(names)

    def on_module(module: nn.Module, _args: object) -> None:
        prefix = module_of.get(id(module), "")
        own = [f"{prefix}.{n}" if prefix else n for n, _ in module.named_parameters(recurse=False)]
        order.update(dict.fromkeys(name for name in own if name in replica.parameters and prefix))

    hooks = [m.register_forward_pre_hook(on_module) for m in replica.model.modules()]
    try:
        mode = Interception(_names(replica), on_call)
        with mode:
            output = replica(batch)
    finally:
        for hook in hooks:
            hook.remove()
    names = list(replica.parameters)
    inputs = [mode.anchor, *replica.parameters.values()]
    grads = torch.autograd.grad(output, inputs, torch.ones_like(output), allow_unused=True)
    leaked = {name for name, g in zip(names, grads[1:], strict=True) if g is not None}
    for name in names:  # parameters seen by no call and owned by no module that ran
        order.setdefault(name)
    used = reached | leaked
    ordered = sorted(order, key=lambda name: name not in used)
    return _Trace(functionals, reached, leaked, tuple(ordered))


def _names(replica: Replica) -> dict[int, str]:
    return {id(parameter): name for name, parameter in replica.parameters.items()}
