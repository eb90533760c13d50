"""What every module of a model gives for a batch, to say where something begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica


def module_outputs(replica: Replica, batch: Inputs) -> list[tuple[str, str, Tensor]]:
    """Path, type and output of each module in the order in which they finish."""
    outputs: list[tuple[str, str, Tensor]] = []

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def record(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.is_floating_point():
                outputs.append((name or "the root", type(module).__name__, output.detach().clone()))

        return record

    modules = replica.model.named_modules()
    with replica.hooked(module.register_forward_hook(hook(name)) for name, module in modules):
        replica(batch)
    return outputs
