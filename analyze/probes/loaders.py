"""Which examples a loader of torch gives, and in which order; torch is not imported."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from analyze.errors import InputError

SHUFFLING = ("RandomSampler", "SubsetRandomSampler")  # whose order may be the same by chance


def is_loader(value: Any) -> bool:
    """Whether it is a ``torch.utils.data.DataLoader``."""
    data = sys.modules.get("torch.utils.data")
    return data is not None and isinstance(value, data.DataLoader)


def has_rows(value: Any) -> bool:
    """Whether it is a map-style data set; arrays, dictionaries and words are none."""
    kind = type(value)
    rows = hasattr(kind, "__len__") and hasattr(kind, "__getitem__")
    single = isinstance(value, Mapping | str | bytes | tuple) or hasattr(value, "dtype")
    return rows and not single


def no_rows(dataset: Any, found: str | None = None) -> InputError:
    """The error for data whose examples have no positions."""
    return InputError(
        "the data set has no examples that can be read by their positions",
        found=found or f"a {type(dataset).__name__}",
        expected="a data set with len() whose items are pairs (input, target): probes are fixed "
        "examples",
        fix="analyze.ProbeSet.from_dataset(list(dataset)), or with a list of some of its items",
    )


@contextmanager
def random_state_kept(dataset: Any) -> Iterator[None]:
    """Leave the random numbers of a training as they were, whatever samplers and data draw."""
    torch = sys.modules.get("torch")
    sampler = getattr(dataset, "sampler", None)
    owners = [dataset, sampler, getattr(dataset, "batch_sampler", None)]
    generators = {id(g): g for owner in owners if (g := getattr(owner, "generator", None))}
    before = random.getstate(), np.random.get_state()
    of_torch = [(g, g.get_state()) for g in generators.values() if hasattr(g, "get_state")]
    default = None if torch is None else torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        for generator, state in of_torch:
            generator.set_state(state)
        if torch is not None:
            torch.set_rng_state(default)


def rows_of_loader(loader: Any) -> np.ndarray:
    """The rows that a loader gives, in their order where that is fixed, else sorted.

    Raises:
        InputError: other rows each time, or one of them twice; or the data have no rows.
    """
    if not has_rows(loader.dataset):
        raise no_rows(loader.dataset)
    if loader.batch_sampler is None:
        raise no_rows(
            loader.dataset, "a DataLoader with batch_size=None, whose items may be batches"
        )
    first, second = (
        [int(row) for batch in loader.batch_sampler for row in batch] for _ in range(2)
    )
    if sorted(first) != sorted(second) or _draws(loader.sampler):
        raise InputError(
            "the loader gives other examples each time",
            found=f"a DataLoader with {type(loader.sampler).__name__}, of "
            f"{len(loader.dataset)} examples, drop_last={loader.drop_last}",
            expected="the same examples at every pass, in whatever order: probes are fixed",
            fix="analyze.ProbeSet.from_dataset(loader.dataset, count=500, seed=0)",
        )
    row, times = Counter(first).most_common(1)[0] if first else (0, 1)
    if times > 1:
        raise InputError(
            "the loader gives an example more than once",
            found=f"example {row} {times} times",
            expected="each example once: equal gradients raise m-coherence",
            fix="analyze.ProbeSet.from_dataset(loader.dataset)",
        )
    shuffled = first != second or type(loader.sampler).__name__ in SHUFFLING
    return np.array(sorted(first) if shuffled else first, dtype=np.int64)


def _draws(sampler: Any) -> bool:
    """Whether torch's own sampler draws some of the examples, which may be the same by chance."""
    kind = type(sampler).__name__
    size = len(getattr(sampler, "data_source", ()))
    some = kind == "RandomSampler" and (sampler.replacement or sampler.num_samples != size)
    return some or kind == "WeightedRandomSampler"


def collate_of(loader: Any) -> Any:
    """The loader's own way to make a batch of items; None for torch's."""
    default = sys.modules["torch.utils.data"].default_collate
    return None if loader.collate_fn is default else loader.collate_fn
