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
WORTH_SHARING = 2.0  # seconds of a measurement from which on it is shared among threads
PASSES = 3  # that a forward and a backward pass take as long as, of forward passes


def worthwhile_shares(examples: int, forward: float, threads: int) -> int:
    """How many threads share a measurement: one where more would gain next to nothing.

    Args:
        examples: Of the probe set.
        forward: Seconds of the forward pass of one.
        threads: That there may be.
    """
    return min(threads, examples) if PASSES * forward * examples > WORTH_SHARING else 1


def at_once(
    works: Sequence[Callable[[], Result]], stop: Callable[[], object] = lambda: None
) -> list[Result]:
    """What each of some works gives: a single one as it is, several by threads on a core each.

    Args:
        works: What to do; the first is done by this thread.
        stop: Called when one of them fails, and at Ctrl-C: makes the others end soon.

    Raises:
        Exception: what one of them raised; all have ended then.
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
