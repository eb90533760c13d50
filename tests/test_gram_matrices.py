"""Gram matrices of the cells' sums: as exact in split float32, and a few values at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from analyze.gradients.device import float64
from analyze.gradients.sums import gram_matrices, split_products
from analyze.gradients.sums.cell_sums import CellSums
from analyze.gradients.sums.gram_matrices import LEAST, gram_matrix
from analyze.gradients.sums.split_products import BLOCK, bytes_of_a_column
from tests import oracle

CPU = torch.device("cpu")
EXACT = 2e-9  # of split products, in units of ``sqrt(G_ii G_jj)``; in plain float32 it is 1e-7


def error(found: Tensor, rows: Tensor) -> float:
    """The largest of an entry, in units of the lengths of the rows."""
    rows = rows.double()
    return oracle.scaled_gram_error(found.numpy(), (rows @ rows.T).numpy())


def rows_of(length: int, cells: int = 6) -> Tensor:
    return torch.randn(cells, length, generator=torch.manual_seed(length))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 1021, BLOCK, 1031, 2 * BLOCK, 20011])
@pytest.mark.parametrize("cells", [1, 6])
def test_split_products_are_those_of_float64(length: int, cells: int) -> None:
    rows = rows_of(length, cells)
    assert error(split_products.split_products(rows), rows) < EXACT


ADVERSE = {
    "all equal": lambda x: torch.full_like(x, 1 - 2**-24),
    "all of one sign": lambda x: x.abs(),
    "of another size in each cell": lambda x: x * 10.0 ** torch.linspace(-20, 15, len(x))[:, None],
    "of another size in each block": lambda x: x * 10.0 ** torch.linspace(-18, 15, x.shape[1]),
    "of any size": lambda x: x * torch.exp(10 * torch.randn(x.shape)),
    "one large entry": lambda x: x + 1e4 * (torch.arange(x.shape[1]) % BLOCK == 5),
    "nearly opposite": lambda x: x.sign()[:1] * torch.tensor([1.0, -1.0] * 3)[:, None] + 1e-4 * x,
    "tiny": lambda x: x * 1e-36,
    "huge": lambda x: x * 3e37,
    "as large as can be": lambda x: torch.full_like(x, 3.4e38),
    "a cell of zeros": lambda x: x * (torch.arange(len(x)) != 2)[:, None],
}


@pytest.mark.parametrize("adverse", ADVERSE.values(), ids=ADVERSE)
def test_split_products_of_adverse_rows_are_those_of_float64(adverse) -> None:
    rows = adverse(rows_of(8 * BLOCK + 100))
    assert error(split_products.split_products(rows), rows) < EXACT


def test_float32_alone_is_not_as_exact() -> None:
    rows = rows_of(20011).abs()
    assert error((rows @ rows.T).double(), rows) > 10 * EXACT


def test_sums_of_whole_numbers_are_exact() -> None:
    """What is not rounded at all: the largest sums of a block that float32 has to hold."""
    rows = torch.ones(3, BLOCK)
    rows[1] = -127 / 128
    rows[2, ::2] = 3 / 128
    expected = rows.double() @ rows.double().T
    assert torch.equal(split_products.split_products(rows), expected)


def test_what_is_not_finite_stays_so() -> None:
    rows = rows_of(2 * BLOCK)
    rows[1, 3], rows[2, 5] = float("nan"), float("inf")
    found = split_products.split_products(rows)
    finite = torch.ones(6, 6, dtype=torch.bool)
    finite[[1, 2]] = finite[:, [1, 2]] = False
    assert torch.equal(found.isfinite(), finite)


def test_the_diagonal_is_no_less_than_zero_and_the_matrix_symmetric() -> None:
    found = split_products.split_products(rows_of(3 * BLOCK + 7) * 1e-20)
    assert (found.diagonal() > 0).all()
    assert torch.equal(found, found.T)


@pytest.fixture
def dear(monkeypatch):
    monkeypatch.setattr(float64, "is_dear", lambda device: True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cells", [3, 20])
@pytest.mark.parametrize("room", [1, 1 << 18, 1 << 30])
def test_a_gram_matrix_is_the_same_where_float64_is_dear(room, cells, dtype, dear, monkeypatch):
    """However many values are taken at a time; sums in float64 are multiplied in float64."""
    monkeypatch.setattr(gram_matrices, "chunk_bytes", lambda device: room)
    rows = rows_of(5 * BLOCK + 11, cells).to(dtype)
    found = gram_matrix(rows, CPU)
    bound = EXACT if (dtype, cells) == (torch.float32, 20) else 1e-14
    assert error(found, rows) < bound


@pytest.fixture
def room(monkeypatch):
    """Lets the step run out of memory with more than so many values at a time; what was tried."""

    def limit(columns: int) -> list[int]:
        in_parts, tried = gram_matrices._in_parts, []

        def limited(sums, device, at_a_time):
            tried.append(at_a_time)
            if at_a_time > columns:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return in_parts(sums, device, at_a_time)

        monkeypatch.setattr(gram_matrices, "_in_parts", limited)
        return tried

    return limit


def test_out_of_memory_fewer_values_are_taken_at_a_time(room) -> None:
    """Of that parameter and all after it; no batch is measured again."""
    sums = CellSums({"a": torch.Size([9000]), "b": torch.Size([70])}, 2, torch.float64, CPU, CPU)
    totals = {"a": torch.randn(2, 9000).double(), "b": torch.randn(2, 70).double()}
    for name, both in totals.items():
        sums.add([0, 1], name, both, 1.0)
    sums.finish()
    tried = room(5000)
    found = gram_matrices.gram_matrices(sums, CPU)
    assert tried[0] > 5000
    assert tried[1:] == [2250, 2250]  # a quarter of what there is
    for name, both in totals.items():
        np.testing.assert_allclose(found[name], both @ both.T, rtol=1e-12)


def test_out_of_memory_with_the_least_is_raised(room) -> None:
    tried = room(LEAST - 1)
    with pytest.raises(torch.OutOfMemoryError):
        gram_matrix(torch.ones(2, 5), CPU)
    assert tried[-1] == LEAST


def test_other_errors_are_raised_at_once(monkeypatch) -> None:
    tried = []

    def fails(*arguments):
        tried.append(arguments)
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(gram_matrices, "_in_parts", fails)
    with pytest.raises(RuntimeError, match="shapes"):
        gram_matrix(torch.ones(2, 5), CPU)
    assert len(tried) == 1


@pytest.mark.parametrize("cells", [2, 30, 400])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_part_takes_the_memory_that_it_may(dtype, cells, dear, monkeypatch) -> None:
    monkeypatch.setattr(gram_matrices, "chunk_bytes", lambda device: 64 << 20)
    columns = gram_matrices._columns(cells, dtype, CPU)
    split = dtype == torch.float32 and cells > 2
    held = bytes_of_a_column(cells) if split else 8 * cells
    assert 32 << 20 < columns * (held + cells * dtype.itemsize) <= 64 << 20
    assert columns % BLOCK == 0


def test_no_sums_have_no_gram_matrices() -> None:
    sums = CellSums({"a": torch.Size([3])}, 2, torch.float32, CPU, CPU)
    assert gram_matrices.gram_matrices(sums, CPU) == {}
