"""Shares of the batches of one model, each added up by a fork of this process on one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from analyze.gradients.accumulation import Accumulated
from analyze.gradients.cell_sums import CellSums
from analyze.gradients.conditions import threads_restored
from analyze.gradients.room import Room
from analyze.processes.workers import Tell, Workers

Result = TypeVar("Result")
Share = tuple[Accumulated, CellSums]
CPU = torch.device("cpu")
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


def shared_out(
    add_up: Callable[[int, Room, Tell], Share],
    rooms: Sequence[Room],
    own: Room,
    processes: int,
    told: Tell,
) -> list[Share]:
    """What has been added up of every share.

    Each share is the same to the bit, whichever process adds it up. What a fork fails at is done
    by this process once the forks are gone: there is more memory then, and an exception is told.

    Args:
        add_up: Gives the share of a number, its sums in a room; tells of examples meanwhile.
        rooms: Of the shares' sums, shared with forks.
        own: For the sums of what is done here.
        processes: Forks at a time; with 1 there are none.
        told: Gets what is told.
    """

    def in_fork(share: int, tell: Tell) -> tuple[Accumulated, range, dict]:
        found, sums = add_up(share, rooms[share], tell)
        return found, sums.cells, sums.layouts

    with threads_restored():
        torch.set_num_threads(1)
        done = {}
        if processes > 1:
            with Workers(min(processes, len(rooms)), in_fork) as workers:
                done = dict(workers.results(range(len(rooms)), told))
        shares = []
        for share, room in enumerate(rooms):
            result = done.get(share)
            if result is None:
                shares.append(add_up(share, own, told))
                continue
            found, cells, layouts = result
            sums = CellSums(cells, room, CPU)
            sums.take_over(layouts)
            shares.append((found, sums))
    return shares


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
