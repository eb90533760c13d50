"""Sums of cells, whatever the order in memory of the batches' own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analyze.gradients.batch import BatchResult
from analyze.gradients.cell_sums import FEW, CellSums, gram_matrices
from analyze.gradients.forms import Summary
from analyze.gradients.forms.parts import stacked
from analyze.gradients.room import OwnRoom

CPU = torch.device("cpu")
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


def cell_sums(cells: range) -> CellSums:
    return CellSums(cells, OwnRoom(torch.float32, CPU), CPU)


def gram_of(*shares: CellSums, cells: int = 1) -> np.ndarray:
    return gram_matrices(shares, cells, CPU)["weight"]


@pytest.mark.parametrize("first", ORDERS)
@pytest.mark.parametrize("later", ORDERS)
@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_orders_in_memory_do_not_change_a_product_of_sums(first, later, pieces):
    torch.manual_seed(0)
    cells = torch.randn(2, pieces, *SHAPE)
    sums = cell_sums(range(2))
    for cell in range(2):
        for k, values in enumerate(cells[cell]):
            batch = batch_of(in_order(values, later if cell or k else first), scale=4.0)
            sums.add(batch, 0, cell, first=k == 0, last=k == pieces - 1)
    expected = cells.double().sum(1).flatten(1)
    found = gram_of(sums, cells=2)
    np.testing.assert_allclose(found, (expected @ expected.T).numpy(), rtol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_sums_of_parts_keep_their_order_in_memory(order):
    torch.manual_seed(0)
    totals = torch.randn(3, *SHAPE)
    found = stacked([in_order(total, order) for total in totals])
    assert torch.equal(found, totals)
    assert found[1].stride() == in_order(totals[1], order).stride()


def test_a_parameter_may_be_one_number():
    sums = cell_sums(range(1))
    sums.add(batch_of(torch.tensor(2.0), torch.tensor(3.0), scale=1.0), 0, 0, True, False)
    sums.add(batch_of(torch.tensor(2.0), torch.tensor(3.0), scale=1.0), 1, 0, False, True)
    assert gram_of(sums) == 25.0


@pytest.mark.parametrize("first", ORDERS)
@pytest.mark.parametrize("second", ORDERS)
def test_shares_of_cells_in_any_order_in_memory(first, second):
    torch.manual_seed(0)
    totals = torch.randn(4, *SHAPE)  # of cells 0, 1, 1, 2: one of them is in both shares
    shares = [cell_sums(range(2)), cell_sums(range(1, 3))]
    for share, cell, values, order in (
        (0, 0, totals[0], first), (0, 1, totals[1], first),
        (1, 1, totals[2], second), (1, 2, totals[3], second),
    ):  # fmt: skip
        shares[share].add(batch_of(in_order(values, order), scale=2.0), 0, cell, True, True)
    flat = totals.double().flatten(1)
    expected = torch.stack([flat[0], flat[1] + flat[2], flat[3]])
    found = gram_of(*shares, cells=3)
    np.testing.assert_allclose(found, (expected @ expected.T).numpy(), rtol=1e-12)


def test_a_parameter_that_one_share_has_no_gradient_of():
    with_one, without = cell_sums(range(1)), cell_sums(range(1, 2))
    with_one.add(batch_of(torch.tensor(3.0), scale=1.0), 0, 0, True, True)
    np.testing.assert_array_equal(gram_of(with_one, without, cells=2), [[9.0, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize("count", [1, FEW, FEW + 1, 4096])
def test_a_sum_of_many_parts_is_as_exact_as_one_of_a_few(count):
    sums, part = cell_sums(range(1)), torch.tensor(0.1)
    for k in range(count):
        sums.add(batch_of(part, scale=1.0), 0, 0, first=k == 0, last=k == count - 1)
    exact = count * part.double().item()
    assert np.sqrt(gram_of(sums).item()) == pytest.approx(exact, rel=FEW * 2**-24)


def test_a_sum_of_many_parts_in_float32_alone_is_not():
    naive = np.cumsum(np.full(4096, 0.1, np.float32))[-1]
    assert abs(naive / (4096 * float(np.float32(0.1))) - 1) > FEW * 2**-24


def test_a_parameter_that_only_some_parts_have_a_gradient_of():
    sums, expected = cell_sums(range(1)), 0.0
    count = 3 * FEW + 2
    for k in range(count):
        both = {"weight": torch.tensor(1.0 + k)} if k % 3 else {}
        expected += both.get("weight", torch.tensor(0.0)).item()
        found = batch_of(torch.tensor(1.0), scale=1.0).scaled["weight"]
        scaled = {"other": found} | {
            name: Summary(total[None], found.squared_norms) for name, total in both.items()
        }
        none = torch.zeros(0, dtype=torch.float64)
        sums.add(BatchResult(none, none, scaled, 1.0), 0, 0, k == 0, k == count - 1)
    assert gram_of(sums) == expected**2
    assert gram_matrices([sums], 1, CPU)["other"] == count**2


@pytest.mark.parametrize("pieces", [1, 2, FEW + 1])
def test_sums_that_stay_on_another_device(pieces, monkeypatch):
    sums = cell_sums(range(2))
    monkeypatch.setattr(sums, "_batches", torch.device("meta"))  # another one, by its type
    monkeypatch.setattr(torch, "empty_like", on_the_cpu(torch.empty_like))
    for cell in range(2):
        for k in range(pieces):
            values = torch.tensor([1.0, 2.0 + cell])
            sums.add(batch_of(values, scale=2.0), 0, cell, k == 0, k == pieces - 1)
    expected = pieces * np.array([[1.0, 2.0], [1.0, 3.0]])
    np.testing.assert_array_equal(gram_of(sums, cells=2), expected @ expected.T)


def on_the_cpu(empty_like):
    """``torch.empty_like`` whatever device is asked for."""
    return lambda like, device=None, **options: empty_like(like, **options)
