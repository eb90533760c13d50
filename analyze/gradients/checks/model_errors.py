"""The error of a model whose forward pass fails: where in the model, and what is known of it.

The probes are said not to fit only where the module that fails is given them as they are. Otherwise
it is the model that fails, and its own error comes first.
"""

from __future__ import annotations

import inspect
import re
import traceback
from typing import NamedTuple

import torch
from torch import Tensor, nn

from analyze.errors import InputError, described
from analyze.gradients.model.inputs import Inputs
from analyze.gradients.model.replica import Replica

CALLING = nn.modules.module.__file__  # torch's code that calls a module's forward and its hooks
FACTORY = "--model FILE.py:FACTORY"


class _Cause(NamedTuple):
    """A kind of error that torch raises."""

    pattern: str  # of the error's text
    rule: str  # what torch asks for
    fix: str  # what to do
    of_inputs: bool = True  # whether the inputs may be at fault


CAUSES = (
    _Cause(
        r"does not require grad|Inference tensors",
        "a forward pass that also runs without gradients; one that takes derivatives itself turns "
        "them on",
        f"in forward, `with torch.enable_grad():` around torch.autograd.grad, in a factory: "
        f"{FACTORY}",
        of_inputs=False,
    ),
    _Cause(
        r"same device|device type|on the CPU|is on cpu|cuda:\d",
        "every tensor of the model on one device: parameters and buffers are moved, other "
        "tensors are not",
        f"self.register_buffer(NAME, tensor) in the module, or make it on the input's device: "
        f"{FACTORY}; or --device cpu",
        of_inputs=False,
    ),
    _Cause(
        r"[Cc]omplex",
        "an operation that takes complex numbers",
        f"view_as_real before it, in a factory: {FACTORY}",
    ),
    _Cause(
        r"\bbool(ean)?\b.*\b(long|int|float|masks?)\b|(with|on) a bool tensor",
        "booleans where the model has a mask, and numbers where it computes",
        f"mask.bool() or mask.float() in forward: {FACTORY}; or freeze the probes with that type",
    ),
    _Cause(
        r"indices.*scalar types|scalar type (Long|Int)|Long, Int|to be (Long|Int)",
        "integers: token ids and other indices",
        "freeze the probes with these inputs as integers",
    ),
    _Cause(
        r"\b(long|int|Long|Int|Byte|unsigned char)\b.*\b(float|double|Float|Half|Double)|"
        r"Float but found (Long|Int|Byte)",
        "floating point inputs",
        "freeze the probes with these inputs as floats, or uint8 images with mean and std",
    ),
    _Cause(
        r"same dtype|scalar type|should be the same|dtype",
        "one precision all through the model",
        f"x.to(self.weight.dtype) where the module has a precision of its own: {FACTORY}",
    ),
    _Cause(
        r"index .*out of range|out of bounds|indices should be",
        "indices below the size of the table that they index",
        "freeze the probes with the tokenizer, length and settings of this model",
    ),
    _Cause(
        r"[Ss]hape|[Ss]ize|[Dd]imension|channels|elements|stack expects|must match|Expected \dD"
        r"|broadcast|view|unpack",
        "tensors whose shapes fit each other",
        "give probes of the shape that the model was trained on: --probes FILE; or the model's "
        "own arguments: --model 'SPEC?NAME=VALUE'",
    ),
)  # fmt: skip

UNKNOWN = _Cause(
    "",
    "a forward pass that runs on the probes",
    f"call the model on two probes, and mend it there: {FACTORY}",
    of_inputs=False,
)


class _Place(NamedTuple):
    """Where in a model an error arose."""

    path: str  # of the innermost module
    module: nn.Module  # the innermost module
    takes_inputs: bool  # whether it is given some of the probes' inputs as they are
    entered: bool  # whether its forward began


def failed(error: Exception, replica: Replica, probes: Inputs) -> InputError:
    """The refusal for an error that the model's forward pass raised over some probes.

    Cost: a forward pass, to see how far it comes.
    """
    model = replica.model
    place, last = _place(error, model), _last_finished(replica, probes)
    cause = next((c for c in CAUSES if re.search(c.pattern, str(error))), None)
    names = ", ".join(f"{k or 'inputs'} {list(t.shape[1:])}" for k, t in probes.tensors.items())
    found = f"{described(error)}, in {_named(place.path, place.module)}"
    found += f" after {_named(*last)}; probes: {names}" if last else f"; probes: {names}"
    if isinstance(error, TypeError) and place.module is model and not place.entered:
        return _other_arguments(found, model, probes)
    # What fails after modules of its own have run is given something else by then.
    inside = last is not None and last[1] in list(place.module.modules())
    if place.takes_inputs and not inside and cause is not None and cause.of_inputs:
        what = "the model cannot take the probe inputs"
    else:
        what = "the model's forward pass fails"
    cause = cause or UNKNOWN
    return InputError(what, found=found, expected=cause.rule, fix=cause.fix)


def _other_arguments(found: str, model: nn.Module, probes: Inputs) -> InputError:
    """The refusal where the model has no such arguments, or needs others."""
    taken = list(inspect.signature(model.forward).parameters.values())
    needed = [p.name for p in taken if p.default is p.empty and p.kind not in (2, 4)]
    present = ", ".join(f"inputs.{n}" for n in probes.tensors if n) or "inputs, the first argument"
    wanted = ", ".join(f"inputs.{name}" for name in needed) or "no more than the first argument"
    return InputError(
        "the model cannot take the probe inputs",
        found=f"{found}; the probes have {present}",
        expected=f"the arguments of {type(model).__name__}.forward: "
        f"{', '.join(str(p.replace(annotation=p.empty)) for p in taken)}",
        fix=f"freeze the probes with {wanted}; or a model that takes these: {FACTORY}",
    )


def _named(path: str, module: nn.Module) -> str:
    kind = type(module).__name__
    return f"{path} ({kind})" if path else f"the model itself ({kind})"


def _place(error: Exception, model: nn.Module) -> _Place:
    """The innermost module of the model among the calls that the error came through."""
    paths = {id(module): name for name, module in model.named_modules()}
    inputs: set[int] = set()
    place = _Place("", model, True, False)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        values = frame.f_locals
        module = values.get("self")
        if isinstance(module, Replica):
            inputs = {_storage(t) for t in values.get("tensors", {}).values()}
        if not isinstance(module, nn.Module) or id(module) not in paths:
            continue
        if frame.f_code.co_filename != CALLING:  # forward, or another method
            place = place._replace(entered=place.entered or module is place.module)
        elif "args" in values:
            arguments = [*values["args"], *values.get("kwargs", {}).values()]
            takes = any(isinstance(t, Tensor) and _storage(t) in inputs for t in arguments)
            entered = place.entered and module is place.module
            place = _Place(paths[id(module)], module, takes, entered)
    return place


def _last_finished(replica: Replica, probes: Inputs) -> tuple[str, nn.Module] | None:
    """The last module that gave its output before the forward pass failed."""
    last: list[tuple[str, nn.Module]] = []
    hooks = (
        module.register_forward_hook(lambda *_, at=(name, module): last.append(at))
        for name, module in replica.model.named_modules()
    )
    try:
        with replica.hooked(hooks), torch.no_grad():
            replica(probes)
    except Exception:  # the error that is reported, or another of its kind
        return last[-1] if last else None
    return None


def _storage(tensor: Tensor) -> int:
    """Identifies the memory that views of a tensor share with it."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # of functorch, or without memory
        return id(tensor)
