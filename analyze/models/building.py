"""Build the model that a spec names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from analyze.errors import InputError, like, listed
from analyze.gradients.model.copying import copied_to_fill
from analyze.models.builtin import BUILTIN
from analyze.models.huggingface import build_from_config
from analyze.models.sizes import check_size
from analyze.specs.model import LOADING, ModelSpec
from analyze.specs.user_code import installed, load_function, with_place

Factory = Callable[..., Any]
PARAMETERS_ARE_MADE_BY = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
LIBRARIES = ("builtin", "timm", "torchvision")  # any size for a few words


def check_size_of(spec: ModelSpec, held: int) -> None:
    """Refuse a library's model that is too large for files of so many bytes, before it is built.

    A user's own factory is not called for that, and a model in memory is there.

    Raises:
        InputError: it is too large; no such model.
    """
    if spec.source not in LIBRARIES:
        return
    factory, forced = _factory(spec)
    check_size(
        lambda: factory(**spec.arguments, **forced), held, "model spec", repr(spec.text),
        "give the model that was trained: --model SPEC",
    )  # fmt: skip


def build_model(spec: ModelSpec) -> nn.Module:
    """A freshly built module with random weights, from a fixed seed; a copy of one in memory.

    Raises:
        InputError: no such model or factory, arguments it does not take, or no module returned; or
            a module in memory that cannot be copied.
    """
    if spec.module is not None:
        return copied_to_fill(spec.module)
    factory, forced = _factory(spec)
    if isinstance(factory, nn.Module):
        raise InputError(
            "the model spec names a module, not what makes one",
            found=f"{spec.text!r} is a {type(factory).__name__}",
            expected="a function or class that gives a new module at every call",
            fix=f"put what makes it into a function, --model {spec.source}:FUNCTION",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            model = factory(**spec.arguments, **forced)
        except InputError:
            raise
        except Exception as error:  # whatever the factory raises
            arguments = isinstance(error, TypeError)
            raise InputError(
                f"the model {'does not take these arguments' if arguments else 'cannot be built'}",
                found=f"{spec.text!r}: {with_place(error)}",
                expected=f"{spec.name}{_signature(factory, forced)} to return a module",
                fix="change the part after the ? of the model spec, or the factory",
            ) from error
    if not isinstance(model, nn.Module):
        raise InputError(
            "the factory gives no model",
            found=f"{spec.text!r} returned {type(model).__name__}",
            expected="a torch.nn.Module",
            fix="return the module from the factory",
        )
    return model


class _NoStorage(TorchFunctionMode):
    """Tensors that parameters are made of have no values; all others, such as ranges, have."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in PARAMETERS_ARE_MADE_BY:
            kwargs = {"device": "meta", **(kwargs or {})}
        return func(*args, **(kwargs or {}))


def built_without_values(spec: ModelSpec) -> nn.Module:
    """A model as ``build_model`` makes it, whose parameters take no memory.

    All of its tensors are without values where that is possible. Some models compute sizes by
    tensors, as torchvision's regnets do: those have values then.

    Raises:
        InputError: as ``build_model``.
    """
    try:
        with torch.device("meta"):
            return build_model(spec)
    except InputError:
        with _NoStorage():
            return build_model(spec)


def _factory(spec: ModelSpec) -> tuple[Factory, dict[str, Any]]:
    """The model's factory, and the arguments that keep it from loading weights."""
    if spec.source == "builtin":
        return _looked_up(spec, BUILTIN), {}
    if spec.source == "torchvision":
        return _torchvision(spec)
    if spec.source == "timm":
        return _timm(spec)
    if spec.source == "transformers":
        return lambda **_: build_from_config(spec), {}
    return load_function(spec.source, spec.name, "model"), {}


def _torchvision(spec: ModelSpec) -> tuple[Factory, dict[str, Any]]:
    from torchvision import models

    _looked_up(spec, dict.fromkeys(models.list_models()))
    factory = models.get_model_builder(spec.name)
    taken = inspect.signature(factory).parameters
    backbone = {"weights_backbone": None} if "weights_backbone" in taken else {}
    return factory, {"weights": None, **backbone}


def counts_of_torchvision() -> dict[str, set[int]]:
    """Torchvision's models that take images to classes, with the numbers of their parameters.

    The numbers are those beside its weights, for 1,000 classes; empty without torchvision.
    """
    try:
        from torchvision import models
    except ImportError:
        return {}
    return {
        name: {entry.meta["num_params"] for entry in models.get_model_weights(name)}
        for name in models.list_models(module=models)
    }


def _timm(spec: ModelSpec) -> tuple[Factory, dict[str, Any]]:
    timm = installed("timm", f"model {spec.text!r}", "builds")
    _looked_up(spec, dict.fromkeys(timm.list_models()))
    return timm.create_model, {"model_name": spec.name, "pretrained": False}


def _looked_up(spec: ModelSpec, table: dict[str, Any]) -> Any:
    if spec.name in table:
        return table[spec.name]
    close = like(spec.name, table)
    known = f"like {', '.join(close)}" if close else listed(sorted(table))
    raise InputError(
        f"unknown {spec.source} model",
        found=repr(spec.text),
        expected=f"one of the {len(table)} models of {spec.source}, {known}",
        fix=f"--model '{spec.source}:{close[0] if close else next(iter(sorted(table)))}'",
    )


def _signature(factory: Factory, forced: Mapping[str, Any]) -> str:
    """The arguments that a spec may give, with their defaults."""
    try:
        taken = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return "(...)"
    shown = [p.replace(annotation=p.empty) for p in taken if p.name not in (*forced, *LOADING)]
    return f"({', '.join(map(str, shown))})"
