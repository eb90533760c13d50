"""Whether a model's forward passes may run beside each other in threads."""

from __future__ import annotations

import pickle
import random
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from analyze.gradients.device.devices import random_states_of_accelerators
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica
from analyze.gradients.threads.sharing import at_once, one_core_each

SWITCHING = 1e-5  # seconds that a thread of Python runs before another's turn
ROUNDS = 4  # passes of each thread beside the others


def undisturbed(replicas: Sequence[Replica], inputs: Sequence[Inputs]) -> bool:
    """Whether a replica in each thread gives the bits of a pass alone, without random numbers.

    Replicas share nothing but weights. A model may still keep things elsewhere, in a module of
    Python or on a class, where another thread's pass finds them. Random numbers are everybody's: a
    model that sets their seed itself is deterministic alone, and beside another pass by luck.

    Cost: five forward passes over each batch, all at a time but for the first.
    """
    with torch.no_grad(), one_core_each(), _random_numbers_restored(), _switching_often():
        _draw()  # a model that sets its seed would leave what it has left before
        before = random_states()
        expected = [replica(batch) for replica, batch in zip(replicas, inputs, strict=True)]
        if random_states() != before:
            return False
        together = threading.Barrier(len(replicas))
        passes = [
            partial(_gives, replica, batch, output, together)
            for replica, batch, output in zip(replicas, inputs, expected, strict=True)
        ]
        return all(at_once(passes, together.abort))


def _gives(replica: Replica, inputs: Inputs, expected: Tensor, together: threading.Barrier) -> bool:
    """Whether each pass gives what is expected; those of all threads begin ``together``."""

    def output() -> Tensor:
        together.wait()
        return replica(inputs)

    with torch.no_grad():  # set for each thread
        outputs = (output() for _ in range(ROUNDS))
        try:
            same = [torch.allclose(o, expected, 0.0, 0.0, equal_nan=True) for o in outputs]
            return all(same)
        except Exception:  # alone it gave an output: a disturbed pass may raise anything
            together.abort()
            return False


def random_states() -> bytes:
    """What the next random numbers of torch, Python and numpy follow from."""
    states = [torch.get_rng_state().numpy(), random.getstate(), np.random.get_state()]
    states += [state.numpy() for state in random_states_of_accelerators()]
    return pickle.dumps(states)


def _draw() -> None:
    torch.rand(1)
    random.random()
    np.random.random()


@contextmanager
def _switching_often() -> Iterator[None]:
    """In the block threads of Python take turns often, so that they meet each other's traces."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCHING)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def _random_numbers_restored() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
