"""The weight of a call: a parameter, a part of one, or something computed from parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from analyze.gradients.forms import Form, Geometry, Placed, PulledBack
from analyze.gradients.model.graph import nodes_of_graph


class Weight(NamedTuple):
    """A tensor that depends on parameters and on nothing else."""

    tensor: Tensor  # attached to the parameters by its graph
    parameters: Mapping[str, Tensor]  # by name; the tensor itself where it is one

    @property
    def direct(self) -> bool:
        """Whether this is a parameter, or its entries in other order or in part."""
        return len(self.parameters) == 1 and all(
            Geometry.of(self.tensor, p) is not None for p in self.parameters.values()
        )

    def forms(self, form: Form, wanted: Iterable[str]) -> dict[str, Form]:
        """The form of this tensor's gradients as forms of its parameters', by name."""
        tensor = self.tensor
        if form.view is not None:
            with torch.enable_grad():
                tensor = form.view(tensor)
        if len(self.parameters) == 1:
            ((name, parameter),) = self.parameters.items()
            if tensor is parameter:
                return {name: form}
            geometry = Geometry.of(tensor, parameter)
            if geometry is not None:
                whole = geometry.whole(parameter)
                return {name: form if whole else Placed(form, parameter, geometry)}
        return {
            name: PulledBack(form, parameter, tensor)
            for name, parameter in self.parameters.items()
            if name in wanted
        }


def leaves(tensor: Tensor) -> list[Tensor]:
    """The leaf tensors that a tensor's graph leads to; itself where it is one."""
    if tensor.grad_fn is None:
        return [tensor] if tensor.requires_grad else []
    return leaves_of_graph(tensor.grad_fn)


def leaves_of_graph(top: Any) -> list[Tensor]:
    """The leaf tensors that a node of autograd's graph leads to."""
    variables = (getattr(node, "variable", None) for node in nodes_of_graph(top))
    return [*{id(leaf): leaf for leaf in variables if leaf is not None}.values()]
