"""Sums of cells, whatever the order in memory of the batches' own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analyze.gradients.batch import BatchResult
from analyze.gradients.cell_sums import CellSums
from analyze.gradients.forms import Summary
from analyze.gradients.forms.parts import stacked

SHAPE = (4, 3, 2)
ORDERS = [(0, 1, 2), (0, 2, 1), (2, 0, 1)]


def in_order(values: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """Equal values, the axes in another order in memory."""
    back = [order.index(axis) for axis in range(values.dim())]
    return values.permute(order).contiguous().permute(back)


def batch_of(*totals: torch.Tensor, scale: float) -> BatchResult:
    none = torch.zeros(0, dtype=torch.float64)
    summary = Summary(stacked([scale * total for total in totals]), none)
    return BatchResult(none, none, {"weight": summary}, scale)


@pytest.mark.parametrize("first", ORDERS)
@pytest.mark.parametrize("later", ORDERS)
@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_orders_in_memory_do_not_change_a_product_of_sums(first, later, pieces):
    torch.manual_seed(0)
    cells = torch.randn(2, pieces, *SHAPE)
    sums = CellSums(2, torch.float32, torch.device("cpu"), host=False)
    for cell in range(2):
        for k, values in enumerate(cells[cell]):
            batch = batch_of(in_order(values, later if cell or k else first), scale=4.0)
            sums.add(batch, 0, cell, first=k == 0, last=k == pieces - 1)
    expected = cells.double().sum(1).flatten(1)
    found = sums.gram_matrices(torch.device("cpu"))["weight"]
    np.testing.assert_allclose(found, (expected @ expected.T).numpy(), rtol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_sums_of_parts_keep_their_order_in_memory(order):
    torch.manual_seed(0)
    totals = torch.randn(3, *SHAPE)
    found = stacked([in_order(total, order) for total in totals])
    assert torch.equal(found, totals)
    assert found[1].stride() == in_order(totals[1], order).stride()


def test_a_parameter_may_be_one_number():
    sums = CellSums(1, torch.float32, torch.device("cpu"), host=False)
    sums.add(batch_of(torch.tensor(2.0), torch.tensor(3.0), scale=1.0), 0, 0, True, False)
    sums.add(batch_of(torch.tensor(2.0), torch.tensor(3.0), scale=1.0), 1, 0, False, True)
    assert sums.gram_matrices(torch.device("cpu"))["weight"] == 25.0
