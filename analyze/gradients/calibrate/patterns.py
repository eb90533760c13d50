"""Which calls a model makes for which examples: patterns of calls.

Transformers drop an attention mask where no example of a batch is padded, loops over time end with
the longest example, exits are early: the calls of a forward pass depend on the batch. A plan has
the calls of such passes as well, each found on examples that make them by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica
from analyze.gradients.rules.one_call import flattened
from analyze.gradients.step.intercept import CountedCalls

Calls = tuple[tuple[str, tuple[tuple[str, int | None], ...]], ...]


def most_alike(replica: Replica, probes: Inputs) -> Tensor:
    """The rows of the largest group of probes that make the same calls, of several the first."""
    by_calls: dict[Calls, list[int]] = {}
    for row in range(len(probes)):
        by_calls.setdefault(_calls_of_one(replica, probes, row), []).append(row)
    return torch.tensor(max(by_calls.values(), key=len))


def alike_to(replica: Replica, batch: Inputs, rows: Iterable[int], most: int) -> Tensor:
    """The first ``most`` rows of a batch that make the calls of the whole batch."""
    whole, alike = calls_of(replica, batch), []
    for row in rows:
        if _calls_of_one(replica, batch, row) == whole:
            alike.append(row)
        if len(alike) == most:
            break
    return torch.tensor(alike, dtype=torch.long)


def together(replica: Replica, batch: Inputs, rows: Iterable[int], most: int) -> Tensor | None:
    """A few rows of a batch that make its calls together, none of which can be left out.

    Gives at least two, or None where the rows do not make its calls or it takes more than ``most``.
    """
    whole, few = calls_of(replica, batch), list(rows)

    def same(some: list[int]) -> bool:
        return calls_of(replica, batch.take(torch.tensor(some))) == whole

    if not same(few):
        return None
    for row in tuple(few):
        left = [other for other in few if other != row]
        if len(left) > 1 and same(left):
            few = left
    return torch.tensor(few) if 1 < len(few) <= most else None


def calls_of(replica: Replica, batch: Inputs) -> Calls:
    """The calls of a forward pass that a gradient goes through: names, and the places of tensors.

    Parameters count by identity: two experts are called alike.
    """
    for parameter in replica.parameters.values():
        parameter.requires_grad_(True)
    with torch.enable_grad(), _Calls() as mode:
        replica(batch)
    return tuple(mode.calls)


def _calls_of_one(replica: Replica, batch: Inputs, row: int) -> Calls:
    """The calls of one example, beside itself: some models make other calls for a batch of one."""
    return calls_of(replica, batch.take(torch.tensor([row, row])))


class _Calls(CountedCalls):
    """Notes each call and the places of its tensors: a dropped mask makes another call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[tuple[str, int | None], ...]]] = []

    def counted(self, number: int, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        flat = flattened(args, kwargs)
        places = tuple(
            (place, id(value) if isinstance(value, nn.Parameter) else None)
            for place, value in flat.items()
            if isinstance(value, Tensor)
        )
        self.calls.append((func.__name__, places))
        return super().counted(number, func, args, kwargs)
