"""Types of the numbers in tensors, by torch's names for them; torch is not imported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

OTHER_NAMES = {
    "half": "float16", "float": "float32", "double": "float64", "chalf": "complex32",
    "cfloat": "complex64", "cdouble": "complex128", "short": "int16", "int": "int32",
    "long": "int64", "bit": "uint1",
}  # fmt: skip
WITH_BITS = re.compile(r"(?:b?float|b?complex|q?u?int|bits)(\d{1,3})(?:x\d+|_\w+)?")
# How ``struct`` reads those that may be the number of a step.
FORMS = {
    "float16": "e", "float32": "f", "float64": "d", "int8": "b", "int16": "h", "int32": "i",
    "int64": "q", "uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q",
}  # fmt: skip


@dataclass(frozen=True)
class NumberType:
    """A type of numbers: the name of ``torch.float32`` is ``float32``."""

    name: str
    itemsize: int  # bytes; less than one counts as one, as in torch

    @property
    def quantized(self) -> bool:
        """Whether the numbers mean nothing without a scale."""
        return self.name.startswith("q")

    @property
    def with_gradient(self) -> bool:
        """Whether torch makes parameters of it that require a gradient."""
        return "float" in self.name or "complex" in self.name


@cache
def number_type(name: str) -> NumberType | None:
    """The type of a name; None where it is the name of none."""
    name = OTHER_NAMES.get(name, name)
    if name == "bool":
        return NumberType(name, 1)
    match = WITH_BITS.fullmatch(name)
    return NumberType(name, max(1, int(match[1]) // 8)) if match else None
