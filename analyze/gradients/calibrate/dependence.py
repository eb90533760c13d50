"""What depends on the examples and what on parameters alone, and the calls where the two meet.

Dependence is followed call by call through the storages that tensors share, so that views and
changes in place carry it along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from analyze.gradients.calibrate.recording import Record, Recording
from analyze.gradients.rules.weights import leaves_of_graph

# Functions that write into some rows of their first argument, without underscores at the ends.
PUTTING = frozenset({
    "index_put", "index_add", "index_copy", "setitem", "scatter", "scatter_add", "masked_scatter",
    "index_reduce", "scatter_reduce",
})  # fmt: skip


@dataclass(frozen=True)
class Meeting:
    """A call in which weights meet the examples."""

    number: int  # of the call, as in its record
    weights: Mapping[int, tuple[str, ...]]  # id of a tensor of parameters alone, to their names
    data: frozenset[int]  # ids of the arguments that depend on the examples
    output: Tensor | None  # the result; None where a call gives several
    chosen: bool  # whether the examples' values choose its rows or their order


def meetings(first: Recording, second: Recording, names: Mapping[int, str]) -> list[Meeting] | None:
    """The calls of ``first`` in which weights meet the examples.

    A weight also meets the examples where it is made as large as the batch: the result has another
    shape in ``second``, a pass over another number of examples. ``names`` maps ``id(parameter)`` to
    its name. The result is None where the two passes make different calls.
    """
    if [r.function for r in first.counted] != [r.function for r in second.counted]:
        return None
    shapes = {r.number: [t.shape for t in r.outputs] for r in second.counted}
    flow = _Flow(first.inputs, names)
    met = []
    for record in first.records:
        number = record.number
        grows = number is not None and [t.shape for t in record.outputs] != shapes[number]
        if meeting := flow.through(record, grows):
            met.append(meeting)
    return met


class _Flow:
    """The storages that depend on the examples, and those that depend on parameters alone."""

    def __init__(self, inputs: Iterable[Tensor], names: Mapping[int, str]) -> None:
        self._names = names
        self._data = {_storage(t) for t in inputs}
        self._seen: set[Any] = set()
        self._chosen: set[Any] = set()  # whose rows the examples' values choose, or their order

    def through(self, record: Record, grows: bool) -> Meeting | None:
        """Bring the storages up to date; the meeting, if the call is one."""
        self._data |= {_storage(t) for t in record.inputs if self._from_elsewhere(t, record)}
        data = [t for t in record.inputs if _storage(t) in self._data]
        weights = {id(t): names for t in record.inputs if (names := self._weight(t, record))}
        chosen = self._chooses(record)
        if chosen:
            self._chosen |= {_storage(t) for t in record.outputs}
        if data or (weights and grows):
            self._data |= {_storage(t) for t in record.outputs}
        self._seen |= {_storage(t) for t in record.outputs}
        carrying = [t for t in record.outputs if t.requires_grad]
        if record.number is None or not weights or not carrying or not (data or grows):
            return None
        distinct = {id(t): t for t in carrying}
        output = next(iter(distinct.values())) if len(distinct) == 1 else None
        return Meeting(record.number, weights, frozenset(map(id, data)), output, chosen)

    def _chooses(self, record: Record) -> bool:
        """Whether values of the examples choose rows in this call or chose them before.

        ``x[mask]`` and ``x[order]`` choose rows; ``x[arange(N), last]`` and ``table[ids]`` do not.
        What is put back into rows lies as the rows do.
        """
        name = record.function.__name__
        first = [t for t in record.args[:1] if isinstance(t, Tensor)]
        if name.strip("_") in PUTTING:
            return any(_storage(t) in self._chosen for t in first)
        if name.startswith("new_") or name.endswith("_like"):
            return False
        if any(_storage(t) in self._chosen for t in record.inputs):
            return True
        index = _index_of_rows(name, record.args)
        return (
            isinstance(index, Tensor)
            and _storage(index) in self._data
            and any(_storage(t) in self._data for t in first)
        )

    def _from_elsewhere(self, tensor: Tensor, record: Record) -> bool:
        """Whether a tensor comes from something that announces no calls, as a custom function.

        Its sources are not known, so it may depend on the examples.
        """
        graph = record.graphs.get(id(tensor))
        return (
            graph is not None
            and _storage(tensor) not in self._seen
            and not any(_storage(leaf) == _storage(tensor) for leaf in leaves_of_graph(graph))
        )

    def _weight(self, tensor: Tensor, record: Record) -> tuple[str, ...]:
        """The parameters a tensor depends on, if on nothing else and a gradient goes through it.

        The graph is that at the time of the call: a buffer of zeros that it wrote into had none.
        """
        if id(tensor) not in record.graphs or _storage(tensor) in self._data:
            return ()
        graph = record.graphs[id(tensor)]
        leaves = [tensor] if graph is None else leaves_of_graph(graph)
        return tuple(dict.fromkeys(self._names[id(p)] for p in leaves if id(p) in self._names))


def _index_of_rows(name: str, args: tuple[Any, ...]) -> Any:
    """The first index of a look-up that is a tensor; None where there is none."""
    if name == "index_select":
        return args[2] if len(args) > 2 else None
    if name != "__getitem__":
        return None
    indices = args[1] if isinstance(args[1], list | tuple) else (args[1],)
    return next((index for index in indices if isinstance(index, Tensor)), None)


def _storage(tensor: Tensor) -> Any:
    """Identifies the memory that a tensor shares with its views."""
    if tensor.layout is not torch.strided:
        return id(tensor)
    return tensor.untyped_storage()._cdata
