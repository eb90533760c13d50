"""Per-example gradients that are small enough to hold: biases, norm scales."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from analyze.gradients.data.segments import Segments, rows
from analyze.gradients.forms.form import Choose, Form
from analyze.gradients.forms.reduction import Summary, reduced


@dataclass
class Explicit(Form):
    """The gradients themselves, ``values`` ``[N, *shape]``."""

    values: Tensor

    def __post_init__(self) -> None:
        self.count = self.values.shape[0]
        self.shape = self.values.shape[1:]
        self.device = self.values.device.type

    def explicit(self, start: int, stop: int) -> Tensor:
        return rows(self.values, start, stop)

    def in_one_chunk(self, algorithm: str) -> bool:
        return algorithm == "direct"

    def merged(self, other: Form) -> Form | None:
        return Explicit(self.values + other.values) if isinstance(other, Explicit) else None

    def _by(self, algorithm: str, segments: Segments, choose: Choose) -> Summary:
        return reduced([self.values], segments)
