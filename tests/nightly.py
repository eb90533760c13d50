"""Which variants of a test every run takes, and which are left to ``scripts/test_all``.

A test over every case with every algorithm has hundreds of variants that differ in little. Every
run takes as many of them as together show every feature that one of them has; the others are
marked ``nightly``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import Any

import pytest


def variants(values: Sequence[Any], features: Callable[..., Iterable[Hashable]]) -> list[Any]:
    """Parameters of a test, those marked ``nightly`` whose features earlier ones have all shown.

    Args:
        values: Arguments of the test, in tuples where there are several.
        features: What of the program a variant reaches.
    """
    shown: set[Hashable] = set()
    parameters = []
    for value in values:
        arguments = value if isinstance(value, tuple) else (value,)
        new = set(features(*arguments)) - shown
        shown |= new
        name = "-".join(map(label, arguments))
        marks = () if new else pytest.mark.nightly
        parameters.append(pytest.param(*arguments, marks=marks, id=name))
    return parameters


def of_every_run(values: Iterable[Any], chosen: Collection[str]) -> list[Any]:
    """Parameters of a test, those marked ``nightly`` that are not called one of the chosen.

    Args:
        values: Arguments of the test.
        chosen: What the test calls those that every run takes.

    Raises:
        ValueError: a chosen one is not there.
    """
    names = {label(value): value for value in values}
    if unknown := set(chosen) - set(names):
        raise ValueError(f"no variants {sorted(unknown)}")
    return [
        pytest.param(value, marks=() if name in chosen else pytest.mark.nightly, id=name)
        for name, value in names.items()
    ]


def label(value: Any) -> str:
    """What a test calls a case, a module or a number."""
    return getattr(value, "name", getattr(value, "__name__", str(value)))
