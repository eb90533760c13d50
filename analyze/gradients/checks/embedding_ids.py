"""Whether every probe's token ids are rows of the embeddings that they index."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from analyze.errors import InputError
from analyze.gradients.data.loader import ProbeLoader
from analyze.gradients.losses.loss import first_of
from analyze.gradients.model.replica import Replica

Table = nn.Embedding | nn.EmbeddingBag


def refuse_ids_out_of_range(replica: Replica, loader: ProbeLoader, rows: np.ndarray) -> None:
    """Refuse probes with an id for which the embedding that indexes them has no row.

    The ids of all probes are compared before any of them is computed with: on a GPU a wrong id ends
    every later computation, and a few probes need not have it. The model is called with ``rows`` of
    them, up to the first embedding that is given something else than the probes' inputs.

    Raises:
        InputError: with the largest id, and the embedding.

    Cost: a forward pass of ``rows`` where the model has an embedding.
    """
    tables = {n: m for n, m in replica.model.named_modules() if isinstance(m, Table)}
    if not tables:
        return
    taken = loader.take(rows).inputs

    def check(path: str, table: Table, _: nn.Module, args: tuple[Any, ...]) -> None:
        ids = args[0] if args else None
        if not isinstance(ids, Tensor):
            return
        # By value, as models get copies. Of two equal inputs it is not known which it is.
        equal = [name for name, stored in taken.tensors.items() if _same(ids, stored)]
        if len(equal) == 1:
            _check(loader, equal[0], path, table)

    hooks = (m.register_forward_pre_hook(partial(check, path, m)) for path, m in tables.items())
    try:
        with replica.hooked(hooks), torch.no_grad():
            replica(taken)
    except InputError:
        raise
    except Exception:  # the next call of the model reports it
        return


def _same(ids: Tensor, stored: Tensor) -> bool:
    """Whether an embedding is given the probes' inputs as they are: all of them, unchanged."""
    return (
        ids.dtype == stored.dtype
        and ids.numel() == stored.numel()
        and torch.equal(ids.flatten().cpu(), stored.flatten())
    )


def _check(loader: ProbeLoader, name: str, path: str, table: Table) -> None:
    """Refuse ids of any probe that the embedding has no row for."""
    ids, rows = loader.inputs.tensors[name], table.weight.shape[0]
    if ids.is_floating_point():
        return
    wrong = (ids < 0) | (ids >= rows)
    if wrong.any():
        largest = ids[wrong].max() if bool((ids >= rows).any()) else ids.min()
        raise InputError(
            "a token id is out of range",
            found=f"id {int(largest)} in {f'inputs.{name}' if name else 'the inputs'} (the first "
            f"such probe is {first_of(wrong)}, counted from 0; {int(wrong.sum())} such ids in all)",
            expected=f"ids 0 to {rows - 1}: {path or 'the model'} ({type(table).__name__}) has "
            f"{rows} rows",
            fix="freeze the probes with the tokenizer that this model was trained with",
        )
