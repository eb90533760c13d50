"""M-coherence beside a computation by its definition that shares no code with ``analyze``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from scripts import by_definition

SAMPLES = Path(__file__).parent.parent / "sample_checkpoints"


@pytest.fixture(scope="module")
def rows():
    return list(by_definition.compared(SAMPLES, probes=16))


def test_numbers_are_those_of_the_definition(rows):
    assert len(rows) == 8
    worst = max(rows, key=lambda row: row.difference)
    assert worst.difference < by_definition.BOUND, worst


def test_recomputed_statistics_give_another_number_than_saved_ones(rows):
    saved, recomputed = rows[:2]
    assert (saved.statistics, recomputed.statistics) == ("saved", "recomputed")
    assert saved.by_definition > 1.5 * recomputed.by_definition


def test_the_definition_in_a_case_done_by_hand():
    """One weight for each class: gradients are x times (p - y), here of two equal examples."""
    model = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(model.weight)
    same = torch.ones(2, 1)
    assert by_definition.m_coherence(model, same, torch.tensor([0, 0])) == pytest.approx(2)
    assert by_definition.m_coherence(model, same, torch.tensor([0, 1])) == pytest.approx(0)
