"""Per-example gradients of one parameter, in the form that is cheapest to hold.

A rule says what a call's per-example gradients are made of. A form makes them, a chunk at a time,
for the ``reduction``, or knows a cheaper way to their sums and squared norms.

Letters: ``N`` examples, ``S`` segments of a batch, ``G`` groups, ``T`` positions of one example,
``K`` inputs and ``O`` outputs of a group, ``D`` width of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import starmap

import torch
from torch import Tensor

from analyze.gradients.data.segments import Segments, rows
from analyze.gradients.device.devices import HOST, chunk_bytes, is_cpu
from analyze.gradients.forms.dots import dot_products
from analyze.gradients.forms.reduction import Make, Summary, reduced
from analyze.gradients.forms.squares import in_double


class Form:
    """Per-example gradients ``[N, *shape]`` that need not exist all at once.

    Subclasses give ``count`` (N), ``shape``, ``device`` and ``explicit``; those that
    know a cheaper way to the summary than making every gradient name it in ``algorithms``.
    """

    count: int
    shape: torch.Size
    device: torch.device = HOST
    # Makes the view of the weight that these are gradients of, where a rule works on one.
    view: Callable[[Tensor], Tensor] | None = None

    @property
    def algorithms(self) -> tuple[str, ...]:
        """Exact ways to the summary; ``costs`` knows what each takes."""
        return ("direct",)

    @property
    def key(self) -> str:
        """Calls with equal keys cost the same per example, so that one choice holds for all."""
        return f"{type(self).__name__} {list(self.shape)}"

    def explicit(self, start: int, stop: int) -> Tensor:
        """The gradients of examples ``start`` to ``stop``: ``[stop - start, *shape]``."""
        raise TypeError(f"{type(self).__name__} has no explicit gradients")

    def summarise(
        self,
        algorithm: str = "direct",
        segments: Segments | None = None,
        choose: Choose | None = None,
    ) -> Summary:
        """The sum over each segment and each example's squared norm, by the named algorithm.

        All examples are one segment by default. A form that is made of others summarises those by
        ``choose``, by default with their first algorithm.

        Raises:
            ValueError: the form has no such algorithm.
        """
        if algorithm not in self.algorithms:
            raise ValueError(f"{type(self).__name__} has no algorithm {algorithm!r}")
        return self._by(
            algorithm, segments or Segments([self.count]), choose or _by_first_algorithm
        )

    def certain(self, examples: Sequence[int]) -> Tensor:
        """Squared norms ``[n]`` float64 of some examples in ascending order, by their gradients.

        For those of which a ``Summary`` was unsure. They are as right as by plain autograd.
        """
        together = _ranges(examples, self.chunk("direct"))
        return torch.cat([in_double(self.explicit(start, stop)) for start, stop in together])

    @property
    def making(self) -> tuple[str, ...]:
        """The algorithms by which ``dots`` may make the gradients."""
        return ("direct",)

    def dots(self, directions: Tensor, algorithm: str = "direct") -> Tensor:
        """``g[n] . v[d]`` with D directions ``[D, *shape]``: ``[D, N]`` float64.

        By default of explicit gradients, a chunk at a time. A form whose gradients are linear in
        something smaller multiplies that. ``algorithm`` is one of ``making``.
        """
        ranges = self._chunks("direct")
        return torch.cat([dot_products(self.explicit(*some), directions) for some in ranges], 1)

    def merged(self, other: Form) -> Form | None:
        """Both forms in one that is as cheap as each, or None where there is none."""
        return None

    def in_one_chunk(self, algorithm: str) -> bool:
        """Whether the algorithm makes all gradients at a time."""
        return self.maker(algorithm) is not None and self.chunk(algorithm) >= self.count

    def maker(self, algorithm: str) -> Make | None:
        """The function that makes the gradients of a range of examples; None if none are made."""
        return self.explicit if algorithm == "direct" else None

    def _by(self, algorithm: str, segments: Segments, choose: Choose) -> Summary:
        """The summary; an algorithm that makes the gradients makes a chunk at a time."""
        make = self.maker(algorithm)
        assert make is not None, f"{type(self).__name__} does not say what {algorithm!r} is"
        return reduced(starmap(make, self._chunks(algorithm)), segments, make)

    def _chunks(self, algorithm: str) -> Iterator[tuple[int, int]]:
        """Ranges of examples that an algorithm works on at a time, of about equal length."""
        step = chunk_length(self.count, self.chunk(algorithm), _workers(self.device))
        for start in range(0, self.count, step):
            yield start, min(start + step, self.count)

    def chunk(self, algorithm: str, workers: int | None = None) -> int:
        """Examples of which an algorithm holds ``chunk_bytes`` for each worker, today's or some."""
        budget = chunk_bytes(self.device) * (workers or _workers(self.device))
        return max(1, budget // max(1, self._bytes_per_example(algorithm)))

    def _bytes_per_example(self, algorithm: str) -> int:
        """Memory that an algorithm holds for an example; by default that of its gradient."""
        return 4 * self.shape.numel()


def chunk_length(count: int, most: int, workers: int) -> int:
    """Length of chunks that ``count`` is cut into, about ``most``, the same for every worker."""
    length = math.ceil(count / max(1, math.ceil(count / most)))
    return length if length == 1 else math.ceil(length / workers) * workers


def _ranges(numbers: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Numbers in ascending order as ranges of at most so many."""
    start = stop = numbers[0]
    for number in numbers:
        if number > stop or stop - start == most:
            yield start, stop
            start = number
        stop = number + 1
    yield start, stop


def _workers(device: torch.device) -> int:
    """Threads that share the examples of a chunk."""
    return torch.get_num_threads() if is_cpu(device) else 1


Choose = Callable[[Form, Segments], Summary]


def _by_first_algorithm(form: Form, segments: Segments) -> Summary:
    """The summary by the first of a form's algorithms."""
    return form.summarise(form.algorithms[0], segments)


@dataclass
class Explicit(Form):
    """The gradients themselves, ``values`` ``[N, *shape]``."""

    values: Tensor

    def __post_init__(self) -> None:
        self.count = self.values.shape[0]
        self.shape = self.values.shape[1:]
        self.device = self.values.device

    def explicit(self, start: int, stop: int) -> Tensor:
        return rows(self.values, start, stop)

    def in_one_chunk(self, algorithm: str) -> bool:
        return algorithm == "direct"

    def dots(self, directions: Tensor, algorithm: str = "direct") -> Tensor:
        return dot_products(self.values, directions)

    def merged(self, other: Form) -> Form | None:
        return Explicit(self.values + other.values) if isinstance(other, Explicit) else None

    def _by(self, algorithm: str, segments: Segments, choose: Choose) -> Summary:
        return reduced([self.values], segments)
