"""A rank that does what the leading one says, and ends with it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.errors import InputError
from analyze.gradients.data.share import Share
from analyze.gradients.engine import Engine
from analyze.gradients.losses import build_loss
from analyze.gradients.measurement import Settings
from analyze.gradients.member import Member
from analyze.gradients.ranks.team import Command
from analyze.gradients.state import EngineState
from analyze.gradients.threads.division import Division
from analyze.models.building import build_model
from analyze.runs.job import Job
from analyze.runs.loading import Loaded, Snapshot, load
from analyze.runs.measuring import outcome_of
from analyze.runs.outcome import Outcome
from analyze.runs.protocol import DONE, MESSAGE, Tell
from analyze.runs.ranks.joining import device_of, line_to_leader, process_group
from analyze.runs.ranks.launch import Launch
from analyze.runs.ranks.line import (
    COMMAND,
    END,
    RAISED,
    EndedError,
    GoneError,
    Line,
    SilentError,
    StoppedError,
    sendable,
)
from analyze.runs.units.configuration import configuration_of

KNOW, TAKE_OVER, MEASURE = "know", "take_over", "measure"  # besides the commands of a member


class Follower:
    """What a rank knows, and the commands that it does.

    Args:
        share: Which part of a divided checkpoint is its own.
        device: Where it computes.
    """

    def __init__(self, share: Share, device: str) -> None:
        self._share = share
        self._device = device
        self._job: Job | None = None
        self._engine: Engine | None = None
        self._member: Member | None = None

    @classmethod
    def beside(cls, job: Job, engine: Engine) -> Follower:
        """One that measures whole checkpoints for the leading rank, by what that has already."""
        follower = cls(Share(), engine.settings.device)
        follower._job, follower._engine = job, engine
        return follower

    def do(self, command: Command, tell: Tell) -> Any:
        """The result of a command.

        Raises:
            Exception: whatever the work raises.
        """
        name, arguments = command
        if name == KNOW:
            return self._know(*arguments)
        if name == TAKE_OVER:
            return self._take_over(*arguments)
        if name == MEASURE:
            return self._measure(tell, *arguments)
        assert self._member is not None
        return self._member.do(name, arguments, tell)

    def _know(
        self, facts: Mapping[str, Any], settings: Settings, division: Division
    ) -> dict[str, object]:
        """Get to know the job; the configuration as this rank finds it."""
        job = Job(**{**facts, "loss": build_loss(facts["loss_spec"])})
        engine = Engine(job.probes, job.loss, replace(settings, device=self._device))
        engine.threads = division.sharing
        torch.set_num_threads(division.threads)
        self._job, self._engine = job, engine
        return configuration_of(job, build_model(job.model), engine)

    def _take_over(self, checkpoint: Checkpoint, state: EngineState) -> str:
        """Load a checkpoint of which this rank measures its part; the hash of its files."""
        assert self._job is not None
        assert self._engine is not None
        self._member = None  # its memory
        loaded = load(self._job, Snapshot.of(checkpoint))
        self._member = self._engine.member(state, loaded.model, self._share)
        return loaded.sha256

    def _measure(
        self, tell: Tell, checkpoint: Checkpoint, state: EngineState, following: Checkpoint | None
    ) -> Outcome:
        """The outcome of a whole checkpoint."""
        job, engine = self._job, self._engine
        assert job is not None
        assert engine is not None
        self._member = None
        engine.take(state)

        def read() -> Loaded:
            return load(job, Snapshot.of(checkpoint), following)

        return outcome_of(engine, len(job.probes), checkpoint, read, tell)


def serve(line: Line, follower: Follower, limit: float | None) -> None:
    """Do commands until the leading rank says that it is the end.

    Raises:
        GoneError, SilentError: it has ended without that, or gives no sign.
    """

    def tell(content: Any) -> None:
        line.check_wanted()
        line.send(MESSAGE, content)

    while True:
        kind, command = line.receive(limit)
        if kind == END:
            return
        if kind != COMMAND:  # a sign of life, or a stop that came after the answer
            continue
        try:
            answer = DONE, follower.do(command, tell)
        except StoppedError as stopped:
            answer = RAISED, stopped
        except EndedError:
            return
        except (GoneError, SilentError):
            raise
        except Exception as error:  # the leading rank decides what follows
            answer = RAISED, sendable(error)
        line.send(*answer)


def follow(launch: Launch, device: str) -> int:
    """Do what the leading rank says until the end; the exit code.

    Ctrl-C is left to the leading rank.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        own = device_of(launch, device)
        with process_group(launch, own) as store:
            line = line_to_leader(launch, store)
            try:
                serve(line, Follower(Share(launch.rank, launch.ranks), own), launch.time_limit)
            finally:
                line.close()
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 3
    except SilentError:
        found = f"nothing for {launch.time_limit:.0f} s"
        print(f"Error: rank {launch.rank} ends: {found} of rank 0, which leads", file=sys.stderr)
        return 3
    except GoneError:  # torchrun tells of it, and ends the launch
        return 3
    return 0
