"""Gradients with known truth, drawn as sums over folds: many draws at once, float64.

For normal gradients the sums are drawn directly, which is exact: a fold's sum is normal, and the
scatter around its mean is independent of it and chi-squared (Cochran).
"""

from __future__ import annotations

import numpy as np

COUNT = 1000  # examples


def mean_for(alpha: float, trace: float, share: float = 1.0) -> float:
    """Norm of the mean direction that gives a population alpha.

    ``share`` is ``(E s)^2 / E s^2`` for gradients ``s * (mean + noise)`` with random norms ``s``.
    """
    base = alpha / share
    return np.sqrt(trace * base / (1.0 - base))


def normal_folds(generator, draws, folds, spectrum, alpha=0.0):
    """Gram matrices ``[draws, K, K]`` and squared norms ``[draws, K]`` of normal gradients.

    ``spectrum`` has the eigenvalues of their covariance; the mean lies along the last.
    """
    n, spectrum = COUNT // folds, np.asarray(spectrum, dtype=float)
    sums = np.sqrt(n * spectrum) * generator.standard_normal((draws, folds, len(spectrum)))
    sums[..., -1] += n * mean_for(alpha, spectrum.sum())
    # One chi-squared variable for each distinct eigenvalue.
    values, multiplicity = np.unique(spectrum, return_counts=True)
    shape = (draws, folds, len(values))
    scatter = generator.chisquare((n - 1) * multiplicity, shape) @ values
    return sums @ sums.swapaxes(1, 2), np.square(sums).sum(2) / n + scatter


def correlated_folds(generator, draws, folds, dimension, alphas, correlation):
    """The same for two checkpoints on the same examples, noise correlated between them."""
    n, other = COUNT // folds, np.sqrt(1.0 - correlation**2)
    first, fresh = generator.standard_normal((2, draws, folds, dimension))
    sums = np.sqrt(n) * np.stack([first, correlation * first + other * fresh])
    sums[..., -1] += n * np.array([mean_for(a, dimension) for a in alphas])[:, None, None]
    freedom = (n - 1) * dimension
    a = generator.chisquare(freedom, (draws, folds))  # Bartlett: a Wishart matrix
    b = generator.standard_normal((draws, folds))
    c = generator.chisquare(freedom - 1, (draws, folds))
    scatter = np.stack([a, (correlation * np.sqrt(a) + other * b) ** 2 + other**2 * c])
    return sums @ sums.swapaxes(2, 3), np.square(sums).sum(3) / n + scatter


class HeavyFolds:
    """Gradients ``s * (mean + noise)`` with log-normal ``s``: few of them decide.

    Everything about the noise is drawn once; ``at`` adds any mean to it.
    """

    def __init__(self, generator, draws, folds, dimension, sigma, chunk=100):
        self.dimension, self.share = dimension, np.exp(-(sigma**2))
        parts = [self._drawn(generator, chunk, folds, sigma) for _ in range(draws // chunk)]
        self.noise, self.scale, self.along, self.squares = (
            np.concatenate(field) for field in zip(*parts, strict=True)
        )

    def _drawn(self, generator, draws, folds, sigma):
        shape = (draws, folds, COUNT // folds)
        noise = generator.standard_normal((*shape, self.dimension))
        scale = np.exp(sigma * generator.standard_normal(shape))
        sums = (scale[:, :, None, :] @ noise)[:, :, 0]
        return sums, scale, noise[..., -1].copy(), np.einsum("...d,...d->...", noise, noise)

    def at(self, alpha, folds):
        """Gram matrices, squared norms, and every example's squared norm ``[draws, m]``."""
        mean = mean_for(alpha, self.dimension, self.share)
        sums = self.noise.copy()
        sums[..., -1] += mean * self.scale.sum(2)
        norms = np.square(self.scale) * (mean**2 + 2 * mean * self.along + self.squares)
        draws = len(sums)
        sums = sums.reshape(draws, folds, -1, self.dimension).sum(2)
        examples = norms.reshape(draws, -1)
        return sums @ sums.swapaxes(1, 2), examples.reshape(draws, folds, -1).sum(2), examples


def single_examples(generator, draws, count, dimension, alpha, sigma):
    """Alignments with the sum of all and squared norms, ``[draws, count]`` each.

    Gradients are ``s * (mean + noise)`` with log-normal ``s`` of the spread ``sigma``.
    """
    gradients = generator.standard_normal((draws, count, dimension))
    gradients[..., -1] += mean_for(alpha, dimension, np.exp(-(sigma**2)))
    gradients *= np.exp(sigma * generator.standard_normal((draws, count, 1)))
    sums = gradients.sum(1)
    return np.einsum("rnd,rd->rn", gradients, sums), np.square(gradients).sum(2)
