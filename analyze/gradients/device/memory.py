"""How much is held in memory at a time, and how it is reduced where that is too much."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analyze.errors import InputError, out_of_memory
from analyze.gradients.device.devices import is_cpu


@dataclass(frozen=True)
class Held:
    """What a measurement holds, as far as less of it can be held."""

    activations: int  # bytes that autograd keeps for each example of a batch
    sums: int  # bytes of the cells' sums
    cells: int
    adding: bool  # whether the sums were held when memory ran out


@dataclass(frozen=True)
class Memory:
    """The size of a batch and the place of the cells' sums; less of it after each failure."""

    device: torch.device  # where batches are computed
    batch_size: int = 0
    host_sums: bool = False  # whether the cells' sums are in the host's memory, not the device's

    def lowered(self, held: Held) -> tuple[Memory, str]:
        """Less, by what frees more, and a note that says so: half a batch, or the sums to the host.

        The sums go where they are as large as the activations of half a batch: batches as they are
        are worth more than sums on the device, which take a copy of a sum for each cell and
        parameter. At one example nothing else is left. Folds and cells stay: a file has one way of
        summing.

        Raises:
            InputError: nothing is left to give up.
        """
        half = self.batch_size // 2
        movable = held.sums if held.adding and not (is_cpu(self.device) or self.host_sums) else 0
        if movable and movable >= half * held.activations:
            return replace(self, host_sums=True), (
                f"out of memory: the cells' sums ({_size(held.sums)}) in host memory from then on"
            )
        if half:
            note = f"out of memory: batches of {half} from then on"
            return replace(self, batch_size=half), note
        raise InputError(
            "the measurement does not fit into memory",
            found=f"out of memory with one example at a time on {self.device}; the sums of "
            f"{held.cells} cells take {_size(held.sums)}",
            expected="room for the model, one example, and a gradient for each cell",
            fix="fewer --folds or --cells, or some --layers or --parameters at a time",
        )

    def restored(self, batch_size: int, host_sums: bool) -> Memory:
        """The memory that an earlier run went on with, unless less is left already."""
        less = self.batch_size > 0 and (self.host_sums, -self.batch_size) > (host_sums, -batch_size)
        return self if less else replace(self, batch_size=batch_size, host_sums=host_sums)


@contextmanager
def enough_memory(device: torch.device) -> Iterator[None]:
    """A block with a pass of fixed size: that of batch norm's statistics, the proof in float64.

    Raises:
        InputError: memory is not enough.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise InputError(
            "the model does not fit into memory",
            found=f"out of memory on {device} in a pass that cannot be made smaller",
            expected="room for the model in float64 with four examples, and for a forward pass "
            "over 128",
            fix="close what else uses the memory, --device cpu, or --batch-norm saved",
        ) from error


def zeros(
    size: tuple[int, ...], dtype: torch.dtype, place: torch.device, device: torch.device
) -> Tensor:
    """Zeros on ``place``, pinned where that is the host's memory and ``device`` copies to it.

    A device copies to pinned memory several times as fast, and nobody waits for it.
    """
    if is_cpu(place) and not is_cpu(device):
        try:
            return torch.zeros(size, dtype=dtype, pin_memory=True)
        except RuntimeError:  # nothing is pinned here, or no more
            pass
    return torch.zeros(size, dtype=dtype, device=place)


def let_go(error: Exception, device: torch.device) -> None:
    """Release what a pass that failed still holds, so that the next has the memory that it had.

    The error's frames hold tensors. Of a backward pass on a device, autograd's own thread lets go
    of the graph a moment after it has told the error: how much was left for the next pass, and so
    how large its batches were, was a matter of chance. A pass over one number waits its turn there.
    """
    chained: BaseException | None = error
    while chained is not None:
        chained.__traceback__ = None
        chained = chained.__cause__ or chained.__context__
    if not is_cpu(device):
        # What was made last is done first, counted in each thread: that of a new one comes last.
        thread = threading.Thread(target=_smallest_backward_pass, args=(device,))
        thread.start()
        thread.join()


def _smallest_backward_pass(device: torch.device) -> None:
    try:
        number = torch.zeros((), device=device, requires_grad=True)
        torch.autograd.grad(number + 0, number)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise


def _size(size: int) -> str:
    return f"{size / 2**30:.2g} GiB"
