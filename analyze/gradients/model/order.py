"""In which order the modules of a model run, and so its parameters."""

from __future__ import annotations

from typing import Any

from torch import nn

from analyze.gradients.model.replica import Replica


class ForwardOrder:
    """Notes, while it is entered, which parameters' modules run when."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._order: dict[str, None] = {}
        self._hooks: list[Any] = []

    def __enter__(self) -> ForwardOrder:
        for path, module in self._replica.model.named_modules():
            if not path:
                continue  # it runs first, but its own parameters do not
            names = [f"{path}.{name}" for name, _ in module.named_parameters(recurse=False)]
            own = [name for name in names if name in self._replica.parameters]

            def note(module: nn.Module, args: Any, own: list[str] = own) -> None:
                self._order.update(dict.fromkeys(own))

            hook = module.register_forward_pre_hook(note)
            self._hooks.append(self._replica.observe(hook))
        return self

    def __exit__(self, *exception: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def names(self, used: set[str]) -> tuple[str, ...]:
        """All parameters, those that are never used last."""
        order = dict.fromkeys((*self._order, *self._replica.parameters))
        return tuple(sorted(order, key=lambda name: name not in used))
