"""The probes as tensors: some of them, or batch after batch, each on its way ahead of its use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from analyze.gradients.device.devices import moving_stream
from analyze.gradients.device.sending import sent
from analyze.gradients.model.inputs import Inputs
from analyze.probes import ProbeSet


class Examples(NamedTuple):
    """Inputs and targets of N probes."""

    inputs: Inputs
    targets: Tensor  # [N, ...]


class ProbeLoader:
    """Gives the examples at some rows of a probe set, whose arrays it shares."""

    def __init__(self, probes: ProbeSet) -> None:
        scale = [
            None if v is None else torch.tensor(v, dtype=torch.float64)
            for v in (probes.mean, probes.std)
        ]
        tensors = {name: torch.from_numpy(values) for name, values in probes.inputs.items()}
        self.inputs = Inputs(tensors, *scale)
        self.targets = torch.from_numpy(probes.targets)
        self.subset = torch.from_numpy(probes.subset)

    def take(self, rows: np.ndarray) -> Examples:
        """The examples at ``rows``, as they are stored, in the host's memory."""
        index = torch.from_numpy(rows)
        return Examples(self.inputs.take(index), self.targets[index])

    def ahead(
        self, batches: Iterable[np.ndarray], device: torch.device, dtype: torch.dtype
    ) -> Iterator[Examples]:
        """The examples of each batch in turn, as the model takes them.

        On a GPU the next batch is taken, pinned, moved and decoded by another thread and stream
        while the one before it is measured. On a CPU that would take a core from the
        measurement: there a batch is taken when its turn comes.

        Raises:
            RuntimeError: out of memory.
        """
        stream = moving_stream(device)
        if stream is None:
            for rows in batches:
                inputs, targets = self.take(rows)
                yield Examples(inputs.to(device, dtype), sent(targets, device))
            return
        move = partial(self._moved, device, dtype, stream)
        with ThreadPoolExecutor(max_workers=1) as thread:
            arriving: Future[tuple[Examples, torch.Event]] | None = None
            for rows in batches:
                coming = thread.submit(move, rows)
                if arriving is not None:
                    yield _used_here(*arriving.result(), device)
                arriving = coming
            if arriving is not None:
                yield _used_here(*arriving.result(), device)

    def _moved(
        self, device: torch.device, dtype: torch.dtype, stream: torch.Stream, rows: np.ndarray
    ) -> tuple[Examples, torch.Event]:
        """The examples at ``rows`` on their way, and when they have arrived."""
        inputs, targets = self.take(rows)
        with stream:
            examples = Examples(inputs.to(device, dtype), sent(targets, device))
        return examples, stream.record_event()


def _used_here(examples: Examples, arrived: torch.Event, device: torch.device) -> Examples:
    """Let this stream, and not the host, wait until they have arrived.

    Their memory is kept from what is moved next until this stream is done with it, too.
    """
    stream = torch.accelerator.current_stream(device)
    stream.wait_event(arrived)
    for tensor in (*examples.inputs.tensors.values(), examples.targets):
        tensor.record_stream(stream)
    return examples
