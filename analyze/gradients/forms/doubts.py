"""Squared norms that float32 may have got wrong, and their making again where it has.

Which these are is known to the device. To ask it is to wait until it has done all that it was
given, so that norms are handed on with a doubt, and the doubts of a batch are looked at together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from analyze.gradients.device import float64
from analyze.gradients.device.devices import is_cpu, largest_batch_bytes

SHARE = 8
Certain = Callable[[Sequence[int]], Tensor]  # right squared norms of some examples, [n] float64


class Norms(NamedTuple):
    """Squared norms ``[N]`` float64; ``unsure`` ``[N]`` where float32 may have got them wrong."""

    squares: Tensor
    unsure: Tensor | None = None  # None: nowhere


def is_looked_at_later(values: Tensor) -> bool:
    """Whether to look at values now would be to wait for a device."""
    device = values.device
    return not is_cpu(device) or float64.is_dear(device)


def joined(parts: list[Norms]) -> Norms:
    """The norms of all examples, from those of some at a time."""
    if len(parts) == 1:
        return parts[0]
    squares, unsure = zip(*parts, strict=True)
    known = [u for u in unsure if u is not None]
    assert len(known) in (0, len(parts)), "of one call either all are looked at later or none"
    return Norms(torch.cat(squares), torch.cat(known) if known else None)


class Doubts:
    """The doubts about norms, until they are settled.

    What gradients are made of is held for them: a ``SHARE`` of a batch's bytes at most, beyond
    which they are settled at once.
    """

    def __init__(self) -> None:
        self._held = 0
        self._waiting: list[tuple[Norms, Certain]] = []

    def add(self, norms: Norms, certain: Certain, held: int) -> None:
        """Norms that will be put right in place, if need be; ``held`` bytes stay until then."""
        if norms.unsure is None:
            return
        self._waiting.append((norms, certain))
        self._held += held
        if self._held > largest_batch_bytes(norms.squares.device) // SHARE:
            self.settle()

    def settle(self) -> None:
        """Make the norms again that are wrong: one wait, and another one only if there are some."""
        waiting, self._waiting, self._held = self._waiting, [], 0
        if not waiting:
            return
        unsure = torch.stack([norms.unsure for norms, _ in waiting if norms.unsure is not None])
        for (norms, certain), of_one in zip(waiting, unsure.cpu(), strict=True):
            examples = of_one.nonzero().flatten()
            if len(examples):
                norms.squares[examples.to(unsure.device)] = certain(examples.tolist())
