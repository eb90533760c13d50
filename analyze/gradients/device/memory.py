"""How much is held in memory at a time, and how it is reduced where that is too much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from analyze.errors import InputError, out_of_memory
from analyze.gradients.device.devices import is_cpu


@dataclass(frozen=True)
class Memory:
    """The size of a batch and the place of the cells' sums; less of it after each failure."""

    device: torch.device  # where batches are computed
    batch_size: int = 0
    host_sums: bool = False  # whether the cells' sums are in the host's memory, not the device's
    largest: int = 0  # the batch size before anything was given up; 0 where nothing was

    def lowered(self, cells: int, values: int) -> tuple[Memory, str]:
        """Half the batch or, at one example, the sums in host memory; and a note that says so.

        ``cells`` sums of ``values`` numbers are held. Folds and cells stay: a file has one way of
        summing.

        Raises:
            InputError: nothing is left to give up.
        """
        sums = f"{4 * cells * values / 2**30:.2g} GiB or more"
        largest = max(self.largest, self.batch_size)
        if self.batch_size > 1:
            size = self.batch_size // 2
            note = f"out of memory: batches of {size} from then on"
            return replace(self, batch_size=size, largest=largest), note
        if not is_cpu(self.device) and not self.host_sums:
            return replace(self, batch_size=largest, host_sums=True, largest=largest), (
                f"out of memory: the cells' sums ({sums}) in host memory from then on, and batches "
                f"of {largest} again"
            )
        raise InputError(
            "the measurement does not fit into memory",
            found=f"out of memory with one example at a time on {self.device}; the sums of "
            f"{cells} cells take {sums}",
            expected="room for the model, one example, and a gradient for each cell",
            fix="fewer --folds or --cells, or some --layers or --parameters at a time",
        )

    def adopted(self, batch_size: int, host_sums: bool) -> Memory:
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
