"""What each variable of a comparison is, in words and units."""

from __future__ import annotations

import xarray as xr

ATTRIBUTES = {
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
    "peak": ("highest measured m-coherence", "examples"),
    "peak_stderr": ("standard error of the highest measured m-coherence", "examples"),
    "peak_step": ("optimizer step of the peak", "1"),
    "peak_epoch": ("epoch of the peak", "1"),
    "peak_training_loss": ("training loss at the peak", "loss"),
    "coherence_at_loss": ("m-coherence where the run first falls to the training loss", "examples"),
    "coherence_at_loss_stderr": ("standard error of coherence_at_loss", "examples"),
    "runs": ("runs of the group that have a value", "1"),
    "first_significant_training_loss": (
        "first training loss with a significant difference",
        "loss",
    ),
    "first_significant_step": ("first step with a significant difference", "1"),
    "first_significant_epoch": ("first epoch with a significant difference", "1"),
}


def described(dataset: xr.Dataset) -> xr.Dataset:
    """With a name in words and a unit at every variable that has none yet."""
    for name, (long_name, units) in ATTRIBUTES.items():
        if name in dataset:
            dataset[name].attrs = {"long_name": long_name, "units": units}
    return dataset
