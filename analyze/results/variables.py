"""The meaning and unit of measured variables and of those that only comparisons have.

Variables that are derived from the sums stand in ``statistics.variables``.
"""

from __future__ import annotations

import xarray as xr

from analyze.statistics.variables import SQUARED, VARIABLES

OF_DIRECTION = "unit of the direction"  # of a sum of gradients, or of weights
ALONG = f"nats per unit of a weight, times {OF_DIRECTION}"

# Name: (long_name, units).
MEASURED: dict[str, tuple[str, str]] = {
    "loss": ("mean loss", "nats"),
    "loss_saved": ("mean loss with the batch norm statistics of the checkpoint", "nats"),
    "loss_recomputed": ("mean loss with recomputed batch norm statistics", "nats"),
    "loss_per_token": ("mean loss of a token (position) that counts", "nats"),
    "accuracy": ("share of right predictions", "1"),
    "probe_count": ("number of probes", "1"),
    "token_count": ("number of tokens (positions) that count", "1"),
    "gradient_gram": ("dot products of the cells' gradient sums", SQUARED),
    "gradient_sqnorm": ("sum of squared norms of per-example gradients", SQUARED),
    "alignment": ("dot product of the example's gradient with the direction", ALONG),
    "direction_norm": ("norm of the direction", OF_DIRECTION),
    "margin": ("logit of the target's class minus the largest other", "logits"),
}

# Variables that only comparisons have, or whose name means something else in them.
OF_COMPARISONS: dict[str, tuple[str, str]] = {
    "log_ratio": ("logarithm of the ratio of m-coherence, at one number of examples", "1"),
    "log_ratio_stderr": ("standard error of log_ratio", "1"),
    "log_ratio_lower": ("lower end of the 95 % interval of log_ratio", "1"),
    "log_ratio_upper": ("upper end of the 95 % interval of log_ratio", "1"),
    "p_value": ("p-value of equal m-coherence", "1"),
    "p_value_adjusted": ("p-value of equal m-coherence, for the false discovery rate", "1"),
    "p_value_of_chance": (
        "p-value of a zero mean gradient, for the false discovery rate within the run",
        "1",
    ),
    "compared_at": ("number of examples at which all are compared", "1"),
    "over_seeds": ("whether the two are tested over seeds", "1"),
    "paired": ("whether folds were left out of both runs at once", "1"),
    "present": ("1 for a layer that the run has", "1"),
    "probes": ("by what the inputs were judged the first run's", "1"),
    "status": ("ok, or why there is no value", "1"),
    "runs": ("runs of the group that have a value", "1"),
    **{
        f"{prefix}peak{end}": (f"{of} the highest measured m-coherence{over}", "examples")
        for prefix, over in (("", ""), ("group_", ", mean over seeds"))
        for end, of in (("_lower", "lower 95 % end of"), ("_upper", "upper 95 % end of"))
    },
    "group_peak": ("highest m-coherence, geometric mean over seeds", "examples"),
    "group_peak_step": ("optimizer step of group_peak", "1"),
    "group_peak_epoch": ("epoch of group_peak", "1"),
    "group_peak_training_loss": ("training loss at group_peak", "loss"),
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


def described(dataset: xr.Dataset) -> xr.Dataset:
    """Measured variables with ``long_name`` and ``units``, unless they have their own."""
    for name in dataset.data_vars:
        long_name, units = MEASURED[str(name)]
        dataset[name].attrs = {"long_name": long_name, "units": units} | dataset[name].attrs
    return dataset


def described_comparison(dataset: xr.Dataset) -> xr.Dataset:
    """A table of a comparison with ``long_name`` and ``units`` of every variable."""
    for name in map(str, dataset.data_vars):
        if name in OF_COMPARISONS:
            long_name, units = OF_COMPARISONS[name]
            dataset[name].attrs = {"long_name": long_name, "units": units}
        elif "long_name" not in dataset[name].attrs:
            dataset[name].attrs = VARIABLES[name].attributes
    return dataset
