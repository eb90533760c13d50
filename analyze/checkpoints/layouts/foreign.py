"""Files and directories that are no checkpoints, or of a foreign kind, by their names."""

from __future__ import annotations

import re

from analyze.checkpoints.layouts.sharded import SHARD
from analyze.checkpoints.layouts.table import ENDINGS

BY_NAME = (
    (r"^tmp|\.(part|tmp|incomplete|partial)$", "temporary, or still being written, by its name"),
    (r"^(optimizer|optim)|optim_states?\.pt$", "state of an optimizer, by its name"),
    (r"^(scheduler|scaler)", "state of a schedule or a scaler, by its name"),
    (r"^(rng_state|random_states)", "state of random generators, by its name"),
    (r"^training_args", "arguments of the trainer, by its name"),
    (r"^recovery-\d+-\d+", "timm's recovery file: weights in the middle of an epoch"),
    (r"^adapter_model", "a LoRA adapter, not the weights of a model: merge it and save the model"),
    (r"^layer_\d+-model_", "one layer of a DeepSpeed pipeline: convert it to one state_dict"),
    (r"^zero_pp_rank", "one part of a DeepSpeed ZeRO checkpoint: run its zero_to_fp32.py"),
    (r"^mp_rank_(?!00)", "one part of a model-parallel DeepSpeed checkpoint: merge the parts"),
    (r"^(latest|last_checkpoint)$|\.symlink$", "says which checkpoint is the last one"),
    (r"rank[1-9]\d*\.(pt|pth|ckpt)$", "the file of another rank; rank 0 is read"),
    (SHARD.pattern, "a part of a checkpoint whose index is not there"),
)  # fmt: skip
PATTERNS = tuple((re.compile(pattern, re.IGNORECASE), why) for pattern, why in BY_NAME)
BY_ENDING = "no checkpoint by its ending"
ORBAX = {"_CHECKPOINT_METADATA", "manifest.ocdbt", "orbax.checkpoint", "_METADATA"}


def why_no_weights(name: str) -> str:
    """Why a file of this name is no checkpoint; empty where it may be one."""
    for pattern, why in PATTERNS:
        if pattern.search(name):
            return why
    return "" if name.endswith(ENDINGS) else BY_ENDING


def why_no_folder(name: str, files: list[str], folders: list[str]) -> str:
    """Why a directory is not looked into; empty where it is."""
    if ORBAX & {*files, *folders}:
        return "an Orbax checkpoint of JAX, which is not read: convert it to safetensors"
    if re.match(r"^tmp[-_]", name) or re.search(r"\.(part|tmp|incomplete)$", name):
        return "temporary, or still being written, by its name"
    return ""
