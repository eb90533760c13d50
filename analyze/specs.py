"""Specs of models and losses: ``NAME?argument=value&argument=value``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import parse_qsl

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Spec:
    """A name with scalar arguments, as ``torchvision:resnet18?num_classes=10``."""

    name: str
    arguments: dict[str, Scalar]

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Read a spec; ``true``, ``false`` and numbers are read as such, the rest as words."""
        name, _, query = text.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        return cls(name, {key: _scalar(value) for key, value in pairs})


def _scalar(text: str) -> Scalar:
    try:
        value = json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text
