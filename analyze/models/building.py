"""Build the module that a spec names."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from analyze.errors import InputError, listed
from analyze.models.builtin import BUILTIN
from analyze.models.specs import LOADING, ModelSpec

Factory = Callable[..., Any]


def build_model(spec: ModelSpec) -> nn.Module:
    """A freshly built module with random weights, from a fixed seed.

    Raises:
        InputError: no such model or factory, arguments it does not take, or what it returns is
            no module.
    """
    factory, forced = _factory(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            model = factory(**spec.arguments, **forced)
        except Exception as error:  # whatever the factory raises
            raise InputError(
                "the model does not take these arguments"
                if isinstance(error, TypeError)
                else "the model cannot be built",
                found=f"{spec.text!r}: {_told(error)}",
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


def _factory(spec: ModelSpec) -> tuple[Factory, dict[str, Any]]:
    """What builds the model, and the arguments that keep it from loading weights."""
    if spec.source == "builtin":
        return _looked_up(spec, BUILTIN), {}
    if spec.source == "torchvision":
        return _torchvision(spec)
    if spec.source == "timm":
        return _timm(spec)
    return _from_code(spec), {}


def _torchvision(spec: ModelSpec) -> tuple[Factory, dict[str, Any]]:
    from torchvision import models

    factory = _looked_up(spec, dict.fromkeys(models.list_models()))
    factory = models.get_model_builder(spec.name) if factory is None else factory
    taken = inspect.signature(factory).parameters
    backbone = {"weights_backbone": None} if "weights_backbone" in taken else {}
    return factory, {"weights": None, **backbone}


def _timm(spec: ModelSpec) -> tuple[Factory, dict[str, Any]]:
    try:
        import timm
    except ImportError as error:
        raise InputError(
            "timm is not installed",
            found=f"model {spec.text!r}",
            expected="the package timm, which builds it",
            fix="pip install timm",
        ) from error
    _looked_up(spec, dict.fromkeys(timm.list_models()))
    return timm.create_model, {"model_name": spec.name, "pretrained": False}


def _looked_up(spec: ModelSpec, table: dict[str, Any]) -> Any:
    if spec.name in table:
        return table[spec.name]
    close = difflib.get_close_matches(spec.name, table, n=4)
    known = f"like {', '.join(close)}" if close else listed(sorted(table), 6)
    raise InputError(
        f"unknown {spec.source} model",
        found=repr(spec.text),
        expected=f"one of the {len(table)} models of {spec.source}, {known}",
        fix=f"--model '{spec.source}:{close[0] if close else next(iter(sorted(table)))}'",
    )


def _from_code(spec: ModelSpec) -> Factory:
    module = _module_of_file(spec) if spec.source.endswith(".py") else _module_of_package(spec)
    factory = getattr(module, spec.name, None)
    if not callable(factory):
        functions = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise InputError(
            "the module has no such factory",
            found=f"no {spec.name!r} in {spec.source}",
            expected=f"one of {listed(functions)}" if functions else "a function or class",
            fix=f"--model {spec.source}:{functions[0] if functions else 'FACTORY'}",
        )
    return factory


def _module_of_file(spec: ModelSpec) -> ModuleType:
    path = Path(spec.source)
    if not path.is_file():
        raise InputError(
            "the model's Python file is missing",
            found=f"no file {path}",
            expected="FILE.py:FACTORY",
            fix="--model path/to/model.py:build",
        )
    name = f"_analyze_model_{path.stem}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module  # dataclasses and pickling look the module up by name
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            "the model's Python file cannot be imported",
            found=f"{path}: {_told(error)}",
            expected=f"a file that Python runs without an error: python {path}",
            fix="mend the file, or install what it imports",
        ) from error
    finally:
        sys.path.pop(0)
    return module


def _module_of_package(spec: ModelSpec) -> ModuleType:
    try:
        return importlib.import_module(spec.source)
    except Exception as error:  # not there, or whatever it raises
        raise InputError(
            "the model's package cannot be imported",
            found=f"{spec.source!r}: {_told(error)}",
            expected="package.module:FACTORY with a package that is installed, or FILE.py:FACTORY",
            fix=f"pip install {spec.source.strip('.').partition('.')[0]}, or give the file's path",
        ) from error


def _signature(factory: Factory, forced: Mapping[str, Any]) -> str:
    """The arguments that a spec may give, with their defaults."""
    try:
        taken = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return "(...)"
    shown = [p.replace(annotation=p.empty) for p in taken if p.name not in (*forced, *LOADING)]
    return f"({', '.join(map(str, shown))})"


def _told(error: Exception) -> str:
    """What an exception in someone else's code says, and where it was raised."""
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    said = f"{type(error).__name__}: {first}".removesuffix(": ")
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if f.filename != __file__ and "importlib" not in f.filename]
    if isinstance(error, SyntaxError) or not theirs:
        return said  # it names the line itself, or there is none
    return f"{said} ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})"
