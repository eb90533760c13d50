"""How far a way is from plain autograd, one example at a time, in float64."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from scripts.benchmarking.contenders import Found, RefusedError, one_at_a_time
from tests.oracle import relative_error

FAINT = 1e-9  # of the largest norm of a parameter: below it a gradient is rounding


def expected(model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, Found]:
    """The oracle's sums and squared norms, in float64."""
    return one_at_a_time(*in_double(model, inputs, targets))()


def in_double(
    model: nn.Module, inputs: Tensor, targets: Tensor
) -> tuple[nn.Module, Tensor, Tensor]:
    """The same in float64, where nothing but a mistake can make a difference."""
    return model.double(), inputs.double() if inputs.is_floating_point() else inputs, targets


def worst_error(found: Mapping[str, Found], exact: Mapping[str, Found]) -> float:
    """The largest relative error of any parameter's sum, by norm, or of any squared norm."""
    errors = []
    largest = max(float(e.total.norm()) for e in exact.values())
    for name, e in exact.items():
        if float(e.total.norm()) < FAINT * largest:
            continue
        if name not in found:
            raise RefusedError(f"no gradient of {name}")
        f = found[name]
        difference = f.total.double().reshape(e.total.shape) - e.total
        errors.append(float(difference.norm() / e.total.norm()))
        if f.squared_norms is not None and e.squared_norms is not None:
            errors.append(
                relative_error(f.squared_norms.cpu().numpy(), e.squared_norms.cpu().numpy())
            )
    return float(np.max(errors))  # NaN where any is, which max would pass over
