"""Launches of several ranks as torchrun makes them, by forks of this process: no imports anew."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from analyze.cli import main

LIMIT = 60  # seconds that any launch may take
Before = Callable[[int], None]  # called in each rank, with its number, before the command


@dataclass(frozen=True)
class Ended:
    """How a rank ended, and what it printed."""

    code: int  # negative: the signal that ended it
    printed: str


def launched(
    count: int,
    arguments: list[str],
    folder: Path,
    before: Before = lambda rank: None,
    environment: Mapping[str, str] | None = None,
    while_running: Callable[[list[int]], None] = lambda processes: None,
) -> list[Ended]:
    """Run ``analyze`` with some arguments as the ranks of a launch, and wait for their end.

    As torchrun does: when a rank fails, the others are ended. ``while_running`` gets the processes.
    """
    port = free_port()
    processes = []
    for rank in range(count):
        process = os.fork()
        if process == 0:
            _run(rank, count, port, arguments, folder, before, environment or {})
        processes.append(process)
    codes: dict[int, int] = {}
    try:
        while_running(processes)
        _wait(processes, codes)
    finally:
        for process in processes:
            if process not in codes:
                os.kill(process, signal.SIGKILL)
                codes[process] = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    printed = [(folder / f"rank{rank}.txt").read_text() for rank in range(count)]
    return [Ended(codes[p], text) for p, text in zip(processes, printed, strict=True)]


def _wait(processes: list[int], codes: dict[int, int]) -> None:
    """Wait for all to end by themselves, or for five seconds more than the first that fails."""
    end = time.monotonic() + LIMIT
    while len(codes) < len(processes):
        for process in processes:
            if process in codes:
                continue
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                codes[process] = os.waitstatus_to_exitcode(status)
                if codes[process]:
                    end = min(end, time.monotonic() + 5)
        if time.monotonic() > end:
            return
        time.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _run(
    rank: int,
    count: int,
    port: int,
    arguments: list[str],
    folder: Path,
    before: Before,
    environment: Mapping[str, str],
) -> None:
    """The life of a rank; it computes in another thread, see ``analyze.runs.workers``."""
    os.environ.update(
        TORCHELASTIC_RUN_ID="test", RANK=str(rank), WORLD_SIZE=str(count), LOCAL_RANK=str(rank),
        LOCAL_WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    os.environ.update(environment)
    multiprocessing.current_process().authkey = os.urandom(32)  # that of no other rank
    output = os.open(folder / f"rank{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    code = 1
    try:
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        torch.set_num_threads(1)
        before(rank)
        try:
            main(arguments, standalone_mode=False)
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
