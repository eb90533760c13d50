"""Sums of squares are exact to float32's rounding of their terms, however small or large."""

from __future__ import annotations

import pytest
import torch

from analyze.gradients.forms import squared_norms
from analyze.gradients.forms.squares import BLOCK


@pytest.mark.parametrize("width", [5, 16 * BLOCK - 1, 16 * BLOCK, 100 * BLOCK + 7])
@pytest.mark.parametrize("scale", [1.0, 1e-15, 1e-22, 1e15, 1e25])
def test_squares_are_added_as_in_float64(width: int, scale: float) -> None:
    values = torch.randn(3, width, generator=torch.manual_seed(0)) * scale
    exact = values.double().square().sum(1)
    torch.testing.assert_close(squared_norms(values), exact, rtol=1e-7, atol=0.0)


def test_a_faint_row_beside_a_strong_one_keeps_its_value() -> None:
    values = torch.ones(2, 32 * BLOCK)
    values[1] *= 1e-24
    exact = values.double().square().sum(1)
    torch.testing.assert_close(squared_norms(values), exact, rtol=1e-7, atol=0.0)


def test_zeros_are_zero_and_what_is_not_finite_stays_so() -> None:
    values = torch.zeros(3, 32 * BLOCK)
    values[1, 40], values[2, 7] = float("nan"), float("inf")
    found = squared_norms(values)
    assert found[0] == 0.0
    assert found[1].isnan()
    assert found[2].isinf()
