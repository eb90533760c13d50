"""Small gradients, summarised together: an operation takes longer than their numbers do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from analyze.gradients.data.segments import Segments, segment_sums
from analyze.gradients.forms.form import Form, Summary
from analyze.gradients.forms.squares import in_double

SMALL = 1 << 16  # entries of one parameter's gradients
FULL = 1 << 22  # entries that wait at most


class Gathered:
    """Gradients ``[N, ...]`` of many parameters, made into summaries a lot at a time."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._waiting: dict[Any, dict[str, Tensor]] = {}  # by shape and dtype, by name
        self._entries = 0
        self._found: dict[str, Summary] = {}

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
        """Of all that were added, by name."""
        self._summarise()
        return self._found

    def _summarise(self) -> None:
        """One sum over each segment and one squaring for all parameters of a shape."""
        for of_shape in self._waiting.values():
            values = torch.stack([*of_shape.values()], 1)  # [N, P, *shape]
            totals = segment_sums(values, self._segments).unbind(1)
            squares = in_double(values.flatten(0, 1)).view(len(values), -1).unbind(1)
            self._found |= zip(of_shape, map(Summary, totals, squares), strict=True)
        self._waiting, self._entries = {}, 0
