"""The one table of derived variables: name, meaning, unit and the function that computes each.

A new statistic is a function on plain arrays and a row here: the results file, its check and the
completion of older files read this table. ``docs/statistics.md`` explains every row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analyze.statistics import arrays, companions, jackknife, noise_floor
from analyze.statistics.sufficient import SufficientStatistics

_SQUARED = "(loss per unit of weight)^2"


@dataclass(frozen=True)
class Variable:
    """A derived variable.

    Args:
        long_name: What it is, in words.
        units: Its unit; ``1`` for a pure number.
        of_sums: From the sums of the cells to ``[..., S]``; None where they do not have it.
        between: Whether it is of two subsets, ``[..., S, S]``.
        of_norms: From the squared norms of a subset's examples, ``[..., N]`` to ``[...]``, for
            what does not add up over parameters. Neither for a share of the network, of layers
            only, which ``derived`` computes.
        at_common_size: Whether the number of examples it holds for is an attribute, ``size``.
    """

    long_name: str
    units: str = "1"
    of_sums: Callable[[SufficientStatistics], np.ndarray | None] | None = None
    between: bool = False
    of_norms: Callable[[np.ndarray], np.ndarray] | None = None
    at_common_size: bool = False

    @property
    def attributes(self) -> dict[str, str]:
        """What a file says of it."""
        return {"long_name": self.long_name, "units": self.units}


VARIABLES = {
    "m_coherence": Variable(
        "m-coherence: |sum of gradients|^2 / sum of |gradient|^2", "1", lambda s: s.m_coherence
    ),
    "alpha": Variable(
        "m-coherence divided by the number of examples", "1",
        lambda s: arrays.alpha(s.total, s.squares, s.size),
    ),
    "alpha_unbiased": Variable(
        "(m-coherence - 1) / (number of examples - 1)", "1", lambda s: s.alpha_unbiased
    ),
    "coherence_at_common_size": Variable(
        "m-coherence that subsets of one size would show", "1",
        lambda s: companions.coherence_at_size(s.alpha_unbiased, s.common_size),
        at_common_size=True,
    ),
    "norm_of_mean_gradient": Variable(
        "norm of the mean gradient", "loss per unit of weight",
        lambda s: arrays.ratio(np.sqrt(np.maximum(s.total, 0.0)), s.size),
    ),
    "mean_squared_gradient_norm": Variable(
        "mean squared norm of per-example gradients", _SQUARED,
        lambda s: arrays.ratio(s.squares, s.size),
    ),
    "effective_dimension": Variable(
        "directions that the gradients' covariance spreads over", "1",
        lambda s: s.effective_dimension,
    ),
    "null_lower": Variable(
        "lower end of the 95 % band of m-coherence by chance", "1",
        lambda s: noise_floor.null_band(s.effective_dimension)[0],
    ),
    "null_upper": Variable(
        "upper end of the 95 % band of m-coherence by chance", "1",
        lambda s: noise_floor.null_band(s.effective_dimension)[1],
    ),
    "p_value": Variable(
        "chance of so high an m-coherence where the mean gradient is zero", "1",
        lambda s: s.p_value,
    ),
    "p_value_adjusted": Variable(
        "p-value adjusted for the false discovery rate within a subset", "1",
        lambda s: np.stack([noise_floor.adjusted(p) for p in np.moveaxis(s.p_value, -1, 0)], -1),
    ),
    "z_score": Variable(
        "normal equivalent of the p-value", "1", lambda s: noise_floor.z_score(s.p_value)
    ),
    "noise_scale": Variable(
        "simple noise scale", "examples", lambda s: companions.noise_scale(s.m_coherence, s.size)
    ),
    "gradient_diversity": Variable(
        "gradient diversity: 1 / m-coherence", "1",
        lambda s: companions.gradient_diversity(s.m_coherence),
    ),
    "loss_drop_share": Variable(
        "share of the first-order loss drop of all training probes", "1",
        lambda s: None if s.whole is None else companions.loss_drop_share(s.dots, s.whole),
    ),
    "m_coherence_ceiling": Variable(
        "m-coherence if all gradients were parallel", of_norms=companions.ceiling
    ),
    "effective_sample_size": Variable(
        "examples that determine the value (Kish)", "examples",
        of_norms=companions.effective_sample_size,
    ),
    "share_without_gradient": Variable(
        "share of the examples without gradient", of_norms=companions.share_without_gradient
    ),
    "m_coherence_stderr": Variable(
        "standard error of m-coherence, jackknife over folds", "1",
        lambda s: (s.size - 1.0) * s.alpha_stderr,
    ),
    "m_coherence_lower": Variable(
        "lower end of the 95 % interval of m-coherence", "1", lambda s: s.interval[0]
    ),
    "m_coherence_upper": Variable(
        "upper end of the 95 % interval of m-coherence", "1", lambda s: s.interval[1]
    ),
    "degrees_of_freedom": Variable(
        "degrees of freedom of the standard errors", "1", lambda s: s.degrees_of_freedom
    ),
    "alpha_unbiased_stderr": Variable(
        "standard error of unbiased alpha, jackknife over folds", "1", lambda s: s.alpha_stderr
    ),
    "coherence_at_common_size_stderr": Variable(
        "standard error of m-coherence at the common size, jackknife over folds", "1",
        lambda s: (s.common_size - 1.0) * s.alpha_stderr, at_common_size=True,
    ),
    "energy_share": Variable("share of the layer in the sum of squared gradient norms"),
    "gradient_dot": Variable(
        "dot product of the mean gradients of two subsets", _SQUARED,
        lambda s: arrays.ratio(s.dots, s.size[:, None] * s.size[None, :]), between=True,
    ),
    "gradient_cosine": Variable(
        "cosine between the mean gradients of two subsets", "1",
        lambda s: arrays.cosine(s.dots), between=True,
    ),
    "cross_help": Variable(
        "first-order drop of the other subset's mean loss per step along the subset's gradient",
        "loss per unit of learning rate",
        lambda s: companions.cross_help(s.dots, s.common_squares, s.size, s.common_count),
        between=True,
    ),
    "gradient_cosine_stderr": Variable(
        "standard error of the cosine, jackknife over folds", "1",
        lambda s: jackknife.standard_error(s.replicates.cosine(), s.replicates.used_pairs),
        between=True,
    ),
}  # fmt: skip
OF_EXAMPLES = {name for name, v in VARIABLES.items() if v.of_norms is not None}
OF_LAYERS = {"energy_share"}
