"""How this process was launched: by itself, or by torchrun as one of several ranks; no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from analyze.errors import InputError

TIME_LIMIT = "ANALYZE_RANK_TIMEOUT"
DEFAULT_LIMIT = 1800.0  # seconds; torch.distributed waits as long by default


@dataclass(frozen=True)
class Launch:
    """One of the ranks that torchrun has started.

    Args:
        rank: The number of this one; rank 0 leads.
        ranks: How many there are.
        local_rank: The number among those of this machine.
        local_ranks: How many this machine has.
        time_limit: Seconds after which a rank that gives no sign counts as hung.
    """

    rank: int
    ranks: int
    local_rank: int
    local_ranks: int
    time_limit: float = DEFAULT_LIMIT

    @property
    def leads(self) -> bool:
        """Whether this rank plans, proves, decides, and writes."""
        return self.rank == 0

    @property
    def on_one_machine(self) -> bool:
        """Whether no rank is elsewhere."""
        return self.local_ranks == self.ranks


def launched(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """The rank of a launch by torchrun that this process is; None for a process that is alone.

    Only torchrun's own variables count: other programs set ``RANK`` and ``WORLD_SIZE`` for
    processes that are no ranks of a run.

    Raises:
        InputError: the time limit is no number of seconds.
    """
    if "TORCHELASTIC_RUN_ID" not in environment or int(environment["WORLD_SIZE"]) == 1:
        return None
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    rank, ranks, local_rank, local_ranks = (int(environment[name]) for name in names)
    return Launch(rank, ranks, local_rank, local_ranks, _time_limit(environment))


def _time_limit(environment: Mapping[str, str]) -> float:
    text = environment.get(TIME_LIMIT, str(DEFAULT_LIMIT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise InputError(
            "the time limit of ranks is no number of seconds",
            found=f"{TIME_LIMIT}={text}",
            expected="seconds after which a rank that gives no sign counts as hung",
            fix=f"{TIME_LIMIT}={DEFAULT_LIMIT:.0f}, or leave it unset",
        )
    return seconds
