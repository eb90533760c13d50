"""The probes are measured in full batches, whatever the cells are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from analyze.gradients.data.batches import batches

CELLS = [[3, 0, 5, 1], [8], [1] * 9, [0, 0, 20, 2], [7, 7, 7]]


def rows_of(lengths: list[int]) -> list[np.ndarray]:
    ends = np.cumsum([0, *lengths])
    return [np.arange(a, b) for a, b in pairwise(ends)]


@pytest.mark.parametrize("most", [1, 2, 100])
@pytest.mark.parametrize("size", [1, 4, 7, 100])
@pytest.mark.parametrize("lengths", CELLS, ids=str)
def test_every_example_is_in_one_batch_of_its_cell(lengths, size, most):
    cells = rows_of(lengths)
    found: dict[int, list] = {}
    for batch in batches(cells, size, most):
        assert len(batch.rows) <= size
        assert len(batch.by_cell) <= most
        assert len(set(batch.cells)) == len(batch.by_cell)
        for part in batch.by_cell:
            found.setdefault(part.cell, []).append(part)
    assert sorted(found) == [cell for cell, rows in enumerate(cells) if len(rows)]
    for cell, parts in found.items():
        assert np.array_equal(np.concatenate([p.rows for p in parts]), cells[cell])


@pytest.mark.parametrize("lengths", CELLS, ids=str)
def test_all_batches_but_the_last_are_full_and_none_is_of_one_example(lengths):
    """The one before the last gives it a mate."""
    sizes = [len(batch.rows) for batch in batches(rows_of(lengths), 4, most=100)]
    total = sum(lengths)
    full = [4] * (total // 4)
    if total % 4 == 1 and total > 4:
        full[-1:] = [3, 2]
    elif total % 4:
        full.append(total % 4)
    assert sizes == full


def test_what_a_batch_found_is_added_up_by_cell():
    (batch,) = batches(rows_of([2, 0, 3]), 10, most=10)
    assert batch.cells.tolist() == [0, 2]
    assert batch.sums(np.array([[1.0, 2, 3, 4, 5]])).tolist() == [[3.0, 12.0]]
