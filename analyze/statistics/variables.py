"""What each derived variable of the results is, in words and units."""

from __future__ import annotations

import xarray as xr

_SQUARED = "(loss per unit of weight)^2"

# Name: (long_name, units).
ATTRIBUTES: dict[str, tuple[str, str]] = {
    "m_coherence": ("m-coherence: |sum of gradients|^2 / sum of |gradient|^2", "1"),
    "m_coherence_stderr": ("standard error of m-coherence, jackknife over folds", "1"),
    "m_coherence_lower": ("lower end of the 95 % interval of m-coherence", "1"),
    "m_coherence_upper": ("upper end of the 95 % interval of m-coherence", "1"),
    "degrees_of_freedom": ("degrees of freedom of the standard errors", "1"),
    "alpha": ("m-coherence divided by the number of examples", "1"),
    "alpha_unbiased": ("(m-coherence - 1) / (number of examples - 1)", "1"),
    "alpha_unbiased_stderr": ("standard error of unbiased alpha, jackknife over folds", "1"),
    "coherence_at_common_size": ("m-coherence that subsets of one size would show", "1"),
    "coherence_at_common_size_stderr": (
        "standard error of m-coherence at the common size, jackknife over folds",
        "1",
    ),
    "norm_of_mean_gradient": ("norm of the mean gradient", "loss per unit of weight"),
    "mean_squared_gradient_norm": ("mean squared norm of per-example gradients", _SQUARED),
    "effective_dimension": ("directions that the gradients' covariance spreads over", "1"),
    "null_lower": ("lower end of the 95 % band of m-coherence by chance", "1"),
    "null_upper": ("upper end of the 95 % band of m-coherence by chance", "1"),
    "p_value": ("chance of so high an m-coherence where the mean gradient is zero", "1"),
    "p_value_adjusted": ("p-value adjusted for the false discovery rate within a subset", "1"),
    "z_score": ("normal equivalent of the p-value", "1"),
    "noise_scale": ("simple noise scale", "examples"),
    "gradient_diversity": ("gradient diversity: 1 / m-coherence", "1"),
    "loss_drop_share": ("share of the first-order loss drop of all training probes", "1"),
    "energy_share": ("share of the layer in the sum of squared gradient norms", "1"),
    "m_coherence_ceiling": ("m-coherence if all gradients were parallel", "1"),
    "effective_sample_size": ("examples that determine the value (Kish)", "examples"),
    "share_without_gradient": ("share of the examples without gradient", "1"),
    "gradient_dot": ("dot product of the mean gradients of two subsets", _SQUARED),
    "gradient_cosine": ("cosine between the mean gradients of two subsets", "1"),
    "gradient_cosine_stderr": ("standard error of the cosine, jackknife over folds", "1"),
    "cross_help": (
        "first-order drop of the other subset's mean loss per step along the subset's gradient",
        "loss per unit of learning rate",
    ),
}


def described(dataset: xr.Dataset) -> xr.Dataset:
    """Give every variable its ``long_name`` and ``units``."""
    for name in dataset.data_vars:
        long_name, units = ATTRIBUTES[str(name)]
        dataset[name].attrs = {"long_name": long_name, "units": units} | dataset[name].attrs
    return dataset
