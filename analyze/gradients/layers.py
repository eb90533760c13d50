"""Layers: the modules that directly own parameters, named as a reader of the model knows them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from analyze.errors import InputError, listed
from analyze.gradients.measurement import ParameterRow
from analyze.gradients.model.replica import aliases
from analyze.gradients.numbers import refuse_quantised
from analyze.gradients.plan import Plan

PARAMETRIZATIONS = ".parametrizations."


def parameter_rows(model: nn.Module, plan: Plan) -> list[ParameterRow]:
    """The parameters of ``model`` in forward order, those of one layer side by side.

    A layer stands where its first parameter does.
    """
    parameters = dict(model.named_parameters())
    tied = aliases(model)
    rows = []
    for name in plan.order:
        layer, layer_type = owner(model, name)
        size = parameters[name].numel()
        method = str(plan.methods[name])
        rows.append(ParameterRow(name, layer, layer_type, size, tuple(tied[name]), method))
    place = {layer: k for k, layer in enumerate(dict.fromkeys(row.layer for row in rows))}
    return sorted(rows, key=lambda row: place[row.layer])


def selected_parameters(
    model: nn.Module, layers: Sequence[str], parameters: Sequence[str]
) -> frozenset[str]:
    """Names of the parameters that match a glob of each kind; no globs match everything.

    Raises:
        InputError: a glob matches nothing, no parameter matches both kinds, or the model has none.
    """
    owners = {name: owner(model, name)[0] for name, _ in model.named_parameters()}
    for option, globs, names in (
        ("--layers", layers, [*dict.fromkeys(owners.values())]),
        ("--parameters", parameters, [*owners]),
    ):
        for glob in globs:
            if not any(fnmatchcase(name, glob) for name in names):
                raise InputError(
                    f"the model has none of the {option.removeprefix('--')} asked for",
                    found=f"{option} {glob!r}",
                    expected=f"a glob that matches some of {listed(names)}",
                    fix=f"{option} '*', or leave it out for all",
                )
    if not owners:
        refuse_quantised(model)  # packed weights are no parameters
        raise InputError(
            "the model has no parameter",
            found=f"a {type(model).__name__} without a weight",
            expected="a model with weights: coherence is that of the gradients at them",
            fix="give the model that was trained; a list of modules needs torch.nn.ModuleList",
        )
    chosen = frozenset(
        name
        for name, layer in owners.items()
        if _matches(layer, layers) and _matches(name, parameters)
    )
    if not chosen:
        raise InputError(
            "no parameter is in the layers asked for and among the parameters asked for",
            found=f"--layers {' '.join(layers)} and --parameters {' '.join(parameters)}",
            expected=f"globs of which both match some of {listed([*owners])}",
            fix="leave one of the two out",
        )
    return chosen


def _matches(name: str, globs: Sequence[str]) -> bool:
    return not globs or any(fnmatchcase(name, glob) for glob in globs)


def owner(model: nn.Module, name: str) -> tuple[str, str]:
    """Path and type of the module that owns a parameter."""
    if PARAMETRIZATIONS in name:
        path = name.partition(PARAMETRIZATIONS)[0]
    elif "." in name:
        path = name.rpartition(".")[0]
    else:
        return name, "Parameter"
    return path, type_before_parametrizations(model.get_submodule(path)).__name__
