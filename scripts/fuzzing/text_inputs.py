"""Texts beside checkpoints: indices, records of trainers, configs, run cards, manifests."""

from __future__ import annotations

import contextlib
import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

import analyze
from analyze.checkpoints.checkpoint import Checkpoint
from analyze.checkpoints.reading import read_content, read_weights
from analyze.models.building import build_model
from analyze.models.configs import config_of
from analyze.probes import write_probes
from analyze.probes.subsets import Column
from analyze.specs.model import ModelSpec
from scripts.fuzzing.chance import number, spoilt, word
from scripts.fuzzing.kind import Case, Kind, command
from scripts.fuzzing.texts import as_table, changed_json, value

INDEX, TRAINER, CONFIG = "model.safetensors.index.json", "trainer_state.json", "config.json"
CONFIGS = (
    {"model_type": "bert", "architectures": ["BertForSequenceClassification"], "hidden_size": 8,
     "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 30},
    {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 8, "n_layer": 1,
    "n_head": 2,
     "vocab_size": 30, "n_positions": 16},
    {"model_type": "timm_wrapper", "architectures": ["TimmWrapperForImageClassification"],
     "architecture": "resnet10t", "num_classes": 2, "model_args": {}},
    {"model_type": "resnet", "architectures": ["ResNetForImageClassification"], "embedding_size": 8,
     "hidden_sizes": [8, 8], "depths": [1, 1], "num_labels": 3, "id2label": {"0": "a", "1": "b"}},
)  # fmt: skip
KEYS = (
    "auto_map", "_name_or_path", "torch_dtype", "quantization_config", "checkpoint_path",
    "pretrained",
    "backbone", "use_timm_backbone", "use_pretrained_backbone", "backbone_config", "model_args",
    "num_labels",
    "num_hidden_layers", "vocab_size", "_attn_implementation", "rope_scaling", "hidden_act",
    "architecture",
    "text_config", "vision_config", "attribute_map", "id2label", "trust_remote_code",
    "pretrained_cfg",
    "weight_map", "metadata", "global_step", "epoch", "best_metric", "log_history", "from_pt",
    "peft_config",
    "adapter_path", "gguf_file", "state_dict", "device_map", "is_encoder_decoder", "pruned_heads",
)  # fmt: skip
WEIGHTS = {"weight": torch.ones(2, 12), "bias": torch.zeros(2)}
CARD = '[run]\nname = "a"\nmodel = "builtin:small_mlp?in_features=12&width=2&num_classes=3"\n' \
    'probes = "../probes.safetensors"\nloss = "cross_entropy"\n[training]\nlr = 0.1\n'  # fmt: skip
SPECS = (
    "builtin:small_mlp?in_features={}", "builtin:small_mlp?width={}",
    "torchvision:resnet18?num_classes={}",
    "torchvision:{}", "timm:{}", "timm:resnet10t?num_classes={}",
    "timm:resnet10t?checkpoint_path={}",
    "torchvision:resnet18?weights={}", "{}", "{}.py:make", "os:{}", "transformers:auto?{}=1",
    "timm:hf-hub:{}", "torchvision:vgg11?dropout={}", "builtin:linear?{}={}",
    "timm:resnet10t?pretrained={}",
    "torchvision:vit_b_16?image_size={}", "timm:vit_tiny_patch16_224?img_size={}",
    "cross_entropy?{}={}",
    "cross_entropy?label_smoothing={}", "mse?{}=1",
)  # fmt: skip


def _of_shards() -> Case:
    folder = "run/checkpoint-5"
    where = dict.fromkeys(WEIGHTS, "model-00001-of-00001.safetensors")
    record = {"global_step": 5, "epoch": 1.5, "best_metric": None, "log_history": [{"loss": 1.0}]}
    return {
        f"{folder}/{INDEX}": json.dumps(
            {"metadata": {"total_size": 9}, "weight_map": where}
        ).encode(),
        f"{folder}/model-00001-of-00001.safetensors": save(WEIGHTS),
        f"{folder}/{TRAINER}": json.dumps(record).encode(),
    }


def _json_files(draw: Random, corpus: list[Case]) -> Case:
    case = dict(draw.choice(corpus))
    name = draw.choice([name for name in sorted(case) if name.endswith(".json")] or sorted(case))
    return case | {name: changed_json(case[name], draw, KEYS)}


def _read_run(folder: Path) -> str:
    shown = command("scan", "run")
    for path in sorted((folder / "run").iterdir()):
        if path.is_dir():
            shown += str(sorted(read_weights(path)))
    return shown


def _of_configs() -> list[Case]:
    held = save({"w": torch.zeros(1)})
    return [
        {f"run/{CONFIG}": json.dumps(content).encode(), "run/model.safetensors": held}
        for content in CONFIGS
    ]


def _read_config(folder: Path) -> str:
    """The model that a config describes, as a run builds it."""
    path = folder / "run" / "model.safetensors"
    content = read_content(path)
    checkpoint = Checkpoint("model", path, 0, 0, "", content.format, "", "", 1)
    spec = "transformers:auto"
    config = config_of([checkpoint], folder / "run", spec)
    with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
        model = build_model(ModelSpec(spec, "transformers", "auto", {}, config))
    return f"{type(model).__name__} {sum(p.numel() for p in model.parameters())}"


@cache
def honest_probes() -> bytes:
    """A small probe file with a column, made in the working directory."""
    place = Path.cwd() / "probes.safetensors.made"
    inputs = np.linspace(-1, 1, 96, dtype=np.float32).reshape(8, 12)
    column = Column(np.arange(8) % 2, ("x", "y"))
    probes = analyze.ProbeSet(inputs, np.arange(8) % 3, ["a", "b"] * 4, columns={"source": column})
    write_probes(place, probes)
    content = place.read_bytes()
    place.unlink()
    return content


def honest_card() -> Case:
    """A run of one checkpoint with its card, its probes and a manifest."""
    model = build_model(ModelSpec.parse("builtin:small_mlp?in_features=12&width=2&num_classes=3"))
    return {
        "run/run.toml": CARD.encode(), "run/step_1.safetensors": save(model.state_dict()),
        "probes.safetensors": honest_probes(),
        "list.csv": b"checkpoint,step\nstep_1.safetensors,1\n",
    }  # fmt: skip


def _cards(draw: Random, corpus: list[Case]) -> Case:
    """A run card with other words and numbers, or a manifest with other cells."""
    case = dict(draw.choice(corpus))
    if draw.random() < 0.3:
        rows: list[list[Any]] = [["checkpoint", "step", "epoch"], ["step_1.safetensors", 1, 0]]
        return case | {"list.csv": as_table(rows, draw)}
    way = draw.random()
    if way < 0.2:
        return case | {"run/run.toml": spoilt(case["run/run.toml"], draw)}
    entries = {"name": "a", "probes": "../probes.safetensors", "model": CARD.split('"')[3]}
    if way < 0.6:
        spec = draw.choice(SPECS)
        filled = spec.format(*(draw.choice((word(draw), str(number(draw)))) for _ in range(2)))
        entries["loss" if spec.startswith(("cross", "mse")) else "model"] = filled
    else:
        entries[draw.choice((*entries, "loss", word(draw)))] = value(draw)
    named = entries["probes"]
    if isinstance(named, str) and (named.startswith("../..") or Path(named).is_absolute()):
        # A card may name any file, which is opened as probes: see tests/test_hostile_cards.py.
        entries["probes"] = "../missing"
    lines = [f"{_toml(key)} = {_toml(entry)}" for key, entry in entries.items()]
    training = [f"{_toml(word(draw))} = {_toml(value(draw))}" for _ in range(draw.randrange(3))]
    text = "\n".join(["[run]", *lines, "[training]", *training])
    return case | {"run/run.toml": text.encode("utf-8", "replace")}


def _toml(content: Any) -> str:
    """A value in TOML, nearly as in JSON."""
    return "1979-05-27" if content is None else json.dumps(content).replace("\\ud800", "?")


def _read_card(folder: Path) -> str:
    """By ``scan``, by ``scan`` with a manifest, and by ``check``."""
    shown = command("scan", "run", "--manifest", "list.csv")
    plain = command("scan", "run")
    checked = command("check", "run", "--device", "cpu", "--folds", "2")
    return next((text for text in (shown, plain, checked) if text.startswith("Error")), checked)


KINDS = (
    Kind("json", 0.07, lambda: [_of_shards()], _json_files, _read_run),
    Kind("configs", 0.05, _of_configs, _json_files, _read_config),
    Kind("cards", 0.05, lambda: [honest_card()], _cards, _read_card),
)
