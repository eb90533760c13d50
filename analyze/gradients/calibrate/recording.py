"""Records a forward pass for calibration: its calls, their arguments and results."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from analyze.gradients.model.computing import mutates
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica
from analyze.gradients.rules import RULES
from analyze.gradients.step.intercept import CountedCalls

EVERY_CALL = range(1 << 62)  # the numbers of all calls


@dataclass(frozen=True)
class Record:
    """One call of a forward pass."""

    number: int | None  # among the calls that a gradient goes through; None for others
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[Tensor, ...]  # the tensors among the arguments
    # The id of each input that required a gradient then, to its node of autograd's graph: what is
    # written over later has another.
    graphs: dict[int, Any]
    outputs: tuple[Tensor, ...]  # results, and what the call wrote into
    packed: bool = False  # in a recurrent layer over sequences of different length
    before: tuple[Any, dict[str, Any]] | None = None  # the arguments as they were, if kept

    def as_it_was(self) -> Record:
        """The call with its arguments as they were then, and without their graphs."""
        if self.before is None:
            return self
        args, kwargs = self.before
        return replace(self, args=args, kwargs=kwargs, before=None)


@dataclass(frozen=True)
class Recording:
    """A forward pass. All its tensors are kept, so that no storage is used again."""

    records: list[Record]
    inputs: tuple[Tensor, ...]  # what the model was called with
    output: Tensor

    @property
    def counted(self) -> list[Record]:
        """The calls that a gradient goes through, in order of their numbers."""
        return [record for record in self.records if record.number is not None]


def record(replica: Replica, batch: Inputs, kept: Container[int] = ()) -> Recording:
    """Run the model on a batch of few examples, attached to its parameters; everything is kept.

    The arguments of the calls with a number in ``kept`` are kept as they were, too: later calls may
    write over them.
    """
    for parameter in replica.parameters.values():
        parameter.requires_grad_(True)
    received: list[Tensor] = []

    def on_inputs(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        received.extend(tensors_in((args, kwargs)))

    hook = replica.model.register_forward_pre_hook(on_inputs, with_kwargs=True)
    mode = _Recorder(kept)
    # With gradients on: without them attention takes a fast path that makes no such calls.
    with replica.hooked([hook]), torch.enable_grad(), mode:
        output = replica(batch)
    return Recording(mode.records, tuple(received), output)


class _Recorder(CountedCalls):
    def __init__(self, kept: Container[int]) -> None:
        super().__init__()
        self.records: list[Record] = []
        self._kept = kept

    def counted(self, number: int, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rule = RULES.get(func)
        run = func if rule is None or rule.run is None else rule.run
        return self._record(number, func, args, kwargs, run)

    def other(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._record(None, func, args, kwargs, func)

    def _record(
        self, number: int | None, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], run: Any
    ) -> Any:
        inputs = tuple(tensors_in((args, kwargs)))
        graphs = {id(tensor): tensor.grad_fn for tensor in inputs if tensor.requires_grad}
        kept = number is not None and number in self._kept
        before = (_as_they_are(args), _as_they_are(kwargs)) if kept else None
        result = run(*args, **kwargs)
        written = tensors_in((args[:1] if mutates(func) else (), kwargs.get("out")))
        outputs = (*tensors_in(result), *written)
        self.records.append(
            Record(number, func, args, kwargs, inputs, graphs, outputs, self.packed, before)
        )
        return result


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples and dictionaries."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from tensors_in(item)
    elif isinstance(tree, dict):
        yield from tensors_in(list(tree.values()))


def _as_they_are(tree: Any) -> Any:
    """Copies of the tensors; of parameters, which no pass writes over, the values themselves."""
    if isinstance(tree, torch.nn.Parameter):
        return tree.detach()
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if type(tree) in (list, tuple):
        return type(tree)(_as_they_are(item) for item in tree)
    if type(tree) is dict:
        return {name: _as_they_are(item) for name, item in tree.items()}
    return tree
