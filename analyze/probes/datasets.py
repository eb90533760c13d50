"""The examples of a data set or loader as a training has it in memory; no torch.

What an item's parts are is not guessed: of a pair they are input and target, and of all else the
user says it, in the words of the probe file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analyze.errors import InputError, counted
from analyze.probes import checks
from analyze.probes.drawing import drawn
from analyze.probes.loaders import (
    collate_of,
    has_rows,
    is_loader,
    no_rows,
    random_state_kept,
    rows_of_loader,
)
from analyze.probes.parts import Parts, roles_of, unclear
from analyze.probes.subsets import Column

NOISY = ("clean", "corrupted")  # subsets of a mask, by its values
ASKED_AGAIN = 16  # items that are read twice: one that is flipped half of the time is seen


def read(
    dataset: Any, noisy: Any, count: int | None, seed: int, parts: Parts | None
) -> dict[str, Any]:
    """The arguments of a ``ProbeSet`` of a data set or loader, by ``ProbeSet.from_dataset``."""
    collate = None
    with random_state_kept(dataset):
        if is_loader(dataset):
            rows, collate = rows_of_loader(dataset), collate_of(dataset)
            dataset = dataset.dataset
        else:
            if not has_rows(dataset):
                raise no_rows(dataset)
            rows = np.arange(len(dataset))
        if len(rows) == 0:
            raise no_rows(dataset, "no examples")
        names = _names(noisy, len(dataset))
        if count is not None:
            rows = _draw(rows, names, count, seed)
        values = _read(dataset, rows, collate, parts)
        _refuse_random(dataset, rows, values, collate, parts)
    ids = values.pop("id", None)
    subset = values.pop("subset", None)
    if subset is not None and names is not None:
        raise unclear("a part called subset beside noisy", "one of them: noisy makes the subsets")
    named = {k.partition(".")[2]: v for k, v in values.items() if k.startswith("inputs")}
    columns = {k.partition(".")[2]: Column.of(v) for k, v in values.items() if k[:7] == "column."}
    return {
        "inputs": named.get("", named) if len(named) == 1 else named,
        "targets": values["targets"],
        "subset": _words(subset) if names is None else [names[row] for row in rows],
        "id": _places(dataset)[rows] if ids is None else ids,
        "columns": columns,
        "subset_names": None if names is None else NOISY,
    }


def _names(noisy: Any, count: int) -> list[str] | None:
    """``clean`` or ``corrupted`` for each example, by a mask; None without one."""
    if noisy is None:
        return None
    mask = checks.plain(noisy)
    if mask.dtype.kind != "b" or mask.shape != (count,):
        raise InputError(
            "noisy is no mask of the examples",
            found=f"noisy as {mask.dtype} of shape {list(mask.shape)}",
            expected=f"truth values [{count}], one for each example of the data set, True where "
            "its label was changed",
            fix=f"mask = numpy.zeros({count}, bool); mask[indices] = True; or given != true "
            "where you have both labels",
        )
    return [NOISY[changed] for changed in mask.tolist()]


def _draw(rows: np.ndarray, names: list[str] | None, count: int, seed: int) -> np.ndarray:
    """Sorted rows, ``count`` of each subset."""
    subset = np.array(["probes"] * len(rows) if names is None else [names[row] for row in rows])
    chosen = []
    for name in dict.fromkeys(subset.tolist()):
        members = rows[subset == name]
        if not 0 < count <= len(members):
            raise InputError(
                "there are not so many examples to draw from",
                found=f"count={count}, and {counted(len(members), 'example')} in {name}",
                expected="a positive number of examples of each subset, so that subsets are of "
                "equal size: m-coherence grows with it",
                fix=f"count={len(members)}, or leave count out for all examples",
            )
        chosen.append(drawn(members, name, seed)[:count])
    return np.sort(np.concatenate(chosen))


def _read(dataset: Any, rows: np.ndarray, collate: Any, parts: Parts | None) -> dict[str, Any]:
    """The values of each part, ``[N, ...]``, by its role."""
    items = [dataset[int(row)] for row in rows]
    if collate is not None:  # all at once: what it pads is as long as the longest of them
        batch = collate(items)
        roles = roles_of(batch, parts, "a batch of the loader's collate_fn")
        values = {role: batch[key] for role, key in roles.items()}
        inputs = values.get("inputs")
    else:
        roles = roles_of(items[0], parts, "an item of the data set")
        columns = {role: [item[key] for item in items] for role, key in roles.items()}
        inputs = columns.get("inputs")
        if inputs is not None and isinstance(inputs[0], Mapping):
            inputs = {name: [one[name] for one in inputs] for name in inputs[0]}
            columns.pop("inputs")
            columns |= {f"inputs.{name}": column for name, column in inputs.items()}
        return {role: _stacked(column, rows, role) for role, column in columns.items()}
    if isinstance(inputs, Mapping):
        values.pop("inputs")
        values |= {f"inputs.{name}": value for name, value in inputs.items()}
    return values


def _stacked(values: list[Any], rows: np.ndarray, role: str) -> Any:
    """The values of one part as one array; words stay a list."""
    if isinstance(values[0], str):
        return values
    if hasattr(values[0], "convert") and hasattr(values[0], "mode"):
        raise InputError(
            "the examples are pictures, and a model takes tensors",
            found=f"{role} of type {type(values[0]).__name__}",
            expected="what the model sees at evaluation",
            fix="give the data set its transform for evaluation, with ToTensor()",
        )
    arrays = [checks.plain(value) for value in values]
    shapes = [a.shape for a in arrays]
    other = next((k for k, shape in enumerate(shapes) if shape != shapes[0]), None)
    if other is not None:
        raise InputError(
            "the examples are of different shapes",
            found=f"{role}: {list(shapes[0])} of example {rows[0]}, {list(shapes[other])} of "
            f"example {rows[other]}",
            expected="one shape for all probes",
            fix="pad or crop them in the data set, or give a DataLoader whose collate_fn does",
        )
    return np.stack(arrays)


def _refuse_random(
    dataset: Any, rows: np.ndarray, values: dict[str, Any], collate: Any, parts: Parts | None
) -> None:
    """Refuse data that are others when they are asked again: augmentation, most likely."""
    if collate is not None:
        few, again = np.arange(len(rows)), _read(dataset, rows, collate, parts)
    else:
        few = np.unique(np.linspace(0, len(rows) - 1, ASKED_AGAIN).astype(np.int64))
        again = _read(dataset, rows[few], None, parts)
    for role, value in values.items():
        if isinstance(value, list):
            continue
        first, second = checks.plain(value)[few], checks.plain(again[role])
        if not np.array_equal(first, second, equal_nan=first.dtype.kind in "fc"):
            raise InputError(
                "the data set gives other values when it is asked again",
                found=f"{role} of the same example, read twice",
                expected="fixed examples, as the model sees them at evaluation: no augmentation",
                fix="give the data set its transform for evaluation",
            )


def _places(dataset: Any) -> np.ndarray:
    """Where each example comes from: its position in the data that a Subset was taken from."""
    if type(dataset).__name__ == "Subset" and hasattr(dataset, "indices"):
        return _places(dataset.dataset)[np.asarray(dataset.indices, dtype=np.int64)]
    return np.arange(len(dataset))


def _words(values: Any) -> list[str] | None:
    return None if values is None else checks.names_of(values)
