"""``transformers:auto``: the model that a checkpoint's own ``config.json`` describes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from analyze.checkpoints.damage import read_json
from analyze.errors import InputError
from analyze.models.configs import check_arguments, plain
from analyze.models.sizes import bytes_below, check_size
from analyze.specs.model import ModelSpec
from analyze.specs.user_code import installed

_of_fair_size: set[tuple[object, ...]] = set()  # configs whose models were checked


def build_from_config(spec: ModelSpec) -> nn.Module:
    """The model that a config names, freshly built in float32, offline and without remote code.

    Raises:
        InputError: transformers is not installed, or does not have such a model.
    """
    if spec.name != "auto" or spec.config is None:
        raise InputError(
            "unknown transformers model",
            found=repr(spec.text),
            expected="transformers:auto, and checkpoints with their config.json",
            fix="--model transformers:auto",
        )
    transformers = installed("transformers", f"model {spec.text!r}", "builds")
    # Its auto_map may name Python code beside the checkpoint; nothing here looks at it.
    content = plain(dict(read_json(spec.config)), spec.config)
    plain(content | check_arguments(spec), spec.config)
    kinds = transformers.CONFIG_MAPPING
    kind, names = content.get("model_type"), content.get("architectures")
    if kind not in kinds:
        raise _unknown(spec.config, f"model_type {kind!r}", "a type of transformers' own")
    name = names[0] if isinstance(names, list) and names else None
    factory = getattr(transformers, name, None) if isinstance(name, str) else None
    if not (isinstance(factory, type) and issubclass(factory, transformers.PreTrainedModel)):
        raise _unknown(spec.config, f"architectures {names!r}", "one class of transformers' own")
    with offline():  # the config of a backbone may be fetched already here
        config = kinds[kind].from_dict(content)
        fitting: Any = getattr(factory, "config_class", None) or object
        if not isinstance(config, fitting):
            raise _unknown(spec.config, f"{name} for model_type {kind!r}", "a class of that type")
        config.use_cache = False
        if getattr(config, "use_pretrained_backbone", False):
            config.use_pretrained_backbone = False
        for key, value in spec.arguments.items():
            if not hasattr(config, key):
                raise InputError(
                    "the config has no such entry",
                    found=f"{key} in {spec.text!r}",
                    expected=f"an entry of {spec.config}, or of its model type",
                    fix="--model transformers:auto, or with the entry's name spelled as there",
                )
            setattr(config, key, value)
        known = (spec.text, spec.config, spec.config.stat().st_mtime_ns, str(content))
        if known not in _of_fair_size:
            check_size(
                lambda: factory(copy.deepcopy(config)),
                bytes_below(spec.config.parent),
                "config",
                str(spec.config),
                "copy the config of this checkpoint again, or give the model: --model SPEC",
            )
            _of_fair_size.add(known)
        return factory(config)


@contextmanager
def offline() -> Iterator[None]:
    """Within it, a model that would fetch a backbone fails."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def silence() -> Iterator[None]:
    """Within it, the library shows no report and no progress bar."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _unknown(config: Path, found: str, expected: str) -> InputError:
    return InputError(
        "the config names a model that transformers does not have",
        found=f"{found} in {config}",
        expected=f"{expected}: code beside a checkpoint is not run",
        fix="give the model: --model FILE.py:FACTORY",
    )
