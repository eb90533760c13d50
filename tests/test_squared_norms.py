"""Sums of squares are exact to float32's rounding of their terms, however small or large."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from analyze.gradients.device import float64
from analyze.gradients.forms import squared_norms, squares
from analyze.gradients.forms.squares import BLOCK, SquaredNorms, in_double

AROUND_BLOCKS = [1, 2, 3, 4, 5, 1021, 1023, BLOCK, 1031, 2039, 2048, 2053, 3 * BLOCK - 1]


@pytest.fixture(params=["on a processor", "where float64 is dear"])
def way(request, monkeypatch):
    """Blocks are looked at at once, or later, however few entries there are."""
    monkeypatch.setattr(squares, "FEW", 0)
    if request.param != "on a processor":
        monkeypatch.setattr(float64, "is_dear", lambda device: True)


def norms(values: Tensor, at_a_time: int = 0) -> Tensor:
    """Squared norms of gradients that come a few at a time, and are made again where unsure."""
    adding = SquaredNorms()
    for some in values.split(at_a_time or len(values)):
        adding.add(some)
    found, unsure = adding.result(lambda start, stop: values[start:stop])
    if unsure is None:
        return found
    return torch.where(unsure, in_double(values), found)


def exact(values: Tensor) -> Tensor:
    return values.double().square().flatten(1).sum(1)


@pytest.mark.parametrize("width", [5, 16 * BLOCK - 1, 16 * BLOCK, 100 * BLOCK + 7])
@pytest.mark.parametrize("scale", [1.0, 1e-15, 1e-22, 1e-38, 1e15, 1e25])
def test_squares_are_added_as_in_float64(width: int, scale: float, way) -> None:
    values = torch.randn(3, width, generator=torch.manual_seed(0)) * scale
    for found in (squared_norms(values), norms(values)):
        torch.testing.assert_close(found, exact(values), rtol=2e-7, atol=0.0)


@pytest.mark.parametrize("width", AROUND_BLOCKS)
@pytest.mark.parametrize("rows", [1, 4])
def test_lengths_around_those_of_blocks(rows: int, width: int, way) -> None:
    values = torch.randn(rows, width, generator=torch.manual_seed(width))
    values[:, -1] = 30.0  # what is left after the last block counts
    torch.testing.assert_close(norms(values, 3), exact(values), rtol=3e-7, atol=0.0)


def test_a_range_as_wide_as_float32_inside_of_one_gradient(way) -> None:
    values = torch.randn(4, 40 * BLOCK + 3, generator=torch.manual_seed(0))
    values *= 10.0 ** torch.linspace(-37, 17, values.shape[1])
    values[1], values[2] = values[1].flip(0), values[2] * 1e-17
    torch.testing.assert_close(norms(values), exact(values), rtol=2e-7, atol=0.0)


def test_few_gradients_are_made_again(way) -> None:
    """Of ordinary ones none, however far apart they are."""
    values = torch.randn(5, 4 * BLOCK) * 10.0 ** torch.linspace(-11, 17, 5)[:, None]
    made = []
    adding = SquaredNorms()
    adding.add(values)
    _, unsure = adding.result(lambda start, stop: made.append(start) or values[start:stop])
    assert not made
    assert unsure is None or not unsure.any()


@pytest.mark.parametrize("complex_numbers", [False, True])
def test_a_copy_in_float64_is_of_few_entries(complex_numbers: bool, monkeypatch) -> None:
    monkeypatch.setattr(squares, "IN_DOUBLE", 100)
    values = torch.randn(7, 11, 23, dtype=torch.complex64 if complex_numbers else None)
    largest = []
    norm = torch.linalg.vector_norm
    monkeypatch.setattr(
        torch.linalg,
        "vector_norm",
        lambda x, *a, **k: largest.append(x.numel()) or norm(x, *a, **k),
    )
    found = in_double(values)
    expected = torch.view_as_real(values) if complex_numbers else values
    torch.testing.assert_close(found, exact(expected), rtol=1e-14, atol=0.0)
    assert max(largest[:-1]) <= 100


def test_a_faint_row_beside_a_strong_one_keeps_its_value(way) -> None:
    values = torch.ones(2, 32 * BLOCK)
    values[1] *= 1e-24
    torch.testing.assert_close(norms(values), exact(values), rtol=1e-7, atol=0.0)


def test_zeros_are_zero_and_what_is_not_finite_stays_so(way) -> None:
    values = torch.zeros(3, 32 * BLOCK)
    values[1, 40], values[2, 7] = float("nan"), float("inf")
    for found in (squared_norms(values), norms(values)):
        assert found[0] == 0.0
        assert found[1].isnan()
        assert found[2].isinf()
