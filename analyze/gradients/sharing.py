"""The batches of one model, shared among forks of this process, each on one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from analyze.gradients.conditions import threads_restored
from analyze.gradients.turns import Turns
from analyze.processes.workers import Tell, Workers

Result = TypeVar("Result")
WORTH_SHARING = 2.0  # seconds of a measurement from which on it is shared among processes
PASSES = 3  # that a forward and a backward pass take as long as, of forward passes


def worthwhile_shares(examples: int, forward: float, processes: int) -> int:
    """In how many shares to measure: one where forks would take longer than they save.

    Args:
        examples: Of all shares.
        forward: Seconds of the forward pass of one.
        processes: That there may be.
    """
    return min(processes, examples) if PASSES * forward * examples > WORTH_SHARING else 1


def in_turns(
    measure: Callable[[int, Turns], Result],
    batches: int,
    turns: Turns,
    forks: int,
    take: Callable[[int, Result], None],
) -> bool:
    """Have batches measured by forks, each the next one.

    Args:
        measure: Does one, of a number; it raises an exception where it cannot.
        batches: How many there are.
        turns: Which the forks take.
        forks: How many.
        take: Gets what each gave, in the order of the batches.

    Returns:
        Whether all were. A fork that failed or died ends it: the next ones would wait for it.
    """

    def in_fork(number: int, tell: Tell) -> Result:
        result = measure(number, turns)
        turns.end(number)
        return result

    waiting: dict[int, Result] = {}
    taken = 0
    with threads_restored():
        torch.set_num_threads(1)
        with Workers(min(forks, batches), in_fork) as workers:
            for number, result in workers.results(range(batches), lambda told: None):
                if result is None:
                    return False
                waiting[number] = result
                while taken in waiting:
                    take(taken, waiting.pop(taken))
                    taken += 1
    return True


def in_forks_at_once(work: Callable[[], Result], forks: int) -> list[Result]:
    """What so many forks, which share caches and memory, make of the same work.

    Args:
        work: What each does.
        forks: How many; with 1 there are none.

    Returns:
        The results of those that neither raised an exception nor died.
    """
    if forks < 2:
        return []
    side_by_side: Workers[int, Result] = Workers(forks, lambda number, tell: work())
    with side_by_side as workers:
        results = workers.results(range(forks), lambda told: None)
        return [result for _, result in results if result is not None]
