"""How much is held in memory at a time, and what is given up when that is too much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from analyze.errors import InputError, out_of_memory


@dataclass(frozen=True)
class Memory:
    """The size of a batch and the place of the cells' sums; less of it after each failure.

    Args:
        device: Where batches are computed.
        batch_size: Examples at a time.
        host_sums: Whether the cells' sums are held in the host's memory instead of the device's.
        largest: The batch size before anything was given up; 0 where nothing was.
    """

    device: torch.device
    batch_size: int = 0
    host_sums: bool = False
    largest: int = 0

    def lowered(self, cells: int, values: int) -> tuple[Memory, str]:
        """Less of it, and a note: half the batch; at one example, the sums in host memory instead.

        Folds and cells stay: a file has one way of summing.

        Args:
            cells: How many sums there are.
            values: How many numbers each of them has.

        Raises:
            InputError: nothing is left to give up.
        """
        sums = f"{4 * cells * values / 2**30:.2g} GiB or more"
        largest = max(self.largest, self.batch_size)
        if self.batch_size > 1:
            size = self.batch_size // 2
            note = f"out of memory: batches of {size} from then on"
            return replace(self, batch_size=size, largest=largest), note
        if self.device.type != "cpu" and not self.host_sums:
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
        """What an earlier run went on with, unless less was left here already."""
        less = self.batch_size > 0 and (self.host_sums, -self.batch_size) > (host_sums, -batch_size)
        return self if less else replace(self, batch_size=batch_size, host_sums=host_sums)


@contextmanager
def enough_memory(device: torch.device) -> Iterator[None]:
    """Tell it where memory is not enough for a pass whose size is given.

    Those of batch norm's statistics, and of the proof in float64.

    Raises:
        InputError: it is not.
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
