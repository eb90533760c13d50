"""Layers: the modules that directly own parameters, named as a reader of the model knows them."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from analyze.gradients.measurement import ParameterRow
from analyze.gradients.plan import Plan
from analyze.gradients.replica import aliases

PARAMETRIZATIONS = ".parametrizations."


def parameter_rows(model: nn.Module, plan: Plan) -> list[ParameterRow]:
    """The parameters of ``model`` in forward order, those of one layer side by side.

    A layer stands where its first parameter does.
    """
    parameters = dict(model.named_parameters())
    tied = aliases(model)
    rows = []
    for name in plan.order:
        layer, layer_type = _owner(model, name)
        size = parameters[name].numel()
        method = plan.methods[name]
        rows.append(ParameterRow(name, layer, layer_type, size, tuple(tied[name]), method))
    place = {layer: k for k, layer in enumerate(dict.fromkeys(row.layer for row in rows))}
    return sorted(rows, key=lambda row: place[row.layer])


def _owner(model: nn.Module, name: str) -> tuple[str, str]:
    """Path and type of the module that owns a parameter."""
    if PARAMETRIZATIONS in name:
        path = name.partition(PARAMETRIZATIONS)[0]
    elif "." in name:
        path = name.rpartition(".")[0]
    else:
        return name, "Parameter"
    return path, type_before_parametrizations(model.get_submodule(path)).__name__
