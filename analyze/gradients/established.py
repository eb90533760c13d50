"""What calls of ``measure`` have established of models, for further calls in the same process.

A plan is taken over for a model that looks the same: same classes and code, attributes, shapes,
kinds of numbers, hooks, probes' shapes, loss, settings and threads. Looking the same is no proof,
as a function may read what nothing here sees. Whoever takes a plan over proves it again.
"""

from __future__ import annotations

import hashlib
import threading
import types
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from analyze.gradients.checks.proof import Proof
from analyze.gradients.losses import LOSSES
from analyze.gradients.model.reachable import ATOMS, children, in_a_library, named_globals
from analyze.gradients.state import EngineState
from analyze.gradients.workload import Workload

MOST = 16  # plans that are kept, those that were used last
PLAIN = (  # values whose text says all of them; of a function, which it is
    torch.dtype, torch.device, torch.layout, torch.memory_format, np.generic, np.dtype, slice,
    range, types.BuiltinFunctionType,
)  # fmt: skip
OF_A_MOMENT = frozenset({"training"})  # attributes of modules that a measurement sets itself


class Established:
    """States by what models look like; several threads may use it."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, EngineState] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, key: str) -> EngineState | None:
        """A state whose plan measured such a model, with nothing proven; None where none did."""
        with self._lock:
            state = self._states.get(key)
            if state is None:
                return None
            self._states.move_to_end(key)
            plan = replace(state.plan, algorithms=dict(state.plan.algorithms))  # added to in use
            return replace(state, plan=plan, proof=Proof())

    def keep(self, key: str, state: EngineState) -> None:
        """Keep the state by which a model was measured and verified."""
        with self._lock:
            self._states[key] = state
            self._states.move_to_end(key)
            while len(self._states) > MOST:
                self._states.popitem(last=False)

    def forget(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._states.clear()


ESTABLISHED = Established()


def fingerprint(
    model: nn.Module, workload: Workload, device: torch.device, threads: int
) -> str | None:
    """What decides the plan of a model, as far as it can be seen; None for a loss of one's own.

    Values of weights and probes are no part of it.
    """
    if type(workload.loss) not in LOSSES.values():  # the user's code: a function may have changed
        return None
    probes, cells = workload.probes, workload.cells
    circumstances = (
        str(device), threads, torch.get_num_threads(), torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(), torch.backends.mkldnn.is_available(),
        type(workload.loss).__name__, vars(workload.loss), astuple(workload.settings),
        {name: (values.shape, values.dtype) for name, values in probes.inputs.items()},
        probes.targets.shape, probes.targets.dtype, probes.mean, probes.std,
        np.bincount(cells.of_probe, minlength=len(cells)).tolist(),
    )  # fmt: skip
    seen = hashlib.sha256(repr(circumstances).encode())
    for line in lines_of(model):
        seen.update(line.encode() + b"\n")
    return seen.hexdigest()


def lines_of(model: nn.Module) -> Iterator[str]:
    """What a model looks like, a line for everything that it reaches, without values of tensors.

    Two that look the same give the same lines in the same order, in any process.
    """
    numbers: dict[int, int] = {id(model): 0}
    waiting: list[Any] = [model]
    classes: dict[type, None] = {}
    for value in waiting:  # which grows
        yield _described(value)
        if isinstance(value, nn.Module):
            classes |= dict.fromkeys(type(value).__mro__)
        for step, child in children(value):
            if isinstance(value, nn.Module) and step in OF_A_MOMENT:
                continue
            if isinstance(child, ATOMS):
                yield f"{step}={child!r}"
                continue
            if id(child) not in numbers:
                numbers[id(child)] = len(waiting)
                waiting.append(child)
            yield f"{step}: {numbers[id(child)]}"
    for each in classes:
        if not in_a_library(each):
            yield from _of_class(each)


def _described(value: Any) -> str:
    """What an object is, without what it holds."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if is_lazy(value):
        return f"{kind}, still without a shape"
    if isinstance(value, Tensor):
        hooked = bool(value._backward_hooks)
        facts = value.shape, value.dtype, value.device, value.layout, value.requires_grad, hooked
        return f"{kind} {facts} {value.stride() if value.layout is torch.strided else None}"
    if isinstance(value, np.ndarray):
        return f"{kind} {value.shape} {value.dtype}"
    if isinstance(value, types.FunctionType):
        return "\n".join(_of_function(value))
    return f"{kind} {value!r}" if isinstance(value, PLAIN) else kind


def _of_class(each: type) -> Iterator[str]:
    """Code and plain attributes of a class."""
    for name, value in vars(each).items():
        if isinstance(value, types.FunctionType):
            yield from _of_function(value)
        elif isinstance(value, ATOMS):
            yield f"{name}={value!r}"


def _of_function(function: types.FunctionType) -> Iterator[str]:
    """The code of a function, and plain values of the globals that it names."""
    yield from _of_code(function.__code__)
    for name, value in sorted(named_globals(function).items()):
        if isinstance(value, ATOMS):
            yield f"{name}={value!r}"


def _of_code(code: types.CodeType) -> Iterator[str]:
    yield f"{code.co_qualname} {code.co_names} {code.co_varnames} {code.co_code.hex()}"
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _of_code(constant)
        else:
            yield repr(constant)
