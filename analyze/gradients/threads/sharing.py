"""The batches of one model, shared among threads, each of which computes alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar

import torch

from analyze.gradients.step.conditions import threads_restored
from analyze.gradients.threads.turns import Turns

Result = TypeVar("Result")
WORTH_SHARING = 2.0  # seconds of a measurement from which on it is shared among threads
PASSES = 3  # that a forward and a backward pass take as long as, of forward passes


def worthwhile_shares(examples: int, forward: float, threads: int) -> int:
    """In how many shares to measure: one where threads of their own would gain next to nothing.

    Args:
        examples: Of all shares.
        forward: Seconds of the forward pass of one.
        threads: That there may be.
    """
    return min(threads, examples) if PASSES * forward * examples > WORTH_SHARING else 1


def in_turns(
    measures: Sequence[Callable[[int], Result]],
    turns: Turns,
    take: Callable[[int, Result], None],
) -> None:
    """Have batches measured by threads, each the next one.

    Args:
        measures: Of each thread, what does a batch, of a number.
        turns: Which they take.
        take: Gets what each batch gave, in their order, in the thread that calls this.

    Raises:
        Exception: what a batch raised; all threads have ended then.
    """
    found: SimpleQueue[tuple[int, Result] | BaseException | None] = SimpleQueue()

    def work(measure: Callable[[int], Result]) -> None:
        try:
            while (number := turns.begin()) is not None:
                result = measure(number)
                turns.end(number)
                found.put((number, result))
        except BaseException as error:
            turns.stop()
            found.put(error)
        else:
            found.put(None)

    failed: list[BaseException] = []
    waiting: dict[int, Result] = {}
    taken = 0
    with alone_on_its_core(), ThreadPoolExecutor(len(measures), initializer=_one_thread) as pool:
        try:
            for measure in measures:
                pool.submit(work, measure)
            ended = 0
            while ended < len(measures):
                given = found.get()
                if isinstance(given, tuple):
                    waiting[given[0]] = given[1]
                    while taken in waiting:
                        take(taken, waiting.pop(taken))
                        taken += 1
                else:
                    ended += 1
                    failed += [] if given is None else [given]
                given = None
        finally:
            turns.stop()  # for Ctrl-C: the threads end with the batches that they have
    if failed:
        try:
            raise failed[0]
        finally:
            failed.clear()  # its frames hold a batch, and this one it


def at_once(works: Sequence[Callable[[], Result]]) -> list[Result]:
    """What each of some works gives, in threads that share caches and memory.

    Raises:
        Exception: what one of them raised.
    """
    with alone_on_its_core(), ThreadPoolExecutor(len(works), initializer=_one_thread) as pool:
        return list(pool.map(lambda work: work(), works))


@contextmanager
def alone_on_its_core() -> Iterator[None]:
    """Every thread computes by itself; filters of warnings, which are all threads', come back."""
    with threads_restored(), warnings.catch_warnings():
        _one_thread()
        yield


def _one_thread() -> None:
    torch.set_num_threads(1)
