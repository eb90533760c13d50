"""The leading rank: it tells the others what to do, and waits for none of them without end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from typing import Any

import torch.distributed as dist

from analyze.errors import InputError
from analyze.gradients.ranks.team import EXCHANGE, Command
from analyze.runs.protocol import DONE, MESSAGE, Tell
from analyze.runs.ranks.joining import check_versions, lines_to_all, process_group
from analyze.runs.ranks.launch import TIME_LIMIT, Launch
from analyze.runs.ranks.line import (
    ALIVE,
    COMMAND,
    END,
    STOP,
    GoneError,
    Line,
    SilentError,
    StoppedError,
)

SIGNS = 5  # of life of the leading rank within the time limit


class Leader:
    """All ranks of a launch, as the leading one sees them: the ``Team`` of an engine.

    Args:
        launch: Of this rank.
        lines: To each other rank, in their order.
        hosts: The machine of each rank, this one first.
        backend: What carries the sums from rank to rank.
    """

    def __init__(
        self, launch: Launch, lines: dict[int, Line], hosts: list[str], backend: str
    ) -> None:
        self.launch = launch
        self.ranks = launch.ranks
        self.hosts = hosts
        self.backend = backend
        self.told: Tell = lambda content: None  # gets what the others tell while they work
        self.begun = False  # whether the others know the job
        self.doing = "the preparation"  # for messages
        self._lines = lines

    def together(self, command: Command, own: Callable[[], Any]) -> list[Any]:
        """See ``Team.together``."""
        self._tell_all(COMMAND, command)
        try:
            results: dict[int, Any] = {0: own()}
        except Exception as error:
            if command[0] == EXCHANGE:
                raise self._not_exchanged(error) from error
            results = {0: error}
            self._tell_all(STOP)
        results |= self._answers(set(self._lines))
        in_order = [results[rank] for rank in range(self.ranks)]
        for raised in in_order:
            if isinstance(raised, Exception) and not isinstance(raised, StoppedError):
                raise self._not_exchanged(raised) if command[0] == EXCHANGE else raised
        return in_order

    def each(
        self, tasks: Iterable[Command], own: Line, receive: Tell
    ) -> Iterator[tuple[Command, Any]]:
        """Every task with its result, in the order in which they are done.

        Each rank does one at a time; ``own`` leads to a thread that works for this one. A task
        that raised an exception has it as its result.

        Raises:
            InputError: a rank gave no sign for too long, or has ended.
        """
        coming = iter(tasks)
        lines = {0: own, **self._lines}
        busy: dict[int, Command] = {}
        free = list(lines)
        heard: dict[int, float] = {}
        while True:
            while free and (task := next(coming, None)) is not None:
                rank = free.pop(0)
                self._send(rank, lines[rank], COMMAND, task)
                busy[rank], heard[rank] = task, time.monotonic()
            if not busy:
                return
            for rank in self._with_a_message({rank: lines[rank] for rank in busy}, heard):
                kind, content = self._received(rank, lines[rank])
                heard[rank] = time.monotonic()
                if kind == MESSAGE:
                    receive(content)
                    continue
                free.append(rank)
                yield busy.pop(rank), self._with_its_rank(rank, content)

    def refuse(self, rank: int, found: str) -> InputError:
        """The error for a rank that finds another job than this one."""
        return InputError(
            "a rank of the launch would measure something else",
            found=f"{found} ({self._name(rank)})",
            expected="the same model, loss and probes on all machines, by their hashes",
            fix="the same files on all machines, and the same command",
        )

    def sign_of_life(self) -> None:
        """Tell the other ranks that this one is there."""
        for line in self._lines.values():
            with suppress(GoneError, SilentError):
                line.send(ALIVE)

    def end(self) -> None:
        """Let the other ranks end."""
        for line in self._lines.values():
            with suppress(GoneError, SilentError):
                line.send(END)
            line.close()

    def as_facts(self) -> dict[str, Any]:
        """How the run is divided, for its provenance."""
        hosts = list(dict.fromkeys(self.hosts))
        return {"world_size": self.ranks, "backend": self.backend, "hosts": hosts}

    def __str__(self) -> str:
        """Who measures."""
        hosts = list(dict.fromkeys(self.hosts))
        return f"{self.ranks} ranks on {', '.join(hosts)}, by {self.backend}"

    def _answers(self, waiting: set[int]) -> dict[int, Any]:
        """The answer of each rank, an exception if it raised one; then the others stop."""
        heard = dict.fromkeys(waiting, time.monotonic())
        answers: dict[int, Any] = {}
        while len(answers) < len(waiting):
            lines = {rank: self._lines[rank] for rank in waiting - answers.keys()}
            for rank in self._with_a_message(lines, heard):
                kind, content = self._received(rank, lines[rank])
                heard[rank] = time.monotonic()
                if kind == MESSAGE:
                    self.told(content)
                    continue
                answers[rank] = self._with_its_rank(rank, content)
                if kind != DONE:
                    self._tell_all(STOP)
        return answers

    def _with_a_message(self, lines: dict[int, Line], heard: dict[int, float]) -> list[int]:
        """The ranks of which something has come, once there is one.

        Raises:
            InputError: one gave no sign for too long.
        """
        limit = self.launch.time_limit
        now = time.monotonic()
        left = min(heard[rank] for rank in lines) + limit - now
        ready = wait([line.connection for line in lines.values()], max(0.0, left))
        found = [rank for rank, line in lines.items() if line.connection in ready]
        silent = [r for r in lines if r not in found and heard[r] + limit <= time.monotonic()]
        if silent:
            raise self._silent(silent[0])
        return found

    def _received(self, rank: int, line: Line) -> tuple[str, Any]:
        try:
            return line.receive(self.launch.time_limit)
        except SilentError as error:
            raise self._silent(rank) from error
        except GoneError as error:
            raise self._gone(rank) from error

    def _send(self, rank: int, line: Line, kind: str, content: Any = None) -> None:
        try:
            line.send(kind, content)
        except SilentError as error:
            raise self._silent(rank) from error
        except GoneError as error:
            raise self._gone(rank) from error

    def _tell_all(self, kind: str, content: Any = None) -> None:
        for rank, line in self._lines.items():
            self._send(rank, line, kind, content)

    def _with_its_rank(self, rank: int, content: Any) -> Any:
        """An answer; a user's mistake says on which rank it was found."""
        if not isinstance(content, InputError) or rank == 0:
            return content
        found = f"{content.found} ({self._name(rank)})"
        return type(content)(content.what, found=found, expected=content.expected, fix=content.fix)

    def _name(self, rank: int) -> str:
        return f"rank {rank} of {self.ranks}, on {self.hosts[rank]}"

    def _gone(self, rank: int) -> InputError:
        return InputError(
            "a rank of the launch has ended early",
            found=f"{self._name(rank)}, during {self.doing}",
            expected="all ranks until the run is done",
            fix="the same command again: it goes on from the units that are finished",
        )

    def _silent(self, rank: int) -> InputError:
        limit = self.launch.time_limit
        return InputError(
            "a rank of the launch gives no sign",
            found=f"{self._name(rank)}: nothing for {limit:.0f} s, during {self.doing}",
            expected=f"a batch of each rank within {limit:.0f} s",
            fix="the same command again, which goes on from the units that are finished; with "
            f"{TIME_LIMIT}={2 * limit:.0f} if a batch takes that long",
        )

    def _not_exchanged(self, error: Exception) -> InputError:
        """The end of the launch: no command may follow an exchange that a rank has not ended."""
        if isinstance(error, InputError):
            return error
        return InputError(
            "the sums of the cells could not be exchanged between the ranks",
            found=f"{str(error).strip().splitlines()[-1]}, during {self.doing}",
            expected=f"all ranks in the exchange within {self.launch.time_limit:.0f} s",
            fix="the same command again: it goes on from the units that are finished",
        )


@contextmanager
def leading(launch: Launch, device: str) -> Iterator[Leader]:
    """In the block this rank leads all others; they end with it.

    Raises:
        InputError: they did not come within the time limit, or are of other versions.
    """
    with process_group(launch, device) as store:
        found = lines_to_all(launch, store)
        hosts = [socket.gethostname(), *(said.host for _, said in found.values())]
        lines = {rank: line for rank, (line, _) in found.items()}
        leader = Leader(launch, lines, hosts, dist.get_backend())
        ended = threading.Event()

        def give_signs() -> None:
            while not ended.wait(launch.time_limit / SIGNS):
                leader.sign_of_life()

        signs = threading.Thread(target=give_signs, daemon=True)
        signs.start()
        try:
            for _, said in found.values():
                check_versions(said)
            yield leader
        finally:
            ended.set()
            leader.end()
            signs.join()
