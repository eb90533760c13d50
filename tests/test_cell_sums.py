"""Sums of cells, whatever the order in memory of the batches' own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analyze.gradients.data.segments import stacked
from analyze.gradients.sums.cell_sums import FEW, CellSums
from analyze.gradients.sums.gram_matrices import gram_matrices

CPU = torch.device("cpu")
SHAPE = (4, 3, 2)
ORDERS = [(0, 1, 2), (0, 2, 1), (2, 0, 1)]
NAME = "weight"


def in_order(values: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """Equal values, the axes in another order in memory."""
    back = [order.index(axis) for axis in range(values.dim())]
    return values.permute(order).contiguous().permute(back)


def cell_sums(cells: int, shape: tuple[int, ...] = (), batches: torch.device = CPU) -> CellSums:
    shapes = {NAME: torch.Size(shape), "other": torch.Size([])}
    return CellSums(shapes, cells, torch.float32, CPU, batches)


def add(sums: CellSums, cell: int, total: torch.Tensor, scale: float = 1.0) -> None:
    """A batch all of whose examples are of one cell."""
    sums.add([cell], NAME, (scale * total)[None], torch.tensor(1 / scale))


def gram_of(sums: CellSums) -> np.ndarray:
    sums.finish()
    return gram_matrices(sums, CPU)[NAME]


@pytest.mark.parametrize("first", ORDERS)
@pytest.mark.parametrize("later", ORDERS)
@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_orders_in_memory_do_not_change_a_product_of_sums(first, later, pieces):
    torch.manual_seed(0)
    cells = torch.randn(2, pieces, *SHAPE)
    sums = cell_sums(2, SHAPE)
    for cell in range(2):
        for k, values in enumerate(cells[cell]):
            add(sums, cell, in_order(values, later if cell or k else first), scale=4.0)
    expected = cells.double().sum(1).flatten(1)
    found = gram_of(sums)
    np.testing.assert_allclose(found, (expected @ expected.T).numpy(), rtol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_sums_in_the_parameters_own_order(order):
    """As ranks exchange them, whose batches may lie in memory in different orders."""
    torch.manual_seed(0)
    totals = torch.randn(3, *SHAPE)
    sums = cell_sums(3, SHAPE)
    for cell, total in enumerate(totals):
        add(sums, cell, in_order(total, order))
    sums.finish()
    assert torch.equal(sums.in_order(NAME), totals.flatten(1))


@pytest.mark.parametrize("order", ORDERS)
def test_sums_of_parts_keep_their_order_in_memory(order):
    torch.manual_seed(0)
    totals = torch.randn(3, *SHAPE)
    found = stacked([in_order(total, order) for total in totals])
    assert torch.equal(found, totals)
    assert found[1].stride() == in_order(totals[1], order).stride()


def test_a_parameter_may_be_one_number():
    sums = cell_sums(1)
    add(sums, 0, torch.tensor(2.0))
    add(sums, 0, torch.tensor(3.0))
    assert gram_of(sums) == 25.0


def test_a_batch_of_parts_of_several_cells():
    sums = cell_sums(6)
    sums.add([3, 4], NAME, torch.tensor([2.0, 6.0]), torch.tensor(0.5))
    sums.add([4, 5], NAME, torch.tensor([8.0, 20.0]), torch.tensor(0.25))
    found, values = gram_of(sums), np.array([0.0, 0.0, 0.0, 1.0, 5.0, 5.0])
    np.testing.assert_array_equal(found, np.outer(values, values))


@pytest.mark.parametrize("before", [0, 1, FEW + 1])
@pytest.mark.parametrize("count", [1, FEW, FEW + 1, 4096])
def test_a_sum_of_many_parts_is_as_exact_as_one_of_a_few(before, count):
    """Whatever the cell before it had."""
    sums, part = cell_sums(2), torch.tensor(0.1)
    for _ in range(before):
        add(sums, 0, torch.tensor(1.0))
    for _ in range(count):
        add(sums, 1, part)
    found = np.sqrt(np.diag(gram_of(sums)))
    assert found[0] == before
    assert found[1] == pytest.approx(count * part.double().item(), rel=FEW * 2**-24)


def test_a_sum_of_many_parts_in_float32_alone_is_not():
    naive = np.cumsum(np.full(4096, 0.1, np.float32))[-1]
    assert abs(naive / (4096 * float(np.float32(0.1))) - 1) > FEW * 2**-24


def test_a_parameter_that_only_some_parts_have_a_gradient_of():
    sums, expected = cell_sums(2), [0.0, 0.0]
    count = 3 * FEW + 2
    for cell in range(2):
        for k in range(count):
            if k % 3 and k < count - 5:  # nothing comes at the end of a cell
                add(sums, cell, torch.tensor(1.0 + k + cell))
                expected[cell] += 1.0 + k + cell
            sums.add([cell], "other", torch.ones(1), torch.tensor(1.0))
    np.testing.assert_array_equal(gram_of(sums), np.outer(expected, expected))
    np.testing.assert_array_equal(gram_matrices(sums, CPU)["other"], np.full((2, 2), count**2))


@pytest.mark.parametrize("pieces", [1, 2, FEW + 1])
def test_sums_that_stay_on_another_device(pieces, monkeypatch):
    monkeypatch.setattr(torch, "empty_like", on_the_cpu(torch.empty_like))
    sums = cell_sums(2, (2,), torch.device("meta"))  # another one, by its type
    for cell in range(2):
        for _ in range(pieces):
            add(sums, cell, torch.tensor([1.0, 2.0 + cell]), scale=2.0)
    expected = pieces * np.array([[1.0, 2.0], [1.0, 3.0]])
    np.testing.assert_array_equal(gram_of(sums), expected @ expected.T)


def on_the_cpu(empty_like):
    """``torch.empty_like`` whatever device is asked for."""
    return lambda like, device=None, **options: empty_like(like, **options)
