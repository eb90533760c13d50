"""What each variable of results and of comparisons is, in words and units."""

from __future__ import annotations

import xarray as xr

_SQUARED = "(loss per unit of weight)^2"

# Name: (long_name, units), of what is derived from the sums.
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

MEASURED: dict[str, tuple[str, str]] = {
    "loss": ("mean loss", "nats"),
    "loss_saved": ("mean loss with the batch norm statistics of the checkpoint", "nats"),
    "loss_recomputed": ("mean loss with recomputed batch norm statistics", "nats"),
    "loss_per_token": ("mean loss of a token (position) that counts", "nats"),
    "accuracy": ("share of right predictions", "1"),
    "probe_count": ("number of probes", "1"),
    "token_count": ("number of tokens (positions) that count", "1"),
    "gradient_gram": ("dot products of the cells' gradient sums", _SQUARED),
    "gradient_sqnorm": ("sum of squared norms of per-example gradients", _SQUARED),
}

# What only comparisons have, or where the same name means something else.
OF_COMPARISONS: dict[str, tuple[str, str]] = {
    "log_ratio": ("logarithm of the ratio of m-coherence, at one number of examples", "1"),
    "log_ratio_stderr": ("standard error of log_ratio", "1"),
    "log_ratio_lower": ("lower end of the 95 % interval of log_ratio", "1"),
    "log_ratio_upper": ("upper end of the 95 % interval of log_ratio", "1"),
    "p_value": ("p-value of equal m-coherence", "1"),
    "p_value_adjusted": ("p-value of equal m-coherence, for the false discovery rate", "1"),
    "compared_at": ("number of examples at which the two are compared", "1"),
    "paired": ("whether folds were left out of both runs at once", "1"),
    "present": ("1 for a layer that the run has", "1"),
    "probes": ("by what the inputs were judged the first run's", "1"),
    "status": ("ok, or why there is no value", "1"),
    "runs": ("runs of the group that have a value", "1"),
    "peak": ("highest measured m-coherence", "examples"),
    "peak_stderr": ("standard error of the highest measured m-coherence", "examples"),
    "peak_step": ("optimizer step of the peak", "1"),
    "peak_epoch": ("epoch of the peak", "1"),
    "peak_training_loss": ("training loss at the peak", "loss"),
    "coherence_at_loss": ("m-coherence where the run first falls to the training loss", "examples"),
    "coherence_at_loss_stderr": ("standard error of coherence_at_loss", "examples"),
    "first_significant_step": ("first step with a significant difference", "1"),
    "first_significant_epoch": ("first epoch with a significant difference", "1"),
    "first_significant_training_loss": (
        "first training loss with a significant difference",
        "loss",
    ),
}

KNOWN = ATTRIBUTES | MEASURED


def described(dataset: xr.Dataset) -> xr.Dataset:
    """Give every variable its ``long_name`` and ``units``."""
    for name in dataset.data_vars:
        long_name, units = KNOWN[str(name)]
        dataset[name].attrs = {"long_name": long_name, "units": units} | dataset[name].attrs
    return dataset


def described_comparison(dataset: xr.Dataset) -> xr.Dataset:
    """The same for a comparison: its own variables first, else what results say of the variable."""
    for name in map(str, dataset.data_vars):
        known = dataset[name].attrs
        long_name, units = OF_COMPARISONS.get(name) or KNOWN[name]
        if name in OF_COMPARISONS or "long_name" not in known:
            dataset[name].attrs = {"long_name": long_name, "units": units}
    return dataset
