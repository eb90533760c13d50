"""One size for all that stands side by side: m-coherence grows with the number of examples.

Of m examples with ``a = (c - 1)/(m - 1)``, the unbiased alpha, n examples are expected to show

    c(n) = 1 + (n - 1) a,

see ``companions.coherence_at_size``. The map from c is straight and rises, so an interval of c, its
band of chance and its standard error map along, a value lies in the band at every size or at none,
and what is significant does not depend on the size that is shown.

The choice of the size travels with a tree, in the root attribute ``shown_at``: figures, pages and
comparisons all ask ``shown_size`` and take their numbers from ``at_one_size``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from analyze.errors import InputError
from analyze.statistics.companions import coherence_at_size

SMALLEST, OWN, ALPHA = "smallest", "own", "alpha"
CHOICES = (SMALLEST, OWN, ALPHA)
OF_RUNS = (SMALLEST, ALPHA)  # of a comparison: each at its own m compares nothing
SHOWN_AT = "shown_at"
FEWEST = 2  # examples that can agree with each other
VALUES = ("m_coherence", "m_coherence_lower", "m_coherence_upper", "null_lower", "null_upper")
ERROR = "m_coherence_stderr"


@dataclass(frozen=True)
class ShownSize:
    """The size at which subsets, runs or groups are shown that stand side by side.

    Args:
        choice: ``smallest``: the number of examples of the smallest of them. ``own``: each as it
            was measured, which compares nothing. ``alpha``: unbiased alpha. Or a number.
        size: The number of examples; None for ``own`` and ``alpha``.
    """

    choice: str | int
    size: int | None

    @property
    def quantity(self) -> str:
        """What is shown, in words: ``m-coherence of 181 examples``."""
        if self.size is not None:
            return f"m-coherence of {self.size:,} examples"
        return "unbiased alpha" if self.choice == ALPHA else "m-coherence, each at its own m"

    @property
    def orthogonal(self) -> float:
        """The value of orthogonal gradients."""
        return 0.0 if self.choice == ALPHA else 1.0

    @property
    def words(self) -> str:
        """The size for a title: ``at m = 181``."""
        if self.size is not None:
            return f"at m = {self.size:,}"
        return "as unbiased alpha" if self.choice == ALPHA else "each at its own m"

    def note(self, count: int) -> str:
        """A subset's size for the title of its panel: ``at m = 181``, or its own, ``m = 1,000``."""
        return f"m = {count:,}" if self.size is None else f"at m = {self.size:,}"

    def identical(self, count: int) -> float:
        """The value of m equal gradients."""
        return 1.0 if self.choice == ALPHA else float(count if self.size is None else self.size)

    def of(self, dataset: xr.Dataset, counts: xr.DataArray) -> xr.Dataset:
        """A data set with m-coherence, its error, interval and band of chance at this size.

        Args:
            dataset: ``m_coherence`` and, where they are known, ``m_coherence_lower`` and
                ``_upper``, ``null_lower`` and ``_upper``, ``m_coherence_stderr``, all at the sizes
                at which they were measured; other variables are kept as they are.
            counts: These sizes, m, over some of the dimensions of ``m_coherence``.

        Returns:
            The same variables, in the order of their dimensions; m-coherence of a single example,
            which has no alpha, is NaN but for ``own``. The lower end of an interval is 0 at least:
            beyond the size measured the straight line would pass below what can be.
        """
        if self.choice == OWN or (self.size is None and self.choice != ALPHA):
            return dataset
        like = dataset["m_coherence"]
        _, measured = xr.align(like, counts, join="left")
        # Plain arrays: xarray would align the labels of each variable again.
        m = measured.broadcast_like(like).transpose(*like.dims).values
        others = np.where(m >= FEWEST, m, np.nan) - 1.0
        factor = 1.0 if self.size is None else self.size - 1.0
        changed = {}
        for name in [n for n in (*VALUES, ERROR) if n in dataset]:
            given = dataset[name].transpose(*like.dims)
            if name == ERROR:
                value = factor * given.values / others
            else:
                value = self._value(given.values, m, (given.values - 1.0) / others)
                value = value.clip(min=0.0) if name == "m_coherence_lower" and self.size else value
            changed[name] = given.copy(data=value).transpose(*dataset[name].dims)
        return dataset.assign(changed)

    def _value(self, value: np.ndarray, m: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        """A value of m examples at this size, from its unbiased alpha."""
        if self.size is None:
            return alpha
        shown = np.asarray(coherence_at_size(alpha, self.size))
        return np.where(m == self.size, value, shown)  # without rounding


OWN_SIZE = ShownSize(OWN, None)


def smallest(counts: np.ndarray) -> int:
    """The smallest of some numbers of examples, of those that can agree; 0 where none can.

    Sets without an example, or with one, are not compared with anything.
    """
    several = np.asarray(counts)[np.asarray(counts) >= FEWEST]
    return int(several.min()) if len(several) else 0


def shown_size(tree: xr.DataTree) -> ShownSize:
    """The size at which the subsets, and runs, of results or of a comparison are shown.

    The smallest of them unless ``shown_at`` has chosen another.
    """
    choice = tree.attrs.get(SHOWN_AT, SMALLEST)
    if choice in (OWN, ALPHA):
        return ShownSize(choice, None)
    if choice == SMALLEST:
        return ShownSize(choice, smallest(tree.to_dataset()["probe_count"].values) or None)
    return ShownSize(int(choice), int(choice))


def at_one_size(tree: xr.DataTree, group: str = "network") -> xr.Dataset:
    """A group of results or of a comparison at the size shown.

    What is at that size: ``m_coherence``, ``m_coherence_stderr``, the ends of its interval and of
    the band of chance. Everything else is as in the tree.

    Args:
        tree: Results, or a comparison.
        group: ``network`` or ``layers``; of a comparison with configurations also
            ``groups/network`` and ``groups/layers``, which are at ``compared_at`` examples.
    """
    dataset = tree[group].to_dataset()
    of_runs = tree.to_dataset()["probe_count"]
    return shown_size(tree).of(dataset, dataset.get("compared_at", of_runs))


def compared_at(comparison: xr.DataTree) -> int:
    """The number of examples of a comparison's ratios, configurations and key events."""
    return int(comparison["events"].to_dataset()["compared_at"])


def size_choice(choice: str | int, offered: Sequence[str] = CHOICES) -> str | int:
    """A choice of a size: one of the words that are offered, or a number of examples.

    Args:
        choice: What a user asks for, a number also as text.
        offered: ``CHOICES``, or ``OF_RUNS`` for a comparison.

    Raises:
        InputError: none of these, or fewer than two examples.
    """
    if choice in offered:
        return choice
    if str(choice).isdecimal() and int(choice) >= FEWEST:
        return int(choice)
    own = "; runs, each at its own m, do not compare" if OWN not in offered else ""
    raise InputError(
        f"{'runs' if own else 'subsets'} cannot be shown at this size",
        found=f"size {choice}",
        expected=f"{', '.join(offered)}, or a number of examples, {FEWEST} at least, as "
        f"m-coherence tells how examples agree with each other{own}",
        fix="--at-size smallest",
    )


def shown_at(tree: xr.DataTree, choice: str | int) -> xr.DataTree:
    """The tree with the choice of a size for its figures and pages.

    Args:
        tree: Results, or a comparison.
        choice: ``smallest``, ``own``, ``alpha``, or a number of examples, also as text.

    Raises:
        InputError: none of these, or fewer than two examples.
    """
    chosen = tree.copy()
    chosen.attrs = tree.attrs | {SHOWN_AT: size_choice(choice)}
    return chosen
