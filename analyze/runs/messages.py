"""What whoever measures a checkpoint says meanwhile, in this process or in another."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from analyze.gradients.engine import Engine
from analyze.runs.progress import Progress
from analyze.runs.units.activity import Place
from analyze.runs.units.interruption import check_interruption


@dataclass(frozen=True)
class Begun:
    """A checkpoint is being measured, in some process."""

    checkpoint: str
    place: Place

    def show(self, progress: Progress) -> None:
        """Show it."""
        progress.checkpoint(self.checkpoint, self.place)


@dataclass(frozen=True)
class Advanced:
    """Some more examples of a checkpoint were measured."""

    checkpoint: str
    examples: int

    def show(self, progress: Progress) -> None:
        """Show it."""
        progress.advance(self.examples, self.checkpoint)


def place_of(engine: Engine) -> Place:
    """The process that runs this, with the device of an engine."""
    return Place(socket.gethostname(), os.getpid(), str(engine.device))


def showing(progress: Progress) -> Callable[[Begun | Advanced], None]:
    """Shows messages, and raises for a signal whose exception was lost meanwhile."""

    def show(message: Begun | Advanced) -> None:
        check_interruption()
        message.show(progress)

    return show
