"""Which entries of a tensor belong to which example, found by value.

A batch axis of size N is the common case. Elsewhere the examples lie along another axis
(time-major sequences), or share one with something else: attention windows and time steps folded
into the batch give an axis of size ``before * N * after``. The size alone does not tell the order:
Swin's rows of example 1 of two are 4 to 7, those of an attention output projection 1, 3, 5, 7. So
one example is exchanged for another and what changes is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from analyze.gradients.numbers import differentiable

# A change below this share of the largest entry may be rounding; a change missed costs nothing.
CHANGED = 1e-5


@dataclass(frozen=True)
class ExampleAxis:
    """The axis ``dim`` of the examples; its size is ``before * N * after``, in this order."""

    dim: int
    before: int = 1
    after: int = 1

    @cached_property
    def plain(self) -> bool:
        """Whether each row is an example."""
        return self.dim == 0 and self.before == self.after == 1

    @property
    def positions(self) -> int:
        """Rows of one example."""
        return self.before * self.after

    def count(self, tensor: Tensor) -> int:
        """N, the number of examples in ``tensor``."""
        return tensor.shape[self.dim] // self.positions

    def fits(self, tensor: Tensor, examples: int) -> bool:
        """Whether ``tensor`` has so many examples along the axis."""
        return (
            tensor.dim() > self.dim
            and tensor.shape[self.dim] == self.before * examples * self.after
        )

    def examples_first(self, tensor: Tensor) -> Tensor:
        """``tensor`` as ``[N, positions, ...]``: the axis split, its other parts at position 1.

        The remaining axes keep their order, so ``[T, N, D]`` with the examples along axis 1 gives
        ``[N, 1, T, D]``.
        """
        if self.plain:
            return tensor.unsqueeze(1)
        split = tensor.unflatten(self.dim, (self.before, -1, self.after))
        return split.movedim((self.dim + 1, self.dim, self.dim + 2), (0, 1, 2)).flatten(1, 2)

    def rows(self, tensor: Tensor) -> Tensor:
        """``tensor`` as ``[N * positions, ...]``, example by example."""
        return tensor if self.plain else self.examples_first(tensor).flatten(0, 1)

    def reshaped(self, tensor: Tensor, *shape: int) -> Tensor:
        """``tensor`` as ``[N, *shape]``, examples first; one of ``shape`` may be -1."""
        first = tensor if self.plain else self.examples_first(tensor)
        return first.reshape(self.count(tensor), *shape)

    def added_up(self, tensor: Tensor) -> Tensor:
        """The rows of each example added up, ``[rows, ...]`` to ``[N, ...]``."""
        return tensor if self.plain else self.examples_first(tensor).sum(1)

    def single(self, tensor: Tensor) -> Tensor:
        """``tensor`` as ``[N, *shape]``, with the ``shape`` of a batch of one example."""
        split = tensor.unflatten(self.dim, (self.before, -1, self.after))
        return split.movedim(self.dim + 1, 0).flatten(self.dim + 1, self.dim + 2)

    def masked(self, tensor: Tensor, start: int, stop: int) -> Tensor:
        """Copies ``[stop - start, *shape]`` of the tensor, each zero outside of one example."""
        size = tensor.shape[self.dim]
        place = torch.arange(size, device=tensor.device) // self.after % self.count(tensor)
        examples = torch.arange(start, stop, device=tensor.device)
        kept = (place == examples[:, None]).to(tensor.dtype)  # [n, size]
        shape = [len(kept)] + [1] * tensor.dim()
        shape[1 + self.dim] = size
        return kept.view(shape) * tensor


def possible_axes(sizes: dict[int, torch.Size]) -> list[ExampleAxis]:
    """All axes that grow with the batch; ``sizes`` maps batch sizes to shapes."""
    shape = next(iter(sizes.values()))
    if any(len(s) != len(shape) for s in sizes.values()):
        return []
    axes = []
    for dim in range(len(shape)):
        others = {s[:dim] + s[dim + 1 :] for s in sizes.values()}
        factors = {s[dim] / n for n, s in sizes.items()}
        if len(others) != 1 or len(factors) != 1 or not (factor := factors.pop()).is_integer():
            continue
        axes += [ExampleAxis(dim, a, int(factor) // a) for a in _divisors(int(factor))]
    return axes


def agrees(axis: ExampleAxis, changed: Tensor, example: int) -> bool:
    """Whether nothing outside ``example`` changed, when only that example was exchanged."""
    rows = axis.examples_first(changed).flatten(1).any(1)  # [N]
    rows[example] = False
    return not bool(rows.any())


def changed_entries(before: Tensor, after: Tensor) -> Tensor:
    """Where two tensors of one shape differ by more than rounding, as booleans."""
    if not differentiable(before):
        return before != after
    scale = max(float(before.abs().amax()), float(after.abs().amax())) if before.numel() else 0.0
    return (before - after).abs() > CHANGED * scale


def _divisors(number: int) -> Iterator[int]:
    return (a for a in range(1, number + 1) if number % a == 0)
