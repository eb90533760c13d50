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

SQUARED = "(loss per unit of weight)^2"  # the unit of squared gradients


@dataclass(frozen=True)
class Variable:
    """A derived variable, over checkpoint, layer and subset.

    ``of_sums`` gives ``[..., S]``, or ``[..., S, S]`` for a variable ``between`` two subsets;
    ``of_norms`` takes the squared norms of a subset's examples, ``[..., N]`` to ``[...]``.
    """

    name: str
    long_name: str  # its meaning in words, for the file and for figures
    units: str  # `1` for a pure number
    of_sums: Callable[[SufficientStatistics], np.ndarray | None] | None = None
    between: bool = False
    of_norms: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def attributes(self) -> dict[str, str]:
        """The attributes of the variable in a file."""
        return {"long_name": self.long_name, "units": self.units}


# A row without a function is computed by ``derived`` from the whole groups.
_ROWS = (
    Variable("m_coherence", "m-coherence: |sum of gradients|^2 / sum of |gradient|^2", "1",
             lambda s: s.m_coherence),
    Variable("alpha", "m-coherence divided by the number of examples", "1",
             lambda s: arrays.alpha(s.total, s.squares, s.size)),
    Variable("alpha_unbiased", "(m-coherence - 1) / (number of examples - 1)", "1",
             lambda s: s.alpha_unbiased),
    Variable("coherence_at_common_size", "m-coherence that subsets of one size would show", "1",
             lambda s: companions.coherence_at_size(s.alpha_unbiased, s.common_size)),
    Variable("norm_of_mean_gradient", "norm of the mean gradient", "loss per unit of weight",
             lambda s: arrays.ratio(np.sqrt(np.maximum(s.total, 0.0)), s.size)),
    Variable("mean_squared_gradient_norm", "mean squared norm of per-example gradients", SQUARED,
             lambda s: arrays.ratio(s.squares, s.size)),
    Variable("effective_dimension", "directions that the gradients' covariance spreads over", "1",
             lambda s: s.effective_dimension),
    Variable("null_lower", "lower end of the 95 % band of m-coherence by chance", "1",
             lambda s: noise_floor.null_band(s.effective_dimension)[0]),
    Variable("null_upper", "upper end of the 95 % band of m-coherence by chance", "1",
             lambda s: noise_floor.null_band(s.effective_dimension)[1]),
    Variable("p_value", "chance of so high an m-coherence where the mean gradient is zero", "1",
             lambda s: s.p_value),
    Variable("p_value_adjusted", "p-value adjusted for the false discovery rate within a subset",
             "1", lambda s: noise_floor.adjusted_within(s.p_value)),
    Variable("z_score", "normal equivalent of the p-value", "1",
             lambda s: noise_floor.z_score(s.p_value)),
    Variable("noise_scale", "simple noise scale", "examples",
             lambda s: companions.noise_scale(s.m_coherence, s.size)),
    Variable("gradient_diversity", "gradient diversity: 1 / m-coherence", "1",
             lambda s: companions.gradient_diversity(s.m_coherence)),
    Variable("loss_drop_share", "share of the first-order loss drop of all training probes", "1",
             lambda s: None if s.whole is None else companions.loss_drop_share(s.dots, s.whole)),
    Variable("m_coherence_ceiling", "m-coherence if all gradients were parallel", "1",
             of_norms=companions.ceiling),
    Variable("effective_sample_size", "examples that determine the value (Kish)", "examples",
             of_norms=companions.effective_sample_size),
    Variable("share_without_gradient", "share of the examples without gradient", "1",
             of_norms=companions.share_without_gradient),
    Variable("m_coherence_stderr", "standard error of m-coherence, by the jackknife", "1",
             lambda s: (s.size - 1.0) * s.alpha_stderr),
    Variable("m_coherence_lower", "lower end of the 95 % interval of m-coherence, by its root", "1",
             lambda s: s.interval[0]),
    Variable("m_coherence_upper", "upper end of the 95 % interval of m-coherence, by its root", "1",
             lambda s: s.interval[1]),
    Variable("degrees_of_freedom", "degrees of freedom of the standard errors", "1",
             lambda s: s.degrees_of_freedom),
    Variable("alpha_unbiased_stderr", "standard error of unbiased alpha, by the jackknife", "1",
             lambda s: s.alpha_stderr),
    Variable("coherence_at_common_size_stderr",
             "standard error of m-coherence at the common size, by the jackknife", "1",
             lambda s: (s.common_size - 1.0) * s.alpha_stderr),
    Variable("energy_share", "share of the layer in the sum of squared gradient norms", "1"),
    Variable("gradient_dot", "dot product of the mean gradients of two subsets", SQUARED,
             lambda s: arrays.ratio(s.dots, s.size[:, None] * s.size[None, :]), between=True),
    Variable("gradient_cosine", "cosine between the mean gradients of two subsets", "1",
             lambda s: s.cosine, between=True),
    Variable("cross_help", "first-order drop of the other subset's mean loss per step along the "
             "subset's gradient", "loss per unit of learning rate",
             lambda s: s.cross_help, between=True),
    Variable("gradient_cosine_stderr", "standard error of the cosine, jackknife over folds", "1",
             lambda s: jackknife.standard_error(s.cosine_replicates, s.used_pairs), between=True),
)  # fmt: skip
VARIABLES = {row.name: row for row in _ROWS}
AT_COMMON_SIZE = {"coherence_at_common_size", "coherence_at_common_size_stderr"}
OF_EXAMPLES = {row.name for row in _ROWS if row.of_norms is not None}
OF_LAYERS = {"energy_share"}
# Where alignments are known, by leaving out single examples instead of folds.
BY_JACKKNIFE = {
    "m_coherence_stderr", "m_coherence_lower", "m_coherence_upper", "degrees_of_freedom",
    "alpha_unbiased_stderr", "coherence_at_common_size_stderr",
}  # fmt: skip
