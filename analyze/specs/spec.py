"""Specs of models and losses: ``NAME?argument=value&argument=value``."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from analyze.errors import InputError

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Spec:
    """A name with scalar arguments, as ``torchvision:resnet18?num_classes=10``."""

    name: str
    arguments: dict[str, Scalar]
    words: dict[str, str] = field(default_factory=dict)  # the arguments as written: names stay so

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Read a spec; values are truth values, numbers, or else words."""
        name, _, query = text.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        twice = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]
        if twice:
            once = "&".join(f"{key}={value}" for key, value in dict(pairs).items())
            raise InputError(
                "an argument is given twice",
                found=f"{', '.join(twice)} in {text!r}",
                expected="each argument once: of two values it is not known which is meant",
                fix=f"leave one out: '{name}?{once}'",
            )
        return cls(name, {key: _scalar(value) for key, value in pairs}, dict(pairs))


def _scalar(text: str) -> Scalar:
    try:
        value = json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text
