"""Commands in forks of a process that has imported all: started, killed, and their orphans seen."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable

from analyze.errors import InputError

TOLD = 3  # exit code of a command that ended with a message
PATIENCE = 20.0  # seconds in which processes of a killed command must end
Call = Callable[[], object]


def start(call: Call, before: Call = lambda: None) -> int:
    """Fork a process that makes a call, after another one that disturbs it; its id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        before()
        call()
        code = 0
    except InputError:
        code = TOLD
    finally:
        os._exit(code)


def exit_code(child: int) -> int:
    """The exit code of a child that ends by itself; negative for a signal."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def killed_after(child: int, seconds: float) -> bool:
    """Kill a child after some time; False if it has ended before. SIGCHLD must be blocked."""
    signal.sigtimedwait({signal.SIGCHLD}, seconds)
    os.kill(child, signal.SIGKILL)  # one that has ended is still there until it is waited for
    return exit_code(child) < 0


def adopt_orphans() -> None:
    """Become the parent of what killed children leave running (Linux)."""
    set_child_subreaper = 36
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def orphans_end() -> bool:
    """Wait for the processes that a killed child has left; whether all have ended in time."""
    last = time.monotonic() + PATIENCE
    while time.monotonic() < last:
        try:
            child, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:  # none is left
            return True
        if not child:
            time.sleep(0.005)
    return False
