"""How far training was: steps, epochs and tokens, which are never mixed, and who says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from analyze.checkpoints.naming.sidecars import TRAINER_STATE, trainer_state
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

LONGEST = 60  # characters of a name of a metric


@dataclass(frozen=True)
class Progress:
    """What a checkpoint, or the file beside it, says; None for what it does not.

    Args:
        step: Of the optimizer.
        epoch: As the trainer counts, from 0 or from 1.
        epochs_completed: Comparable between trainers; known where the trainer is.
        tokens: Seen in training.
        rule: Where the step was found.
        kept_by: What decided that this checkpoint was kept, where that is a metric.
        also: ``step`` or ``epoch``, the rule and the number, where they are said elsewhere.
        doubt: Why the name gives no step.
        order: A number that orders those of unknown or equal progress.
    """

    step: float | None = None
    epoch: float | None = None
    epochs_completed: float | None = None
    tokens: float | None = None
    rule: str = ""
    kept_by: str = ""
    also: tuple[tuple[str, str, float], ...] = ()
    doubt: str = ""
    order: float | None = None


def progress_in(state: Mapping[str, Any], path: Path) -> Progress:
    """From the file beside the weights, then from what was saved with them.

    Raises:
        CheckpointError: the file beside them is broken.
    """
    beside = trainer_state(path if path.is_dir() else path.parent)
    step, epoch = number(beside, "global_step"), number(beside, "epoch")
    if step is not None:
        kept = "best_metric of transformers' Trainer" if _keeps_best(beside) else ""
        return Progress(step, epoch, epoch, number(beside, "num_input_tokens_seen") or None,
                        TRAINER_STATE, kept)  # fmt: skip
    steps = [(f"content {key}", value) for key, value in _all(state, STEP_KEYS)]
    rule, step = steps[0] if steps else ("", None)
    epoch, tokens = (
        next((value for _, value in _all(state, keys)), None) for keys in (EPOCH_KEYS, TOKENS_KEYS)
    )
    also = tuple(("step", *one) for one in steps[1:])
    return Progress(step, epoch, _epochs_completed(state), tokens, rule, _kept_by(state), also)


def number(state: Mapping[str, Any], path: str) -> float | None:
    """The finite number at a dotted path, also as a tensor of one value; None for anything else."""
    value = at(state, path)
    if isinstance(value, Tensor) and not oddity(value) and value.numel() == 1:
        value = value.item()
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1 << 63
    return float(value) if good else None


def _all(state: Mapping[str, Any], paths: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    for path in paths:
        if (value := number(state, path)) is not None:
            yield path, value


def _lightning(state: Mapping[str, Any]) -> float | None:
    return number(state, "loops.fit_loop.epoch_progress.current.processed")


def _counted_from_zero(state: Mapping[str, Any]) -> float | None:
    epoch = number(state, "epoch")
    return None if epoch is None else epoch + 1


def _mmengine(state: Mapping[str, Any]) -> float | None:
    return number(state, "meta.epoch")


# How to tell a trainer by the keys it saves, and how it counts epochs.
TRAINERS: tuple[tuple[set[str], Callable[[Mapping[str, Any]], float | None]], ...] = (
    ({"pytorch-lightning_version"}, _lightning),
    ({"meta", "message_hub"}, _mmengine),
    ({"arch", "version", "epoch"}, _counted_from_zero),  # timm
    ({"model", "optimizer", "lr_scheduler", "epoch", "args"}, _counted_from_zero),  # torchvision
)


def _epochs_completed(state: Mapping[str, Any]) -> float | None:
    count = next((count for keys, count in TRAINERS if keys <= set(state)), None)
    return None if count is None else count(state)


def _keeps_best(beside: Mapping[str, Any]) -> bool:
    return beside.get("best_metric") is not None and beside.get("best_model_checkpoint") is not None


def _kept_by(state: Mapping[str, Any]) -> str:
    """Trainers that keep the checkpoints that were best, not the last."""
    if "arch" in state and number(state, "metric") is not None:
        return "metric of timm's saver"
    callbacks = state.get("callbacks")
    for kept in callbacks.values() if isinstance(callbacks, Mapping) else ():
        best, monitor = (at(kept, k) for k in ("best_k_models", "monitor"))
        if isinstance(best, Mapping) and best and isinstance(monitor, str):
            return f"{printable(monitor)[:LONGEST]} of Lightning's ModelCheckpoint"
    return ""
