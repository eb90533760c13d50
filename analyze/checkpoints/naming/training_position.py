"""How far training was, as a checkpoint says: steps, epochs and tokens, which are never mixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from analyze.checkpoints.json_files import read_json
from analyze.checkpoints.plain import oddity
from analyze.checkpoints.state import at
from analyze.errors import printable

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
LONGEST = 60  # characters of a name of a metric


@dataclass(frozen=True)
class TrainingPosition:
    """How far training was, and who says so; None for what is not known.

    Args:
        step: Of the optimizer.
        step_rule: How it was found.
        epoch: As the trainer counts, from 0 or from 1, perhaps with a fraction.
        epoch_rule: How it was found, where that is by the name.
        epochs_completed: Comparable between trainers; known where the trainer is.
        tokens: Seen in training.
        kept_by: What decided that this checkpoint was kept, where that is a metric.
        also: ``step`` or ``epoch``, the rule and the number, where they are said elsewhere.
        doubt: Why there is no step, or no epoch, where the name has a number for it.
        order: What orders those of unknown or equal position: a time, or the step in an epoch.
    """

    step: float | None = None
    step_rule: str = ""
    epoch: float | None = None
    epoch_rule: str = ""
    epochs_completed: float | None = None
    tokens: float | None = None
    kept_by: str = ""
    also: tuple[tuple[str, str, float], ...] = ()
    doubt: str = ""
    order: float | None = None


def position_in(state: Mapping[str, Any], path: Path) -> TrainingPosition:
    """From the file beside the weights, then from what was saved with them.

    Raises:
        CheckpointError: the file beside them is broken.
    """
    record = _trainer_state(path if path.is_dir() else path.parent)
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
    also = tuple(("step", *other) for other in steps[1:])
    completed = _epochs_completed(state)
    return TrainingPosition(step, rule, epoch, "", completed, tokens, _kept_by(state), also)


def _trainer_state(folder: Path) -> dict[str, Any]:
    """Hugging Face's record of the training so far; empty where there is none."""
    path = folder / TRAINER_STATE
    content = read_json(path) if path.is_file() and not path.is_symlink() else None
    return content if isinstance(content, dict) else {}


def number(state: Mapping[str, Any], path: str) -> float | None:
    """The finite number at a dotted path, also as a tensor of one value; None for anything else."""
    value = at(state, path)
    if isinstance(value, Tensor) and not oddity(value) and value.numel() == 1:
        value = value.item()
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1 << 63
    return float(value) if good else None


# The keys that tell a trainer, where it counts epochs, and what to add for the complete ones.
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
    """Trainers that keep the checkpoints that were best, not the last."""
    if "arch" in state and number(state, "metric") is not None:
        return "metric of timm's saver"
    callbacks = state.get("callbacks")
    for callback in callbacks.values() if isinstance(callbacks, Mapping) else ():
        best, monitor = (at(callback, key) for key in ("best_k_models", "monitor"))
        if isinstance(best, Mapping) and best and isinstance(monitor, str):
            return f"{printable(monitor)[:LONGEST]} of Lightning's ModelCheckpoint"
    return ""
