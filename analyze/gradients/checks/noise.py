"""Refuses a model whose gradients depend on random numbers, for few of the probes only."""

from __future__ import annotations

import numpy as np

from analyze.errors import CheckpointError
from analyze.gradients.measurement import Measurement

SAME, NEARLY_SAME = 1e-6, 1e-3  # relative: of two measurements, where the bits repeat or not


def refuse_noise(
    first: Measurement, second: Measurement, ids: np.ndarray, *, repeatable: bool
) -> None:
    """Raise where two measurements of one model, by other random numbers, have other numbers.

    A model may draw numbers in eval mode and not use them. Where it uses them for few probes, as
    for those that are padded, calibration and verification may not meet one of these.

    Raises:
        CheckpointError: losses or squared norms differ; with the probe, if a loss does.
    """
    rtol = SAME if repeatable else NEARLY_SAME
    other = np.flatnonzero(~np.isclose(first.loss, second.loss, rtol, 0.0, equal_nan=True))
    floor = rtol**2 * np.nansum(first.squared_norms, 0)
    apart = np.abs(first.squared_norms - second.squared_norms)
    if len(other):
        row = other[0]
        found = f"probe {ids[row]}: loss {first.loss[row]:.6g}, then {second.loss[row]:.6g}"
        if len(other) > 1:
            found += f"; others for {len(other)} of {len(first.loss)} probes"
    elif (apart > rtol * first.squared_norms + floor).any():
        found = "other squared norms of gradients when it was measured again"
    else:
        return
    raise CheckpointError(
        "the model draws random numbers, and its gradients depend on them",
        found=found,
        expected="the same gradients for the same input: dropout and other noise off in eval mode",
        fix="make what draws them follow model.eval(), or give a factory that turns it off: "
        "--model FILE.py:FACTORY",
    )
