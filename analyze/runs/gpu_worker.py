"""The process of one GPU: it takes a commission, then one checkpoint after the other."""

from __future__ import annotations

import os
import pickle
import threading
from multiprocessing.connection import Connection

from analyze.errors import described
from analyze.runs.protocol import DONE, FAILED, MESSAGE


def serve(number: int) -> None:
    """Work through what comes by the pipe of this number, until it ends.

    What fails by no fault of a checkpoint ends the process: after an error of the driver a GPU is
    of no use to it.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with Connection(number) as pipe:
        try:
            _work(pipe)
        except EOFError:
            return
        except Exception as error:  # the parent gives the checkpoint to another
            pipe.send((FAILED, described(error)))


def _work(pipe: Connection) -> None:
    from analyze.runs.measuring import result_of

    prepared = pickle.loads(pipe.recv_bytes()).taken_up()
    while True:
        task = pipe.recv()
        result = result_of(prepared, task, lambda content: pipe.send((MESSAGE, content)))
        pipe.send((DONE, result))


def _end_with_parent() -> None:
    """Wait for the end of the standard input, which the parent holds."""
    while os.read(0, 1):  # not by sys.stdin, whose lock would be held when this process ends
        pass
    os._exit(1)
