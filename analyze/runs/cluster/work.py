"""What a worker of the cluster does with a checkpoint: it says what it does, then gives its result.

A worker's process is used again, so it takes up a commission once.
"""

from __future__ import annotations

import pickle
import queue
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from analyze.errors import InputError, described
from analyze.runs.commission import Commission, Task
from analyze.runs.messages import Advanced
from analyze.runs.preparation import Prepared
from analyze.runs.protocol import DONE, FAILED, MESSAGE

REFUSED = "refused"  # besides the kinds that all processes send
PAUSE = 0.5  # seconds between two messages that count examples
_known: dict[str, Prepared] = {}  # by the hash of the commission


def look(commission: bytes) -> None:
    """See whether this machine measures what the run does.

    Raises:
        InputError: other versions, other code, or no directory of checkpoints.
    """
    loaded: Commission = pickle.loads(commission)
    loaded.check()


def work(commission: bytes, task: Task) -> Iterator[tuple[str, Any]]:
    """Messages of what is done, by kind and content, and last the result or why there is none.

    It is a thread that measures, so that what it says goes out meanwhile.
    """
    said: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    thread = threading.Thread(target=_work, args=(commission, task, said), daemon=True)
    thread.start()
    examples, told = 0, time.monotonic()
    while True:
        kind, content = said.get()
        if isinstance(content, Advanced):
            examples += content.examples
            if time.monotonic() - told < PAUSE:
                continue
            content, examples, told = Advanced(content.checkpoint, examples), 0, time.monotonic()
        elif examples:
            yield MESSAGE, Advanced(task.checkpoint.name, examples)
            examples = 0
        yield kind, content
        if kind != MESSAGE:
            return


def _work(commission: bytes, task: Task, said: queue.SimpleQueue[tuple[str, Any]]) -> None:
    from analyze.runs.measuring import result_of

    try:
        prepared = _taken_up(commission)
    except InputError as error:
        said.put((REFUSED, error))
        return
    try:
        said.put((DONE, result_of(prepared, task, lambda content: said.put((MESSAGE, content)))))
    except InputError as error:
        said.put((FAILED, error))
    except BaseException as error:  # the run gives the checkpoint to another machine
        said.put((FAILED, described(error)))


def _taken_up(commission: bytes) -> Prepared:
    """The run as it was prepared, as at first: tasks come with what was learned since."""
    key = sha256(commission).hexdigest()
    if key not in _known:
        _known.clear()
        _known[key] = pickle.loads(commission).taken_up()
    return _known[key]
