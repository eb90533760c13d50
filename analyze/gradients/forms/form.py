"""Per-example gradients of one parameter, in the form that is cheapest to hold.

A rule says what a call's per-example gradients are made of; a form turns that into what is kept:
their sum over the examples and the squared norm of each.

Letters: ``N`` examples, ``G`` groups, ``T`` positions of one example, ``K`` inputs and ``O``
outputs of a group, ``D`` width of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Per-example gradients made at a time: few enough to stay in a CPU's cache, or to fill a GPU.
CHUNK_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20, "mps": 64 << 20}
BLOCK = 1024  # entries whose squares are added in float32
FAINT = 1e-24  # a sum of squares that is not far from the smallest that float32 holds


class Summary(NamedTuple):
    """What is kept of the per-example gradients of one parameter over one batch."""

    total: Tensor  # their sum, in the parameter's shape
    squared_norms: Tensor  # [N], float64


def squared_norms(values: Tensor) -> Tensor:
    """``sum values[n]**2`` for each n, ``[N, ...]`` to ``[N]``, accumulated in float64.

    On a CPU, blocks of ``BLOCK`` float32 entries are added in float32, and the blocks in float64:
    five times as fast, and off by 1e-8, where the rounding of each entry is 6e-8.
    """
    if values.device.type == "mps":  # MPS has no float64
        values = values.cpu()
    rows = values.reshape(len(values), -1)
    few = rows.shape[1] < BLOCK or rows.numel() < 64 * BLOCK
    if rows.device.type != "cpu" or rows.dtype != torch.float32 or few:
        return _in_double(rows)
    whole = rows.shape[1] // BLOCK * BLOCK
    blocks = torch.linalg.vector_norm(rows[:, :whole].unflatten(1, (-1, BLOCK)), dim=2)
    found = blocks.double().square().sum(1)
    if whole < rows.shape[1]:
        found += _in_double(rows[:, whole:])
    unsure = (found < FAINT) | ~found.isfinite()  # float32 lost squares, or had no room for them
    if unsure.any():
        found[unsure] = _in_double(rows[unsure])
    return found


def _in_double(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).square()


def double(values: Tensor) -> Tensor:
    """In float64, on the CPU where the device has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()


class Form:
    """Per-example gradients ``[N, *shape]`` that need not exist all at once.

    Subclasses give ``count`` (N), ``shape`` and ``explicit``; those that know a cheaper way to
    the summary than making every gradient name it in ``algorithms``.
    """

    count: int
    shape: torch.Size
    # What of the weight these are the gradients of, where a rule works on a view of it.
    view: Callable[[Tensor], Tensor] | None = None

    @property
    def algorithms(self) -> tuple[str, ...]:
        """Exact ways to the summary; the fastest is found by timing."""
        return ("direct",)

    @property
    def key(self) -> str:
        """Calls with equal keys cost the same per example, so that one timing holds for all."""
        return f"{type(self).__name__} {list(self.shape)}"

    def explicit(self, start: int, stop: int) -> Tensor:
        """The gradients of examples ``start`` to ``stop``: ``[stop - start, *shape]``."""
        raise TypeError(f"{type(self).__name__} has no explicit gradients")

    def summarise(
        self, algorithm: str = "direct", choose: Callable[[Form], Summary] | None = None
    ) -> Summary:
        """The sum over examples and each example's squared norm, by the named algorithm.

        Args:
            algorithm: One of ``algorithms``.
            choose: How a form that is made of others summarises those; their first algorithm by
                default.

        Raises:
            ValueError: the form has no such algorithm.
        """
        if algorithm not in self.algorithms:
            raise ValueError(f"{type(self).__name__} has no algorithm {algorithm!r}")
        return self._by(algorithm, choose or by_first_algorithm)

    def merged(self, other: Form) -> Form | None:
        """Both in one form that is as cheap as each, or None where there is none."""
        return None

    def _by(self, algorithm: str, choose: Callable[[Form], Summary]) -> Summary:
        return self._direct()

    def _direct(self) -> Summary:
        """By making the gradients, all entries of each."""
        return self._made(self.explicit)

    def _made(self, explicit: Callable[[int, int], Tensor], each: int = 0) -> Summary:
        """Make the gradients a chunk at a time, square and add them on the fly."""
        total: Tensor | None = None
        norms = []
        for start, stop in self._chunks(each):
            values = explicit(start, stop)  # [n, *shape]
            norms.append(squared_norms(values))
            part = values.sum(0)
            total = part if total is None else total.add_(part)
        assert total is not None
        return Summary(total, torch.cat(norms))

    def _made_singly(self, explicit: Callable[[int], Tensor]) -> Summary:
        """Make one gradient at a time, square it and add it while it is in the cache."""
        total: Tensor | None = None
        norms = []
        for example in range(self.count):
            value = explicit(example)  # its memory may be that of the one before
            norms.append(squared_norms(value[None]))
            total = value.clone() if total is None else total.add_(value)
        assert total is not None
        return Summary(total.reshape(self.shape), torch.cat(norms))

    def _chunks(self, each: int = 0) -> Iterator[tuple[int, int]]:
        """Ranges of examples that fit into ``CHUNK_BYTES`` with ``each`` bytes, or a gradient."""
        budget = CHUNK_BYTES.get(self._device_type(), CHUNK_BYTES["cpu"])
        step = max(1, budget // max(1, each or self._bytes_per_example()))
        for start in range(0, self.count, step):
            yield start, min(start + step, self.count)

    def _bytes_per_example(self) -> int:
        return 4 * self.shape.numel()

    def _device_type(self) -> str:
        return "cpu"


def by_first_algorithm(form: Form) -> Summary:
    """The form's summary by the first of its algorithms."""
    return form.summarise(form.algorithms[0])
