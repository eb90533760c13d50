"""What the leading rank does with all others while one model is measured on all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.distributed as dist

from analyze.gradients.data.batches import Batch
from analyze.gradients.data.share import Share
from analyze.gradients.device.devices import HOST
from analyze.gradients.model.replica import Replica
from analyze.gradients.ranks.exchange import Exchange, Exchanging
from analyze.gradients.ranks.team import (
    ADD_UP,
    EXCHANGE,
    MAKE_READY,
    SET_STATISTICS,
    TAKE_STATISTICS,
    Team,
)
from analyze.gradients.state import EngineState
from analyze.gradients.step.batch_norm import BatchNormStatistics, Saved, Uses
from analyze.gradients.sums.accumulation import Accumulation
from analyze.gradients.sums.part import Part


def set_together(team: Team, statistics: BatchNormStatistics, replica: Replica) -> Saved:
    """Give all ranks' replicas the batch norm statistics of all probes; those they came with.

    Raises:
        As ``Team.together``.

    Cost: a forward pass of the probes that are not held out, divided among the ranks.
    """
    saved = statistics.came_with(replica)
    if statistics.passes_to_set(replica.model):
        own = partial(uses_to_send, statistics, replica, Share(0, team.ranks))
        of_ranks = team.together((SET_STATISTICS, ()), own)
        set_them = partial(statistics.set_from, replica, of_ranks)
        team.together((TAKE_STATISTICS, (of_ranks,)), set_them)
    return saved


def uses_to_send(statistics: BatchNormStatistics, replica: Replica, share: Share) -> list[Uses]:
    """The uses of each layer in the batches of one rank, as they go to another rank."""
    return [uses.on(HOST) for uses in statistics.uses(replica, share)]


def added_up_together(
    team: Team,
    state: EngineState,
    batches: Sequence[Batch],
    own: Callable[[Share], Accumulation],
) -> tuple[Accumulation, list[Part]]:
    """What the batches of all ranks add up to but for the sums, and the parts of all ranks.

    Each rank's sums stay where they are. All cut the probes as this one does: the number of cells
    in a batch follows from the memory of a device, of which another may have less.

    Raises:
        As ``Team.together``.
    """
    first, *others = team.together((ADD_UP, (state, batches)), partial(own, Share(0, team.ranks)))
    parts = [first.part(), *others]
    for part in others:
        first.include(part)
    return first, parts


def exchanged_together(
    team: Team, adding: Accumulation, parts: Sequence[Part], device: torch.device
) -> dict[str, np.ndarray]:
    """The Gram matrices ``[C, C]`` of the parameters that any rank has a gradient of.

    Raises:
        As ``Team.together``.
    """
    of_any = {name: values for part in parts for name, values in part.values.items()}
    values = {name: of_any[name] for name in adding.sums.shapes if name in of_any}
    held = tuple(part.held for part in parts)
    exchange = Exchange(adding.bad.shape[1], held, values, adding.sums.dtype)
    make_ready = partial(Exchanging, exchange, 0, adding.sums, device, place_of(device))
    exchanging, *_ = team.together((MAKE_READY, (exchange,)), make_ready)
    products, *_ = team.together((EXCHANGE, ()), exchanging.products)
    return products


def place_of(device: torch.device) -> torch.device:
    """The device of tensors that are sent from rank to rank; Gloo sends those of the CPU."""
    return HOST if dist.get_backend() == dist.Backend.GLOO else device
