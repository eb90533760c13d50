"""The stages of a preparation as they are shown: on which checkpoint, and how much is done."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from analyze.gradients.stages import Stage
from analyze.runs.progress import Progress

READING = "reading the run"
CHECKPOINTS = "reading all checkpoints"
LOADING = "building the model and loading its weights"
WRITING = "Deriving coherence and writing"


class Stages:
    """Shows each stage that begins, with the share of all passes that are done by then.

    Args:
        progress: Shows them.
        last: Stages that follow those of the engine.
    """

    def __init__(self, progress: Progress, last: Sequence[Stage] = ()) -> None:
        self._progress = progress
        self._left = list(last)
        self._total = self._done = self._running = 0.0  # passes
        self.place = ""  # the checkpoint that is worked on

    def expect(self, stages: Sequence[Stage]) -> None:
        """Say which stages of the engine are to come."""
        self._left = [*stages, *self._left]
        self._total = sum(stage.passes for stage in self._left)

    def begin(self, name: str) -> None:
        """Show a stage; what was expected before it is done, or will not come."""
        self._done += self._running
        self._running = 0.0
        before = list(takewhile(lambda stage: stage.name != name, self._left))
        if len(before) < len(self._left):
            self._done += sum(stage.passes for stage in before)
            self._running = self._left[len(before)].passes
            self._left = self._left[len(before) + 1 :]
        share = self._done / self._total if self._total else 0.0
        self._progress.stage(name, self.place, share)
