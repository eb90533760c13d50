"""A rank that measures its part of a model, command by command of the leading rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from analyze.errors import out_of_memory
from analyze.gradients.data.batches import Batch
from analyze.gradients.data.share import Share
from analyze.gradients.device.memory import let_go
from analyze.gradients.measurer import Measurer
from analyze.gradients.model.replica import Replica
from analyze.gradients.ranks.exchange import Exchange, Exchanging
from analyze.gradients.ranks.team import (
    ADD_UP,
    EXCHANGE,
    MAKE_READY,
    SET_STATISTICS,
    TAKE_STATISTICS,
)
from analyze.gradients.ranks.together import place_of, uses_to_send
from analyze.gradients.state import EngineState
from analyze.gradients.step.batch_norm import Uses
from analyze.gradients.step.conditions import measuring
from analyze.gradients.sums.accumulation import Accumulation
from analyze.gradients.sums.part import Part

Advance = Callable[[int], None]  # called with the number of examples of each batch


class Member:
    """One rank's part of a model that all ranks measure; ``share`` says which.

    It decides nothing: whatever goes wrong is raised, and the leading rank decides for all.
    """

    def __init__(self, measurer: Measurer, replica: Replica, share: Share) -> None:
        self._measurer = measurer
        self._replica = replica
        self._share = share
        self._adding: Accumulation | None = None
        self._exchanging: Exchanging | None = None

    def do(self, name: str, arguments: tuple[Any, ...], advance: Advance) -> Any:
        """The result of a command, under the conditions of a measurement.

        Raises:
            Exception: whatever the work raises.
        """
        known: dict[str, Callable[..., Any]] = {
            SET_STATISTICS: self._uses,
            TAKE_STATISTICS: self._take_statistics,
            ADD_UP: partial(self._add_up, advance),
            MAKE_READY: self._make_ready,
            EXCHANGE: self._exchange,
        }
        with measuring(self._replica.device):
            try:
                return known[name](*arguments)
            except Exception as error:
                if out_of_memory(error):
                    let_go(error, self._replica.device)
                raise

    def _uses(self) -> list[Uses]:
        return uses_to_send(self._measurer.workload.statistics, self._replica, self._share)

    def _take_statistics(self, of_ranks: Sequence[list[Uses]]) -> None:
        self._measurer.workload.statistics.set_from(self._replica, of_ranks)

    def _add_up(self, advance: Advance, state: EngineState, batches: Sequence[Batch]) -> Part:
        self._adding = self._exchanging = None  # the memory of an attempt before this one
        state = state.on(self._replica.device)
        self._adding = self._measurer.added_up(
            state, self._replica, advance, batches, {}, self._share
        )
        return self._adding.part()

    def _make_ready(self, exchange: Exchange) -> None:
        assert self._adding is not None
        device, rank = self._replica.device, self._share.rank
        sums = self._adding.sums
        self._exchanging = Exchanging(exchange, rank, sums, device, place_of(device))

    def _exchange(self) -> None:
        assert self._exchanging is not None
        self._exchanging.products()
