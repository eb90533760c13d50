"""Processes that read many inputs each, watched from outside: one that hangs or dies is replaced.

A child is a fork of this process, which has everything imported, and says by a pipe which input it
begins and what came of it.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from scripts.fuzzing.kind import Case, Kind
from scripts.fuzzing.trial import SECRET, Trial, tried
from scripts.fuzzing.watch import Watch, limit_memory

BLOCKED = 120.0  # seconds after which a child hangs that has not worked: it waits for something
MOST_MEMORY = 4 << 30  # bytes that a child may ask for
LOOK = 0.5  # seconds
TICKS = os.sysconf("SC_CLK_TCK")

Task = tuple[Kind, int]
Maker = Callable[[Kind, int], Case]


@dataclass
class Child:
    """A process, the tasks that are left to it, and the one that it is at."""

    tasks: list[Task]
    process: int = 0
    pipe: BinaryIO | None = None
    since: float = 0.0
    used: float = 0.0  # seconds of processor time at the beginning of its task
    rest: bytes = field(default=b"", repr=False)


def run_all(tasks: Sequence[Task], make: Maker, jobs: int) -> Generator[Trial, None, None]:
    """The trials of all tasks, in the order in which they end."""
    children = [Child(list(tasks[k::jobs])) for k in range(jobs)]
    selector = selectors.DefaultSelector()
    for child in children:
        _start(child, make, selector)
    try:
        while any(child.tasks for child in children):
            for key, _ in selector.select(LOOK):
                child = key.data
                content = os.read(key.fd, 1 << 16)
                if not content:
                    yield from _ended(child, make, selector, "")
                else:
                    yield from _heard(child, content)
            for child in children:
                if child.tasks and child.pipe is not None and _hangs(child):
                    os.kill(child.process, signal.SIGKILL)
                    yield from _ended(child, make, selector, "hang")
    finally:
        for child in children:
            if child.tasks and child.pipe is not None:  # nobody wants the rest
                os.kill(child.process, signal.SIGKILL)
            _stop(child, selector)


def _heard(child: Child, content: bytes) -> Iterator[Trial]:
    *lines, child.rest = (child.rest + content).split(b"\n")
    for line in lines:
        fact = json.loads(line)
        child.since, child.used = time.monotonic(), _processor_time(child.process)
        if "kind" in fact:
            child.tasks.pop(0)
            yield Trial(**fact)


def _hangs(child: Child) -> bool:
    """Whether the task has used up its time: of the processor, which other work does not take."""
    passed = time.monotonic() - child.since
    used = _processor_time(child.process) - child.used
    return used > child.tasks[0][0].seconds or (passed > BLOCKED and used < LOOK)


def _ended(
    child: Child, make: Maker, selector: selectors.BaseSelector, why: str
) -> Iterator[Trial]:
    """The trial at which a child was ended or died; another one takes the rest."""
    code = _stop(child, selector)
    if not child.tasks:
        return
    kind, index = child.tasks.pop(0)
    used = f"{time.monotonic() - child.since:.0f} s"
    find = f"hang: {used}" if why else f"died: {_reason(code)}"
    yield Trial(kind.name, index, "broken", [find])
    if child.tasks:
        _start(child, make, selector)


def _reason(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _start(child: Child, make: Maker, selector: selectors.BaseSelector) -> None:
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child.since, child.used, child.rest = time.monotonic(), 0.0, b""
    child.process = os.fork()
    if child.process == 0:
        os.close(reading)
        try:
            _work(child.tasks, make, writing)
            os._exit(0)
        except BaseException as error:
            os.write(2, f"the child broke off: {type(error).__name__}: {error}\n".encode())
            os._exit(70)
    os.close(writing)
    child.pipe = os.fdopen(reading, "rb", buffering=0)
    selector.register(child.pipe, selectors.EVENT_READ, child)


def _stop(child: Child, selector: selectors.BaseSelector) -> int:
    if child.pipe is None:
        return 0
    selector.unregister(child.pipe)
    child.pipe.close()
    child.pipe = None
    _, status = os.waitpid(child.process, 0)
    return os.waitstatus_to_exitcode(status)


def _work(tasks: Sequence[Task], make: Maker, pipe: int) -> None:
    """Read one input after the other, in a process of its own."""
    limit_memory(MOST_MEMORY)
    nothing = os.open(os.devnull, os.O_RDWR)
    errors = os.dup(2)
    for stream in (0, 1):
        os.dup2(nothing, stream)
    with tempfile.TemporaryDirectory(prefix="fuzz") as place:
        (Path(place) / "secret").write_text(SECRET, encoding="ascii")
        folder = Path(place, "input")
        watch = Watch(folder)
        watch.install()
        for kind, index in tasks:
            shutil.rmtree(folder, ignore_errors=True)
            case = make(kind, index)
            os.write(pipe, b"{}\n")
            os.dup2(nothing, 2)  # what libraries in C print
            trial = tried(kind, index, case, folder, watch)
            os.dup2(errors, 2)
            os.write(pipe, json.dumps(trial.as_dict()).encode() + b"\n")
            os.chdir("/")


def _processor_time(process: int) -> float:
    """Seconds of processor time of a process; 0 where the system does not say."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
