"""Several GPUs of one machine: a process for each, which measures one checkpoint after the other.

The processes are started anew, as a GPU cannot be used in a fork of a process that has used one.
One whose GPU fails gives its checkpoint back and ends; the others go on.
"""

from __future__ import annotations

import json
import multiprocessing
import pickle
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Self

from analyze.runs.commission import Commission, Task
from analyze.runs.preparation import Prepared
from analyze.runs.progress import Progress
from analyze.runs.protocol import DONE, MESSAGE, Tell, received

# The modules are looked for where this process looks for them, also those of the user.
START = (
    "import json, sys; sys.path[:] = dict.fromkeys(json.loads(sys.argv[1]) + sys.path); "
    "from analyze.runs.gpu_worker import serve; serve(int(sys.argv[2]))"
)
ENDED = "its process ended early"
TRIES = 2  # GPUs that may fail with a checkpoint before it is left to this process
NOTE = "{device} failed: {why}; the run goes on {how}"


class GPUs:
    """Processes of one GPU each within a ``with`` block, which starts and ends them.

    They end with this process however that ends, and leave Ctrl-C to it.

    Args:
        devices: The name of each GPU.
        commissions: What each is to measure by, as bytes.
        progress: Is told which GPU has failed.
    """

    def __init__(
        self, devices: Sequence[str], commissions: Sequence[bytes], progress: Progress
    ) -> None:
        self._devices = devices
        self._commissions = commissions
        self._progress = progress
        self._processes: dict[Connection, subprocess.Popen[bytes]] = {}
        self._names: dict[Connection, str] = {}

    @classmethod
    def of(cls, prepared: Prepared, progress: Progress) -> Self:
        """The GPUs that a run is divided among."""
        devices = prepared.division.devices
        threads = max(1, prepared.division.threads // len(devices))
        commissions = [pickle.dumps(Commission.of(prepared, name, threads)) for name in devices]
        return cls(devices, commissions, progress)

    def __enter__(self) -> Self:
        try:
            for device in self._devices:
                self._start(device)
            for (pipe, name), commission in zip(
                [*self._names.items()], self._commissions, strict=True
            ):
                try:
                    pipe.send_bytes(commission)
                except OSError:  # it has ended
                    self._retire(pipe, f"{name} ended early")
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def end(self) -> None:
        """End all processes, whatever they are doing."""
        for pipe in [*self._processes]:
            self._stop(pipe)

    def results(self, tasks: Iterable[Task], receive: Tell) -> Iterator[tuple[Task, Any]]:
        """Every task with its result, in the order in which they are done.

        The result is None for a task with which two GPUs failed, or for which none is left.
        """
        coming, back = iter(tasks), deque[Task]()
        busy: dict[Connection, Task] = {}
        failures: Counter[str] = Counter()
        while self._processes:
            for pipe in [pipe for pipe in self._processes if pipe not in busy]:
                task = back.popleft() if back else next(coming, None)
                if task is not None:
                    busy[pipe] = task
                    with suppress(OSError):  # a pipe that has ended is ready below
                        pipe.send(task)
            if not busy:
                return
            ready = wait(list(busy))
            for pipe in [pipe for pipe in busy if pipe in ready]:
                kind, content = received(pipe)
                if kind == MESSAGE:
                    receive(content)
                    continue
                task = busy.pop(pipe)
                if kind == DONE:
                    yield task, content
                    continue
                self._retire(pipe, content or ENDED)
                failures[task.checkpoint.name] += 1
                if failures[task.checkpoint.name] < TRIES:
                    back.append(task)
                else:
                    yield task, None
        yield from ((task, None) for task in (*back, *coming))

    def _start(self, device: str) -> None:
        ours, theirs = multiprocessing.Pipe()
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-c", START, json.dumps(sys.path), str(number)]
            # Its standard input ends with this process. Ctrl-C reaches this process only.
            self._processes[ours] = subprocess.Popen(
                command, stdin=subprocess.PIPE, pass_fds=[number], start_new_session=True
            )
        self._names[ours] = device

    def _retire(self, pipe: Connection, why: str) -> None:
        """End a process whose GPU has failed, and say so."""
        self._stop(pipe)
        left = [self._names[other] for other in self._processes]
        how = f"with {', '.join(left)}" if left else "in this process, on one device"
        self._progress.note(f"Warning: {NOTE.format(device=self._names[pipe], why=why, how=how)}")

    def _stop(self, pipe: Connection) -> None:
        process = self._processes.pop(pipe)
        process.kill()
        process.wait()
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        pipe.close()
