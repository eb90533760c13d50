"""The probe set in memory: plain arrays, so that reading one needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analyze.probes import checks, datasets
from analyze.probes.subsets import DEFAULT_SUBSET, HELD_OUT, Column


class ProbeSet:
    """Fixed examples to measure a model on.

    Args:
        inputs: ``[N, ...]``, tensor or array, the model's first positional argument; a dictionary
            of them is passed by keyword. Real and complex numbers are passed in the precision of
            the measurement, integers as int64, truth values as they are; uint8 images with
            ``mean`` and ``std`` are scaled.
        targets: ``[N, ...]``, classes or whatever else the loss compares the output with.
        subset: One name per example, or a mask for each name, ``{"corrupted": mask, "clean":
            ~mask}``; None: all examples form the subset ``probes``.
        id: One integer per example, equal for the same example in other probe sets: it decides
            the fold, so that folds pair across runs. None: the position.
        held_out: Names of the subsets that training did not see; ``all`` leaves them out. None:
            the subset called ``held_out``, if there is one.
        columns: Further labels, by name: one per example, words or numbers.
        mean: One number per channel, subtracted from uint8 images after division by 255.
        std: One number per channel, which the images are divided by after that.
        subset_names: The subsets in order; None: in the order of their first examples.

    Raises:
        InputError: lengths that differ, ids that repeat, a subset called ``all``, inputs that are
            not finite, ``held_out`` without such a subset, ``mean`` and ``std`` that do not fit.
    """

    def __init__(
        self,
        inputs: Any,
        targets: Any,
        subset: Sequence[str] | Mapping[str, Any] | None = None,
        id: Any = None,  # noqa: A002 - the name that the probe file gives it
        *,
        held_out: Sequence[str] | None = None,
        columns: Mapping[str, Column | Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        subset_names: Sequence[str] | None = None,
    ) -> None:
        named = inputs if isinstance(inputs, Mapping) else {"": inputs}
        self.inputs: dict[str, np.ndarray] = {
            k: checks.array(f"inputs.{k}" if k else "inputs", v, checks.REAL + checks.COMPLEX)
            for k, v in named.items()
        }
        self.targets = checks.integers_as_int64(checks.array("targets", targets))
        count = len(self.targets)
        names = [DEFAULT_SUBSET] * count if subset is None else checks.names_of(subset)
        self.id = np.arange(count) if id is None else checks.ids(id)
        self.columns = {
            name: labels if isinstance(labels, Column) else Column.of(labels)
            for name, labels in (columns or {}).items()
        }
        checks.lengths(count, self.inputs, names, self.id, self.columns)
        checks.unique(self.id)
        checks.finite(self.inputs)
        order = list(dict.fromkeys(names) if subset_names is None else subset_names)
        if held_out is None:
            held_out = (HELD_OUT,) if HELD_OUT in order else ()
        checks.subsets(order, held_out)
        self.subset_names = tuple(name for name in order if name in set(names))
        codes = {name: code for code, name in enumerate(self.subset_names)}
        self.subset = np.array([codes[name] for name in names], dtype=np.int64)
        self.held_out = tuple(name for name in self.subset_names if name in set(held_out))
        self.mean, self.std = checks.scaling(mean, std, self.inputs)

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        *,
        noisy: Any = None,
        count: int | None = None,
        seed: int = 0,
        parts: Sequence[str | None] | Mapping[str, str | None] | None = None,
    ) -> ProbeSet:
        """The examples of a data set or loader; an example's id is its position in the data set.

        Of a ``Subset`` it is the position in what that was taken from. Of a loader the examples
        are taken that it gives: in its order where that is the same at every pass, else in the
        order of the data set. Its ``collate_fn``, if it is not torch's, makes one batch of all.

        Args:
            dataset: A data set with ``len()`` whose items are pairs ``(input, target)``, as torch
                has them; or a ``torch.utils.data.DataLoader`` of one.
            noisy: ``[N]`` truth values, True where an example's label was changed: makes the
                subsets ``clean`` and ``corrupted``.
            count: Draw so many examples of each subset, as ``analyze probes build --per-subset``
                does; None: all.
            seed: Of the draw.
            parts: What the parts of an item are, in their order, or by their keys: ``inputs``,
                ``inputs.NAME`` for an input that is passed by keyword, ``targets``, ``id``,
                ``subset``, ``column.NAME``, or None for what is left out. None: pairs.

        Raises:
            InputError: items that are no pairs without ``parts``, other examples or values at each
                pass, an example twice, shapes that differ, fewer examples than ``count``.

        Example:
            ``ProbeSet.from_dataset(train_set, noisy=given != true, count=500)``

        Cost: every chosen item is read once, and 16 of them, or with a ``collate_fn`` all, again.
        """
        return cls(**datasets.read(dataset, noisy, count, seed, parts))

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        counts = np.bincount(self.subset, minlength=len(self.subset_names))
        parts = [f"{name}: {n}" for name, n in zip(self.subset_names, counts, strict=True)]
        shapes = [f"{k or 'inputs'} {list(v.shape[1:])}" for k, v in self.inputs.items()]
        return f"ProbeSet({len(self)} probes; {', '.join(shapes)}; {', '.join(parts)})"

    def take(self, rows: np.ndarray) -> ProbeSet:
        """The probes at ``rows``, in that order."""
        return ProbeSet(
            {k: v[rows] for k, v in self.inputs.items()},
            self.targets[rows],
            [self.subset_names[code] for code in self.subset[rows]],
            self.id[rows],
            held_out=self.held_out,
            columns={k: Column(c.codes[rows], c.names) for k, c in self.columns.items()},
            mean=self.mean,
            std=self.std,
            subset_names=self.subset_names,
        )

    @property
    def training(self) -> np.ndarray:
        """Rows of the probes that are not held out, in file order."""
        held = [self.subset_names.index(name) for name in self.held_out]
        return np.flatnonzero(~np.isin(self.subset, held))
