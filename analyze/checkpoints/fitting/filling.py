"""Load a state dict by torch's own ``load_state_dict``, and judge afterwards what did not fit.

So each module can convert older versions and names, take back its extra state, and give lazy
parameters their shape.
"""

from __future__ import annotations

import contextlib
import copy
import math
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from analyze.checkpoints.versions import Versions, versions_in
from analyze.specs.user_code import with_place

LEARNED = ("running_mean", "running_var")  # buffers that training changes
COUNTER = "num_batches_tracked"  # unused in eval mode
MISSHAPEN = re.compile(r"^size mismatch for (.+): copying a param with shape ")
# Classes whose own loading sets a counter that is not used, and nothing else.
HARMLESS = tuple(kind._load_from_state_dict for kind in (nn.Module, _NormBase, _InstanceNorm))


@dataclass
class IncompatibleKeys:
    """The names of tensors that did not fit, and other messages."""

    missing: list[str] = field(default_factory=list)  # in the model alone
    unknown: list[str] = field(default_factory=list)  # in the checkpoint alone
    misshapen: list[str] = field(default_factory=list)  # in both, with other shapes
    said: list[str] = field(default_factory=list)  # in torch's words or those of the model's code

    @property
    def not_loaded(self) -> list[str]:
        """Tensors of the model that are not as in the checkpoint."""
        return [*self.missing, *self.misshapen]

    @property
    def fits(self) -> bool:
        """Whether all of the checkpoint is in the model, and all of the model from there."""
        return not (self.missing or self.unknown or self.misshapen or self.said)

    def without(self, spared: set[str]) -> IncompatibleKeys:
        """The outcome if these were neither missing nor misshapen."""
        missing = [key for key in self.missing if key not in spared]
        misshapen = [key for key in self.misshapen if key not in spared]
        return IncompatibleKeys(missing, self.unknown, misshapen, self.said)


def filled(model: nn.Module, state: Mapping[str, Any], versions: Versions) -> IncompatibleKeys:
    """Load a state into a model, in place; the model is of no use where not all fits.

    The state has tensors and extra states by the model's names, or by those that it converts.
    """
    before = {key: _mark(tensor) for key, tensor in tensors_of(model).items()}
    missing, unknown, said, finished = _loaded(model, state, versions)
    misshapen = {match[1] for line in said if (match := MISSHAPEN.match(line))}
    said = [line for line in said if not MISSHAPEN.match(line)]
    after = tensors_of(model)
    came = {id(t) for key, t in after.items() if _mark(t) != before.get(key)}
    left = {key for key, tensor in after.items() if id(tensor) not in came}
    lacking = {key for key in missing if key in left or key not in after}
    if finished:
        lacking |= {key for key in left if _silent(key, after[key], state)}
    lacking = {key for key in lacking if not key.endswith(COUNTER)} - misshapen
    if finished and (doubtful := lacking - set(missing)):
        lacking -= _filled_after_all(model, doubtful, state, versions)
    other = {*unknown, *_below_nothing(model, state)}
    return IncompatibleKeys(
        [key for key in dict.fromkeys([*after, *missing]) if key in lacking],
        [key for key in state if key in other],
        [key for key in state if key in misshapen],
        said,
    )


def finish_lazy(model: nn.Module) -> None:
    """Make lazy modules whose parameters were loaded what their first pass would make of them.

    That pass takes its hook off and changes the module's class. A hook that is put back afterwards,
    as those of a measurement are, would then fail.
    """
    for module in list(model.modules()):
        if not isinstance(module, LazyModuleMixin) or not hasattr(module, "_initialize_hook"):
            continue
        if any(is_lazy(t) for t in (*module.parameters(False), *module.buffers(False))):
            continue
        weight = getattr(module, "weight", None)
        like = torch.empty(0) if weight is None else weight  # as wide as its inputs
        with contextlib.suppress(Exception):  # of the user's module; its first pass shows it
            type(module)._infer_parameters(module, module, (like,), {})
            for key, hook in list(module._forward_pre_hooks.items()):
                # Of a copy the handles are those of the original's hooks: they take none off.
                if getattr(hook, "__func__", None) is LazyModuleMixin._infer_parameters:
                    del module._forward_pre_hooks[key]
                    module._forward_pre_hooks_with_kwargs.pop(key, None)


def has_own_loading(model: nn.Module) -> list[str]:
    """The paths of modules whose loading may depend on the version that was saved."""
    return [
        path
        for path, module in model.named_modules()
        if type(module)._load_from_state_dict not in HARMLESS or module._load_state_dict_pre_hooks
    ]


def tried(
    model: nn.Module, state: Mapping[str, Any], versions: Versions
) -> tuple[IncompatibleKeys, nn.Module]:
    """The outcome of ``filled`` in a copy of the model, and the copy."""
    trial = copy.deepcopy(model)
    return filled(trial, state, versions), trial


def own_versions(model: nn.Module) -> Versions:
    """The versions that the model would save."""
    return versions_in(model.state_dict(keep_vars=True))


def _loaded(
    model: nn.Module, state: Mapping[str, Any], versions: Versions
) -> tuple[list[str], list[str], list[str], bool]:
    """Missing names, unknown names, messages, and whether loading went through to the end."""
    content = OrderedDict(state)
    content._metadata = {k: dict(v) for k, v in versions.items()}  # type: ignore[attr-defined]
    missing: list[str] = []
    unknown: list[str] = []
    said: list[str] = []
    ends = 0

    def keep(_: nn.Module, keys: Any) -> None:
        nonlocal ends
        ends += 1
        missing.extend(keys.missing_keys)
        unknown.extend(keys.unexpected_keys)

    hook = model.register_load_state_dict_post_hook(keep)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.load_state_dict(content, strict=False)
    except Exception as error:  # torch's own, or whatever the model's own code raises
        lines = str(error).split("\n\t")
        said = lines[1:] if ends and len(lines) > 1 else [with_place(error)]
    finally:
        hook.remove()
    return missing, unknown, said, ends > 0


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by their names in a state dict."""
    state = model.state_dict(keep_vars=True)
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def _mark(tensor: Tensor) -> tuple[object, ...]:
    """A value that differs once a tensor was written into or replaced."""
    if is_lazy(tensor):
        return ("lazy",)
    strided = tensor.layout == torch.strided
    version = None if tensor.is_inference() else tensor._version
    return id(tensor), tensor.data_ptr() if strided else None, version


def _silent(key: str, tensor: Tensor, state: Mapping[str, Any]) -> bool:
    """Whether a learned tensor differs from the checkpoint's, whatever torch says of it."""
    if not (isinstance(tensor, nn.Parameter) or key.endswith(LEARNED)):
        return False
    saved = state.get(key)
    if is_lazy(tensor) or not isinstance(saved, Tensor):
        return True
    return saved.shape != tensor.shape or not torch.equal(saved.to(tensor.dtype), tensor)


def _filled_after_all(
    model: nn.Module, names: set[str], state: Mapping[str, Any], versions: Versions
) -> set[str]:
    """Tensors in which no NaN stays when all is loaded again: written behind autograd's back."""
    tensors = [(k, t) for k, t in tensors_of(model).items() if k in names and not is_lazy(t)]
    tensors = [(key, tensor) for key, tensor in tensors if tensor.is_floating_point()]
    with torch.no_grad():
        for _, tensor in tensors:
            tensor.fill_(math.nan)
    _loaded(model, state, versions)
    after = tensors_of(model)
    return {key for key, _ in tensors if key in after and not after[key].isnan().any()}


def _below_nothing(model: nn.Module, state: Mapping[str, Any]) -> set[str]:
    """Names below modules that are None, which torch does not look at."""
    nothing = tuple(
        f"{path}.{name}." if path else f"{name}."
        for path, module in model.named_modules()
        for name, child in module._modules.items()
        if child is None
    )
    return {key for key in state if key.startswith(nothing)} if nothing else set()
