"""What the rank that leads needs of the others while one model is measured on all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

SET_STATISTICS, TAKE_STATISTICS = "uses", "set_statistics"
ADD_UP, MAKE_READY, EXCHANGE = "add_up", "make_ready", "exchange"
Command = tuple[str, tuple[Any, ...]]  # a method of a ``Member``, and its arguments


class Team(Protocol):
    """All ranks of a launch, as the leading one sees them."""

    ranks: int

    def together(self, command: Command, own: Callable[[], Any]) -> list[Any]:
        """The results of a command that all other ranks do while this one does ``own``.

        That of this rank is the first, the others follow in the order of the ranks.

        Raises:
            Exception: what a rank raised, of the first that did; all have ended by then.
            InputError: a rank gave no sign for too long, or has ended.
        """
        ...
