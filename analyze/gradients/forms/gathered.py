"""Small gradients, summarised together: an operation takes longer than their numbers do."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from analyze.gradients.data.segments import Segments
from analyze.gradients.forms.form import Form
from analyze.gradients.forms.reduction import Summary, reduced_together

SMALL = 1 << 16  # entries of one parameter's gradients
FULL = 1 << 22  # entries that wait at most


class Gathered:
    """Gradients ``[N, ...]`` of many parameters, summarised in groups of one shape."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._waiting: dict[Any, dict[str, Tensor]] = {}  # by shape and dtype, by name
        self._entries = 0
        self._summaries: dict[str, Summary] = {}

    @staticmethod
    def takes(form: Form, algorithm: str) -> bool:
        """Whether the algorithm makes the gradients, and they are small enough."""
        return form.count * form.shape.numel() <= SMALL and form.in_one_chunk(algorithm)

    def add(self, name: str, form: Form, algorithm: str) -> None:
        """Make the gradients of a parameter; its summary comes later."""
        make = form.maker(algorithm)
        assert make is not None
        values = make(0, form.count)
        self._waiting.setdefault((form.shape, values.dtype), {})[name] = values
        self._entries += form.count * form.shape.numel()
        if self._entries > FULL:
            self._summarise()

    def summaries(self) -> dict[str, Summary]:
        """The summaries of all parameters that were added, by name."""
        self._summarise()
        return self._summaries

    def _summarise(self) -> None:
        """Summarise the parameters of one shape together."""
        for of_shape in self._waiting.values():
            summaries = reduced_together([*of_shape.values()], self._segments)
            self._summaries |= zip(of_shape, summaries, strict=True)
        self._waiting, self._entries = {}, 0
