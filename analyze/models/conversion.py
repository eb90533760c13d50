"""Weights of Hugging Face's models by that library's own loading: old names, fused and split ones.

``from_pretrained`` takes a state dict and a config in memory: it opens no file, asks no server, and
runs no code from the checkpoint. It fills missing tensors with random numbers and drops unknown
ones; both are undone here, so that the strict fit sees them.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from analyze.checkpoints.fitting.mismatch import as_built
from analyze.errors import CheckpointError
from analyze.models.huggingface import offline, silence
from analyze.specs.user_code import with_place

# Entries of a config that would put other modules in place of the model's.
REPLACING = ("quantization_config", "fusion_config", "compression_config")
MISSING = "_keys_to_ignore_on_load_missing"


def converted(model: nn.Module, weights: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's tensors by the names and in the shapes of a transformers model.

    Tensors without a place in the model keep their names, unless the library knows that this model
    had them once; parameters without a tensor are left out. The model stays as it is.

    Raises:
        CheckpointError: the library cannot load the weights.
    """
    tensors = {key: value for key, value in weights.items() if isinstance(value, Tensor)}
    loaded, info = _loaded(model, tensors)
    misshapen = {entry[0] for entry in info["mismatched_keys"]}
    state = model.state_dict(keep_vars=True)
    known = [str(pattern) for pattern in getattr(model, MISSING, None) or ()]
    absent = {
        key for key in info["missing_keys"]
        if not (key in state and as_built(key, state[key])
                and any(re.search(pattern, key) for pattern in known))
    }  # fmt: skip
    by_name = {
        key: value for key, value in loaded.state_dict().items()
        if key not in absent and key not in misshapen
    }  # fmt: skip
    left = [key for key in info["unexpected_keys"] if key in tensors]
    by_name |= {key: tensors[key] for key in sorted({*left, *(misshapen & tensors.keys())})}
    return by_name | {key: value for key, value in weights.items() if key not in tensors}


def _loaded(model: nn.Module, tensors: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Any]]:
    config = copy.deepcopy(model.config)
    for name in REPLACING:
        if hasattr(config, name):
            delattr(config, name)
    try:
        with offline(), silence(), torch.random.fork_rng(devices=[]):
            loaded, info = _strict(type(model)).from_pretrained(
                None, config=config, state_dict=dict(tensors), output_loading_info=True,
                ignore_mismatched_sizes=True, torch_dtype=torch.float32,
            )  # fmt: skip
    except Exception as error:  # whatever the library raises
        raise CheckpointError(
            "transformers cannot load the checkpoint",
            found=with_place(error),
            expected=f"weights of {type(model).__name__}, as its config describes them",
            fix="give the config.json that was saved with these weights, or the model: "
            "--model FILE.py:FACTORY",
        ) from error
    return loaded, info


def _strict(kind: type[Any]) -> type[Any]:
    """The same class, but it reports every tensor that it fills itself.

    Names that may be missing are gathered from the modules inside, so a property has to lose them.
    """
    nothing = property(lambda _: set(), lambda *_: None)
    body = {MISSING: nothing, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind,), body)
