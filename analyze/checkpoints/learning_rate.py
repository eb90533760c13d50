"""The learning rate that a checkpoint's optimizer has, as sums over checkpoints weigh them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analyze.checkpoints.naming.training_position import number

OPTIMIZER_KEYS = (
    "optimizer", "optimizer_state_dict", "optimizer_state", "optim", "optim_state_dict", "opt",
    "optimizer_states",
)  # fmt: skip


def learning_rate_in(state: Mapping[str, Any], record: Mapping[str, Any]) -> float | None:
    """The one rate of all groups of parameters; None where it is not known, or there are several.

    Args:
        state: What was saved with the weights: torch's optimizers, or Lightning's list of them.
        record: The trainer's own record. Hugging Face's has the rate of the steps at which it
            logged, and counts where the checkpoint's step is one of them.
    """
    rates = {*_of_optimizers(state)} or {*_logged(record)}
    return rates.pop() if len(rates) == 1 else None


def _of_optimizers(state: Mapping[str, Any]) -> Iterator[float | None]:
    """The rate of every group of parameters; None for one that has none."""
    for key in OPTIMIZER_KEYS:
        saved = state.get(key)
        for optimizer in saved if isinstance(saved, list | tuple) else [saved]:
            groups = optimizer.get("param_groups") if isinstance(optimizer, Mapping) else None
            for group in groups if isinstance(groups, list | tuple) else ():
                yield number(group, "lr") if isinstance(group, Mapping) else None


def _logged(record: Mapping[str, Any]) -> Iterator[float]:
    """The rate that was logged at the checkpoint's own step."""
    step, entries = number(record, "global_step"), record.get("log_history")
    for entry in reversed(entries) if isinstance(entries, list) else ():
        if isinstance(entry, Mapping) and number(entry, "step") == step is not None:
            rate = number(entry, "learning_rate")
            if rate is not None:
                yield rate
