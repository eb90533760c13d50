"""The ``config.json`` that Hugging Face saves beside the weights: one for all checkpoints.

A config comes with a checkpoint from anyone. Names of files, of code, of types and of quantisers
are left out before the library sees them; a config whose model would change by that is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.checkpoints.damage import read_json
from analyze.errors import InputError
from analyze.files.present import is_there
from analyze.specs.model import LOADING, ModelSpec, loads_weights

CONFIG = "config.json"
# Entries that may differ between checkpoints of one model.
NO_MATTER = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "use_cache")
LEFT_OUT = re.compile(  # who saved it, from where, by what code, in which precision
    r"_?name_or_path|base_model_name_or_path|auto_map|custom_pipelines|trust_remote_code|"
    r"(torch_)?dtype|quantization_config|compression_config|pretrained_cfg|_commit_hash|"
    r"adapter_.*|peft_.*|"
    r"_?(attn|experts)_implementation(_.*)?|use_kernels|kernel_config"  # code on a server
)
LABELS = ("id2label", "label2id", "label_names")
OPENING = re.compile(
    r"(?i)pretrained.*|.*checkpoint_?(path|file)?|.*_(path|file|dir|url)|path|file"
)
PATH = re.compile(r"\s*(~|\.{1,2}$|[^\s<>]*[/\\])|.*\0", re.DOTALL)
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]*")
TIMM = ("timm_wrapper", "timm_backbone")  # give a name, and arguments, to timm
LARGEST = 1 << 24  # of sizes; Llama 4 counts ten million positions
MOST_LABELS = 200_000  # ImageNet-21k has 21,843; a config names each, and is copied
MOST_LAYERS = 10_000  # lists of them are made before any layer is
DEEPEST = 20
LONGEST_NAME = 200  # characters of an entry's name in which words are sought, once for each number


def config_of(checkpoints: Sequence[Checkpoint], run: Path, spec: str) -> Path:
    """The config beside the checkpoints, or in the run's directory; the same for all.

    Raises:
        InputError: there is none, or they differ.
    """
    folders = [c.path if c.path.is_dir() else c.path.parent for c in checkpoints]
    paths = [folder / CONFIG for folder in dict.fromkeys([*folders, run])]
    existing = [path for path in paths if path.is_file()]
    if not existing:
        raise InputError(
            "the checkpoints have no config to build the model from",
            found=f"no {CONFIG} beside {checkpoints[0].name} or in {run}",
            expected=f"the {CONFIG} that save_pretrained writes, as {spec!r} needs it",
            fix=f"copy {CONFIG} into {run}, or give the model: --model SPEC",
        )
    first = _what_matters(existing[0])
    for path in existing[1:]:
        other = _what_matters(path)
        if other != first:
            differ = [k for k in {**first, **other} if first.get(k) != other.get(k)]
            raise InputError(
                "the checkpoints are of different models",
                found=f"{', '.join(sorted(differ))} differ between {existing[0]} and {path}",
                expected="one model in a run",
                fix="choose those of one model: --checkpoints GLOB",
            )
    return existing[0]


def check_arguments(spec: ModelSpec) -> dict[str, Any]:
    """The arguments of a spec, where paths and addresses are refused: a run card may give them."""
    for key, value in spec.arguments.items():
        if _is_path(value):
            raise _refused(Path("the model spec"), f"{key}={value}")
    return dict(spec.arguments)


def plain(value: Any, path: Path, depth: int = 0, name: str = "") -> Any:
    """A config without entries that name files, code, types or quantisers, at any depth.

    Raises:
        InputError: it builds on a model that is elsewhere, or has a size that no model has.
    """
    if depth > DEEPEST:
        raise _refused(path, "configs within configs, more than twenty deep")
    if isinstance(value, dict):
        _check_backbone(value, path)
        return {
            key: plain(inner, path, depth + 1, key)
            for key, inner in value.items()
            if not _is_left_out(key, inner)
        }
    if isinstance(value, list):
        return [plain(inner, path, depth + 1, name) for inner in value if not _is_path(inner)]
    if type(value) is int and abs(value) > _largest(name):
        raise _refused(path, f"{name[:LONGEST_NAME]} = {value}, larger than that of any model")
    return value


def _largest(name: str) -> float:
    """The largest number that an entry may have."""
    name = name[:LONGEST_NAME]
    if name in ("num_labels", "num_classes"):
        return MOST_LABELS
    if re.search(r"layer|depth|block", name) and not re.search(r"size|dim|eps|range|init", name):
        return MOST_LAYERS
    # Frequencies of positions, seeds and the like are no sizes.
    return float("inf") if re.search(r"theta|base|seed|scale|factor", name) else LARGEST


def _is_left_out(key: str, value: Any) -> bool:
    if key in LABELS:
        return False
    if LEFT_OUT.fullmatch(key) or key in LOADING or _is_path(value):
        return True
    return bool(OPENING.fullmatch(key)) and not isinstance(value, bool | int | float)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and PATH.match(value) is not None


def _check_backbone(content: dict[str, Any], path: Path) -> None:
    """Refuse a backbone that is elsewhere: timm's models go by a plain name and numbers."""
    kind = content.get("model_type")
    names = [content.get("backbone")]
    if kind in TIMM:
        names.append(content.get("architecture"))
    for name in names:
        if name is None:
            continue
        if not isinstance(name, str) or not PLAIN_NAME.fullmatch(name) or is_there(Path(name)):
            raise _refused(path, f"a model that is elsewhere: {name!r}")
    if content.get("use_timm_backbone") is False and content.get("backbone"):
        raise _refused(path, f"a model that is elsewhere: {content['backbone']!r}")
    for key in ("model_args", "backbone_kwargs"):
        arguments = {} if content.get(key) is None else content[key]
        if not isinstance(arguments, dict):
            raise _refused(path, f"{key} = {arguments!r}")
        for name, value in arguments.items():
            good = name in ("global_pool", "act_layer", "norm_layer") or not _has_text(value)
            if loads_weights(name) or not good:
                raise _refused(path, f"{name} = {value!r} in its {key}")


def _has_text(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_text, value))
    return isinstance(value, str | dict)


def _refused(path: Path, found: str) -> InputError:
    return InputError(
        "the config of the model says more than which model it is",
        found=f"{found[:300]} in {path}",
        expected="an architecture of transformers' own and its sizes: a config comes with the "
        "checkpoint, so it opens no files and runs no code",
        fix="give the model: --model FILE.py:FACTORY",
    )


def _what_matters(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(
            "the config of the model is not understood",
            found=f"{path}: {type(content).__name__}",
            expected="a JSON object, as save_pretrained writes it",
            fix="copy it again, or give the model: --model SPEC",
        )
    return {key: value for key, value in content.items() if key not in NO_MATTER}
