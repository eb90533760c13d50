"""The line between the leading rank and another: commands one way, messages and answers back.

Collectives of torch.distributed wait for all ranks; a line tells when one is gone or silent. What
is sent is pickled here: ``Connection.send`` puts tensors into memory that one machine alone has.
"""

from __future__ import annotations

import os
import pickle
import socket
import struct
import threading
import traceback
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from analyze.errors import InputError, described, out_of_memory
from analyze.gradients.step.failures import MethodFailedError
from analyze.gradients.step.intercept import ForwardChangedError

ALIVE, END, STOP, COMMAND = "alive", "end", "stop", "command"  # from the leading rank
RAISED = "raised"  # to it, besides what all processes send
Message = tuple[str, Any]
TELLING = (InputError, MethodFailedError, ForwardChangedError)  # what the leading rank acts on


class GoneError(Exception):
    """The rank at the other end has ended, or its machine cannot be reached."""


class SilentError(Exception):
    """The rank at the other end gave no sign for too long."""


class StoppedError(Exception):
    """The leading rank wants no answer any more."""


class EndedError(Exception):
    """The leading rank has said that it is the end."""


class RankError(Exception):
    """An error of another rank that is none of the user's; with its traceback."""


class Line:
    """One end of a line, which several threads may send on.

    Args:
        connection: What it sends through.
        limit: Seconds that sending a message, or getting one that has begun, may take.
    """

    def __init__(self, connection: Connection, limit: float | None = None) -> None:
        self.connection = connection
        self._sending = threading.Lock()
        self._receiving = threading.Lock()
        if limit is not None:
            _limit_waits(connection.fileno(), limit)

    def send(self, kind: str, content: Any = None) -> None:
        """Send a message.

        Raises:
            GoneError: there is nobody at the other end.
            SilentError: it takes nothing for too long.
        """
        try:
            with self._sending:
                self.connection.send_bytes(pickle.dumps((kind, content)))
        except BlockingIOError as error:
            raise SilentError from error
        except OSError as error:
            raise GoneError from error

    def receive(self, limit: float | None = None) -> Message:
        """The next message, which must come within so many seconds.

        Raises:
            GoneError: there is nobody at the other end.
            SilentError: none came, or only the beginning of one.
        """
        try:
            with self._receiving:
                if not self.connection.poll(limit):
                    raise SilentError
                kind, content = pickle.loads(self.connection.recv_bytes())
        except BlockingIOError as error:
            raise SilentError from error
        except (EOFError, OSError) as error:
            raise GoneError from error
        return kind, content

    def check_wanted(self) -> None:
        """Look at the messages that are there, while the answer to a command is worked on.

        Raises:
            StoppedError: the answer is not wanted any more.
            EndedError: nothing is.
            GoneError: there is nobody at the other end.
        """
        with self._receiving:
            try:
                while self.connection.poll(0):
                    kind, _ = pickle.loads(self.connection.recv_bytes())
                    if kind == END:
                        raise EndedError
                    if kind == STOP:
                        raise StoppedError
            except (EOFError, OSError) as error:
                raise GoneError from error

    def close(self) -> None:
        """Close this end."""
        with suppress(OSError):
            self.connection.close()


def sendable(error: Exception) -> Exception:
    """An error as the leading rank is told it: as it is where that acts on it."""
    if isinstance(error, ForwardChangedError) and error.batch is not None:
        inputs, targets = error.batch  # from a device that the leading rank does not have
        tensors = {name: tensor.cpu() for name, tensor in inputs.tensors.items()}
        error.batch = replace(inputs, tensors=tensors), targets.cpu()
    if isinstance(error, TELLING):
        return error
    if out_of_memory(error):
        return MemoryError(f"out of memory: {described(error)}")
    return RankError("".join(traceback.format_exception(error)))


def _limit_waits(descriptor: int, seconds: float) -> None:
    """Let no call wait longer for the other end of a socket."""
    at_most = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    with socket.socket(fileno=os.dup(descriptor)) as same:
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            same.setsockopt(socket.SOL_SOCKET, option, at_most)
