"""Threads that compute at the same time, each alone on a core."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from analyze.gradients.step.conditions import threads_restored

Result = TypeVar("Result")
WORTH_SHARING = 2.0  # seconds: a longer measurement is shared among threads


def worthwhile_shares(examples: int, seconds: float, threads: int) -> int:
    """How many of some threads share a measurement: one where more would gain next to nothing.

    ``seconds`` is what one thread would take for it.
    """
    return min(threads, examples) if seconds > WORTH_SHARING else 1


def at_once(
    works: Sequence[Callable[[], Result]], stop: Callable[[], object] = lambda: None
) -> list[Result]:
    """The results of some works: a single one as it is, several by threads on a core each.

    This thread does the first. ``stop`` is called when one of them fails, and at Ctrl-C: it makes
    the others end soon. What one of them raised is raised once all have ended.
    """

    def guarded(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except BaseException:
            stop()
            raise

    first, *others = works
    if not others:
        return [first()]
    with one_core_each(), ThreadPoolExecutor(len(others), initializer=_one_thread) as pool:
        results = pool.map(guarded, others)
        return guarded(lambda: [first(), *results])


@contextmanager
def one_core_each() -> Iterator[None]:
    """Every thread computes by itself; filters of warnings, which are all threads', come back."""
    with threads_restored(), warnings.catch_warnings():
        _one_thread()
        yield


def _one_thread() -> None:
    torch.set_num_threads(1)
