"""The calls of a model's modules: the order in which they run, and their outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica


@contextmanager
def forward_order(replica: Replica) -> Iterator[dict[str, None]]:
    """The parameters whose modules have run in the block, in their order."""
    order: dict[str, None] = {}

    def watch(path: str, module: nn.Module) -> RemovableHandle:
        names = [f"{path}.{name}" for name, _ in module.named_parameters(recurse=False)]
        measured = dict.fromkeys(name for name in names if name in replica.parameters)
        return module.register_forward_pre_hook(lambda *_: order.update(measured))

    # The root runs first, but its own parameters do not.
    modules = [(path, module) for path, module in replica.model.named_modules() if path]
    with replica.hooked(watch(path, module) for path, module in modules):
        yield order


def module_outputs(replica: Replica, batch: Inputs) -> list[tuple[str, str, Tensor]]:
    """Path, type and output of each module in the order in which they finish."""
    outputs: list[tuple[str, str, Tensor]] = []

    def watch(path: str, module: nn.Module) -> RemovableHandle:
        def note(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.is_floating_point():
                outputs.append((path or "the root", type(module).__name__, output.detach().clone()))

        return module.register_forward_hook(note)

    with replica.hooked(watch(path, module) for path, module in replica.model.named_modules()):
        replica(batch)
    return outputs
