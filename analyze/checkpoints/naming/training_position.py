"""How far training was, as a checkpoint says: steps, epochs and tokens, which are never mixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyze.checkpoints.damage import read_json
from analyze.checkpoints.state import at
from analyze.checkpoints.torch_files.pickled_tensors import PickledTensor
from analyze.checkpoints.torch_objects import is_tensor
from analyze.errors import CheckpointError, printable

STEP_KEYS = (
    "global_step", "global_steps", "step", "iter_num", "iteration", "iter", "num_updates",
    "meta.iter", "train_state.step", "state.timestamp.Timestamp.batch",
)  # fmt: skip
EPOCH_KEYS = (
    "epoch", "meta.epoch", "current_epoch", "extra_state.train_iterator.epoch",
    "state.timestamp.Timestamp.epoch",
)  # fmt: skip
TOKENS_KEYS = ("tokens", "tokens_seen", "num_tokens", "consumed_tokens", "train_state.ntokens_seen")
TRAINER_STATE = "trainer_state.json"
LONGEST = 60  # characters of a metric's name


@dataclass(frozen=True)
class TrainingPosition:
    """How far training was, and by which rules that is known; None for an unknown number."""

    step: float | None = None  # of the optimizer
    step_rule: str = ""  # the rule by which the step was read
    epoch: float | None = None  # as the trainer counts, from 0 or from 1, perhaps with a fraction
    epoch_rule: str = ""  # the rule by which the epoch was read from the name
    epochs_completed: float | None = None  # comparable between trainers
    tokens: float | None = None  # seen in training
    kept_by: str = ""  # the metric by which the trainer chose to keep the checkpoint
    also: tuple[tuple[str, str, float], ...] = ()  # other readings: step or epoch, rule, number
    doubt: str = ""  # why a number in the name is not read as step or epoch
    order: float | None = None  # a time, or the step in an epoch, to order equal positions by


def position_in(
    state: Mapping[str, Any], record: Mapping[str, Any], doubt: str
) -> TrainingPosition:
    """The position by the trainer's ``record``, else by what was saved with the weights.

    A record that cannot be read is a ``doubt``, no damage: the weights are whole, and several
    checkpoints may lie beside it.
    """
    step, epoch = number(record, "global_step"), number(record, "epoch")
    if step is not None:
        best = [record.get(key) for key in ("best_metric", "best_model_checkpoint")]
        kept = "" if None in best else "best_metric of transformers' Trainer"
        tokens = number(record, "num_input_tokens_seen") or None
        return TrainingPosition(step, TRAINER_STATE, epoch, "", epoch, tokens, kept)
    steps, epochs, counts = (
        [(f"content {key}", value) for key in keys if (value := number(state, key)) is not None]
        for keys in (STEP_KEYS, EPOCH_KEYS, TOKENS_KEYS)
    )
    (rule, step), (_, epoch), (_, tokens) = (
        values[0] if values else ("", None) for values in (steps, epochs, counts)
    )
    also = tuple(("step", *reading) for reading in steps[1:])
    completed = _epochs_completed(state)
    return TrainingPosition(step, rule, epoch, "", completed, tokens, _kept_by(state), also, doubt)


def trainer_state(checkpoint: Path) -> tuple[dict[str, Any], str]:
    """Hugging Face's record of the training so far, or nothing and why it cannot be read."""
    path = (checkpoint if checkpoint.is_dir() else checkpoint.parent) / TRAINER_STATE
    if not path.is_file() or path.is_symlink():
        return {}, ""
    try:
        content = read_json(path)
    except CheckpointError:
        return {}, f"the {TRAINER_STATE} beside it cannot be read"
    return (content, "") if isinstance(content, dict) else ({}, "")


def number(state: Mapping[str, Any], path: str) -> float | None:
    """The finite number at a dotted path, also as a tensor of one value; None for anything else."""
    value = at(state, path)
    if isinstance(value, PickledTensor):
        value = value.number()
    elif is_tensor(value):  # of a trusted pickle
        from analyze.checkpoints.odd_tensors import number_in

        value = number_in(value)
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1 << 63
    return float(value) if good else None


# The keys by which a trainer is known, where it counts epochs, and what to add for complete ones.
TRAINERS = (
    ({"pytorch-lightning_version"}, "loops.fit_loop.epoch_progress.current.processed", 0),
    ({"meta", "message_hub"}, "meta.epoch", 0),  # MMEngine
    ({"arch", "version", "epoch"}, "epoch", 1),  # timm
    ({"model", "optimizer", "lr_scheduler", "epoch", "args"}, "epoch", 1),  # torchvision
)


def _epochs_completed(state: Mapping[str, Any]) -> float | None:
    for keys, path, begin in TRAINERS:
        if keys <= state.keys():
            epoch = number(state, path)
            return None if epoch is None else epoch + begin
    return None


def _kept_by(state: Mapping[str, Any]) -> str:
    """The metric of trainers that keep the best checkpoints, not the last; empty for others."""
    if "arch" in state and number(state, "metric") is not None:
        return "metric of timm's saver"
    callbacks = state.get("callbacks")
    for callback in callbacks.values() if isinstance(callbacks, Mapping) else ():
        best, monitor = (at(callback, key) for key in ("best_k_models", "monitor"))
        if isinstance(best, Mapping) and best and isinstance(monitor, str):
            return f"{printable(monitor)[:LONGEST]} of Lightning's ModelCheckpoint"
    return ""
