"""The sufficient statistics of some subsets as plain arrays; what several statistics need is kept.

Letters: ``C`` cells, ``S`` subsets, ``K`` folds, ``m`` examples of a subset; ``T`` and ``Q`` as in
``arrays``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from analyze.statistics import arrays, companions, jackknife, noise_floor, sizes


@dataclass(frozen=True)
class SufficientStatistics:
    """Sums of the cells, and the cells of each subset."""

    gram: np.ndarray  # [..., C, C], dot products of the cells' gradient sums
    squared_norms: np.ndarray  # [..., C], sums of squared norms
    counts: np.ndarray  # [C], examples of each cell
    fold: np.ndarray  # [C], the fold of each cell
    members: np.ndarray  # [S, C], whether a cell belongs to a subset; subsets may overlap
    whole: int | None = None  # the index of the subset `all`
    kurtosis: np.ndarray | float = 0.0  # [..., S], excess kurtosis of the examples' squared norms
    # Error of unbiased alpha by leaving out one example at a time, and its degrees of freedom,
    # [..., S] each; NaN where the examples' alignments are not known.
    delete_one: tuple[np.ndarray, np.ndarray] | None = None

    @cached_property
    def size(self) -> np.ndarray:
        """The number of examples of each subset, ``[S]``."""
        return self.members.astype(float) @ self.counts

    @cached_property
    def common_size(self) -> int:
        """The size of the smallest subset, at which subsets are compared; see ``sizes``."""
        return sizes.smallest(self.size)

    @cached_property
    def dots(self) -> np.ndarray:
        """``[..., S, S]``, dot products of the subsets' gradient sums."""
        return arrays.subset_dots(self.gram, self.members)

    @property
    def total(self) -> np.ndarray:
        """``T = |sum g|^2`` of each subset, ``[..., S]``."""
        return np.diagonal(self.dots, axis1=-2, axis2=-1)

    @cached_property
    def squares(self) -> np.ndarray:
        """``Q = sum |g|^2`` of each subset, ``[..., S]``."""
        return arrays.subset_squares(self.squared_norms, self.members)

    @cached_property
    def m_coherence(self) -> np.ndarray:
        """M-coherence of each subset, ``[..., S]``."""
        return arrays.m_coherence(self.total, self.squares)

    @cached_property
    def alpha_unbiased(self) -> np.ndarray:
        """Unbiased alpha of each subset, ``[..., S]``."""
        return arrays.alpha_unbiased(self.total, self.squares, self.size)

    @cached_property
    def cross_help(self) -> np.ndarray:
        """``companions.cross_help`` of every pair of subsets, ``[..., S, S]``."""
        members = self.members.astype(float)
        common = np.einsum("sc,tc,c->st", members, members, self.counts)
        shared = np.einsum("sc,tc,...c->...st", members, members, self.squared_norms)
        return companions.cross_help(self.dots, shared, self.size, common)

    @cached_property
    def cosine(self) -> np.ndarray:
        """Cosines between the gradient sums of two subsets, ``[..., S, S]``."""
        return arrays.cosine(self.dots)

    @cached_property
    def replicates(self) -> list[SufficientStatistics]:
        """The statistics without each fold, ``K`` of them."""
        folds = np.unique(self.fold)
        return [replace(self, members=self.members & (self.fold != k)) for k in folds]

    @cached_property
    def used(self) -> np.ndarray:
        """Whether a subset has examples in a fold, ``[K, S]``; only such replicates count."""
        occupied = self.members & (self.counts > 0)
        return np.stack([(occupied & (self.fold == k)).any(1) for k in np.unique(self.fold)])

    @property
    def used_pairs(self) -> np.ndarray:
        """Whether a fold has examples of either subset, ``[K, S, S]``."""
        return self.used[:, :, None] | self.used[:, None, :]

    @cached_property
    def alpha_replicates(self) -> np.ndarray:
        """Unbiased alpha without each fold, ``[K, ..., S]``."""
        return np.stack([left.alpha_unbiased for left in self.replicates])

    @cached_property
    def cosine_replicates(self) -> np.ndarray:
        """Cosines without each fold, ``[K, ..., S, S]``."""
        return np.stack([left.cosine for left in self.replicates])

    @cached_property
    def cross_help_replicates(self) -> np.ndarray:
        """Cross help without each fold, ``[K, ..., S, S]``."""
        return np.stack([left.cross_help for left in self.replicates])

    @cached_property
    def alpha_stderr(self) -> np.ndarray:
        """Standard error of unbiased alpha, ``[..., S]``: of single examples where they are known.

        A jackknife of m examples is less noisy than one of K folds, and estimates the same.
        """
        by_folds = jackknife.standard_error(self.alpha_replicates, self.used)
        if self.delete_one is None:
            return by_folds
        return np.where(np.isnan(self.delete_one[0]), by_folds, self.delete_one[0])

    @cached_property
    def fold_degrees(self) -> np.ndarray:
        """Degrees of freedom of an error over folds, ``[..., S]``; NaN without a gradient."""
        folds = self.used.sum(0)
        degrees = jackknife.degrees_of_freedom(folds, self.size, self.kurtosis)
        return np.where(np.isnan(self.m_coherence), np.nan, degrees)

    @cached_property
    def degrees_of_freedom(self) -> np.ndarray:
        """Degrees of freedom of ``alpha_stderr``, ``[..., S]``; NaN without a gradient."""
        if self.delete_one is None:
            return self.fold_degrees
        return np.where(np.isnan(self.delete_one[1]), self.fold_degrees, self.delete_one[1])

    @cached_property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the 95 % interval of m-coherence, ``[..., S]``."""
        error = (self.size - 1.0) * self.alpha_stderr
        return jackknife.root_interval(self.m_coherence, error, self.degrees_of_freedom, self.size)

    def alpha_interval(self, error: np.ndarray, degrees: np.ndarray) -> list[np.ndarray]:
        """Ends of the 95 % interval of unbiased alpha, by the root of m-coherence, ``[..., S]``."""
        scaled = (self.size - 1.0) * error
        ends = jackknife.root_interval(self.m_coherence, scaled, degrees, self.size)
        return [arrays.ratio(end - 1.0, self.size - 1.0) for end in ends]

    @cached_property
    def effective_dimension(self) -> np.ndarray:
        """The number of directions of each subset's gradients, ``[..., S]``."""
        return noise_floor.effective_dimension(
            self.gram, self.squared_norms, self.counts, self.members, self.fold
        )

    @cached_property
    def p_value(self) -> np.ndarray:
        """The p-value of m-coherence by chance, ``[..., S]``."""
        return noise_floor.p_value(self.m_coherence, self.effective_dimension)
