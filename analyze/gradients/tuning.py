"""``tune``: the fastest algorithms and batch size by the clock, on batches of the run."""

from __future__ import annotations

from functools import partial

from analyze.gradients.costs.choice import ByClock
from analyze.gradients.device.devices import equal_batches, room_for
from analyze.gradients.device.timing import Budget, fastest
from analyze.gradients.model.replica import Replica
from analyze.gradients.state import EngineState
from analyze.gradients.workload import Workload

PARTS = (1, 2, 4)  # of the largest size: the sizes that are timed
ROUNDS = 2


def largest_to_try(state: EngineState, examples: int) -> int:
    """Twice the batch size of the state, or as much of it as memory and the examples allow."""
    fits = room_for(state.architecture.device, state.cost.kept, state.shares)
    size = max(state.memory.batch_size, min(2 * state.memory.batch_size, fits))
    return equal_batches(examples, size, state.shares)


def time_algorithms(
    workload: Workload, replica: Replica, budget: Budget, state: EngineState
) -> None:
    """Time the algorithms of each call on a batch, and keep the fastest in the state's plan.

    Raises:
        ForwardChangedError, MethodFailedError: the plan does not hold for this batch.
    """
    batches = workload.batches(state.memory, state.plan.copies)
    choice = ByClock(state.plan.algorithms, budget, state.plan.failed)
    batches.measured(replica, state.plan, batches.first(replica), choice=choice)


def fastest_size(workload: Workload, replica: Replica, budget: Budget, state: EngineState) -> int:
    """The batch size of the state, a half or a quarter of it, by timing a batch of each.

    What the batches give is thrown away: the clock decides by which of them the run goes on, and a
    resumed run, which times nothing, would have other bits if one of them was kept.

    Raises:
        ForwardChangedError, MethodFailedError: the plan does not hold for these batches.
    """
    largest = state.memory.batch_size
    sizes = sorted({max(1, largest // part) for part in PARTS})
    batches = workload.batches(state.memory, state.plan.copies)
    some = {size: batches.first(replica, size) for size in sizes}
    ways = {n: partial(batches.measured, replica, state.plan, batch) for n, batch in some.items()}
    done = {n: len(batch.rows) for n, batch in some.items()}
    return fastest(ways, replica.device, done, ROUNDS, budget)
