"""In which order the modules of a model run, and so its parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from analyze.gradients.model.replica import Replica


@contextmanager
def forward_order(replica: Replica) -> Iterator[dict[str, None]]:
    """The parameters whose modules have run in the block, in their order."""
    order: dict[str, None] = {}

    def watch(path: str, module: nn.Module) -> RemovableHandle:
        names = [f"{path}.{name}" for name, _ in module.named_parameters(recurse=False)]
        measured = dict.fromkeys(name for name in names if name in replica.parameters)

        def note(module: nn.Module, args: Any) -> None:
            order.update(measured)

        return module.register_forward_pre_hook(note)

    # The root runs first, but its own parameters do not.
    modules = [(path, module) for path, module in replica.model.named_modules() if path]
    with replica.hooked(watch(path, module) for path, module in modules):
        yield order
