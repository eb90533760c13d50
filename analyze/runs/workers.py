"""Workers: copies of this process, made by fork, that share out tasks among them.

Each computes on one thread: in the fork of a process that had several, GNU's OpenMP, which torch
uses, would wait for the others forever.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Generic, TypeVar

import torch

from analyze.runs.protocol import DONE, MESSAGE, Tell, received

Task = TypeVar("Task")
Result = TypeVar("Result")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Workers(Generic[Task, Result]):
    """Processes that work on tasks within a ``with`` block, which starts and ends them.

    A worker has a copy of this process's memory; tasks and results go through a pipe. It ends with
    this process however that ends, and leaves Ctrl-C to it. Enter before other threads start: a
    lock that a thread holds stays locked in the copy.

    Args:
        count: The number of processes.
        work: Returns the result of a task; meanwhile it can send messages by its second argument.
    """

    def __init__(self, count: int, work: Callable[[Task, Tell], Result]) -> None:
        self._count = count
        self._work = work
        self._processes: list[ForkProcess] = []
        self._pipes: list[Connection] = []

    def __enter__(self) -> Workers[Task, Result]:
        try:
            with _signals_wait():
                for _ in range(self._count):
                    self._fork()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def end(self) -> None:
        """End all workers, whatever they are doing."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
        for pipe in self._pipes:
            pipe.close()
        self._processes, self._pipes = [], []

    def results(self, tasks: Iterable[Task], receive: Tell) -> Iterator[tuple[Task, Result | None]]:
        """Every task with its result, in the order in which they are done.

        The result is None for a task that raised an exception or whose worker died. The next task
        is asked for when a worker is free; ``receive`` is called with each message.
        """
        coming = iter(tasks)
        busy: dict[Connection, Task] = {}
        free = list(self._pipes)
        while True:
            while free and (task := next(coming, None)) is not None:
                pipe = free.pop()
                if _sent(pipe, task):
                    busy[pipe] = task
                else:
                    yield task, None
            if not busy:
                break
            ready = wait(list(busy))
            for pipe in [pipe for pipe in busy if pipe in ready]:
                kind, content = received(pipe)
                if kind == MESSAGE:
                    receive(content)
                    continue
                yield busy.pop(pipe), content
                if kind == DONE:
                    free.append(pipe)
        for task in coming:  # all workers have died
            yield task, None

    def _fork(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(
            target=self._serve, args=(theirs,), daemon=True
        )
        with warnings.catch_warnings():  # that threads exist: those of OpenMP, see above
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()  # so that the pipe ends with the worker
        self._processes.append(process)
        self._pipes.append(ours)

    def _serve(self, pipe: Connection) -> None:
        """Run a worker until its pipe ends."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        # A new thread has a heap of its own. The first thread would fill the small gaps of the
        # parent's heap, and each page of it would be copied (20 MB).
        work = threading.Thread(target=self._work_through, args=(pipe,))
        work.start()
        work.join()

    def _work_through(self, pipe: Connection) -> None:
        """Receive tasks and send their results until the pipe ends."""
        torch.set_num_threads(1)
        with suppress(EOFError, OSError):  # of a pipe whose other end is gone
            while True:
                task = pipe.recv()
                pipe.send((DONE, self._result(pipe, task)))

    def _result(self, pipe: Connection, task: Task) -> Result | None:
        try:
            return self._work(task, lambda content: pipe.send((MESSAGE, content)))
        except Exception:  # the parent does the task again and sees what is wrong
            return None


def at_once(work: Callable[[], Result], processes: int) -> list[Result]:
    """The results of the same work in several processes at once; empty for fewer than 2 processes.

    Processes that raise an exception or die have no result.
    """
    if processes < 2:
        return []
    side_by_side: Workers[int, Result] = Workers(processes, lambda number, tell: work())
    with side_by_side as workers:
        results = workers.results(range(processes), lambda message: None)
        return [result for _, result in results if result is not None]


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Delay signals until the block has ended: a worker must not handle one of this process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _sent(pipe: Connection, task: object) -> bool:
    try:
        pipe.send(task)
    except OSError:  # its worker is dead
        return False
    return True
