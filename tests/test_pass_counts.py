"""Which passes come before the first batch, and in a further call: no more than these."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import nn

import analyze
from tests import passes

PROBES, BATCH = 24, 8
MEASURING = ("batch_norm._losses", "probe_batches.measure")  # what follows

SETTLING = ["4 forward of 2 in float32: architecture.replica"]
STATISTICS = [f"1 forward of {PROBES} in float32: batch_norm._uses"]
FIRST = [
    "1 forward of 5 in float32: fit._called",
    "1 forward of 1 in float32: fit._called",
    "1 forward of 1 in float64: architecture._recorded",
    "1 backward of 1 in float64: architecture._recorded",
    "1 forward of 2 in float32: calibration._calibrated",
    "1 forward of 3 in float32: calibration._calibrated",
    "3 backward of 3 in float32: evidence.backward",
    "3 forward of 3 in float32: evidence.gather",
    "1 forward of 3 in float32: calibration._leaked",
    "1 backward of 3 in float32: calibration._given_gradients",
    "1 forward of 1 in float32: planner.forward",  # whose work is counted
    "2 forward of 2 in float32: probe_batches.measured",  # whether it repeats
    "2 backward of 2 in float32: probe_batches.measured",
]
PROOF = [
    "3 forward of 1 in float64: proving.prove",
    "3 backward of 1 in float64: proving.prove",
    "1 forward of 3 in float64: proving._passes",
    "1 backward of 3 in float64: proving._passes",
]
AGAIN = ["2 forward of 2 in float32: planner.taken_over"]
FITS_AGAIN = [
    "1 forward of 2 in float32: fit._called",
    "1 forward of 1 in float32: fit._called",
]
PROOF_OF_TWO = [
    "2 forward of 1 in float64: proving.prove",
    "2 backward of 1 in float64: proving.prove",
    "1 forward of 2 in float64: proving._passes",
    "1 backward of 2 in float64: proving._passes",
]


def with_statistics() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )


def without_statistics() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )


def probes() -> analyze.ProbeSet:
    return analyze.ProbeSet(torch.randn(PROBES, 3, 8, 8), torch.arange(PROBES) % 3)


def before_batches(model: nn.Module) -> list[str]:
    """The passes of a call up to the first batch."""
    with passes.counted() as counted:
        analyze.measure(model, probes(), batch_size=BATCH)
    end = next(k for k, made in enumerate(counted) if made.asked in MEASURING)
    return passes.table(counted)[:end]


@pytest.mark.parametrize(
    ("build", "statistics"),
    [
        pytest.param(with_statistics, STATISTICS, id="batch norm"),
        pytest.param(without_statistics, [], id="none"),
    ],
)
def test_passes_before_the_first_batch(build, statistics):
    torch.manual_seed(0)
    assert before_batches(build()) == [*SETTLING, *statistics, *FIRST, *PROOF]
    assert before_batches(build()) == [*AGAIN, *statistics, *FITS_AGAIN, *PROOF_OF_TWO]


def test_an_embedding_takes_a_pass_more():
    """Its ids are compared before any is looked up, on a few probes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 3))
    ids = analyze.ProbeSet(torch.randint(9, (PROBES, 3)), torch.arange(PROBES) % 3)
    with passes.counted() as counted:
        analyze.measure(model, ids, batch_size=BATCH)
    assert "1 forward of 5 in float32: embedding_ids.refuse_ids_out_of_range" in passes.table(
        counted
    )


class Mixes(nn.Module):
    """Subtracts a share of the batch's mean."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x):
        return x - self.share * x.mean(0)


@pytest.mark.parametrize(
    ("share", "proof", "looked"),
    [
        pytest.param(1e-5, False, True, id="bits change"),
        pytest.param(3e-9, True, True, id="the proof shows it"),
        pytest.param(0.0, True, False, id="no doubt"),
    ],
)
def test_mixing_is_looked_for_in_float64_where_there_is_a_doubt(share, proof, looked):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), Mixes(share), nn.Linear(4, 3))
    vectors = analyze.ProbeSet(10 * torch.randn(PROBES, 4), torch.arange(PROBES) % 3)
    with passes.counted() as counted, refused(looked):
        analyze.measure(model, vectors, batch_size=BATCH)
    precision = {p.asked: p.precision for p in counted}
    assert precision.get("refusal.refuse_mixing") == ("float64" if looked else None)
    assert ("proving.prove" in precision) is proof


def refused(expected: bool) -> AbstractContextManager[object]:
    match = "mixes the examples"
    return pytest.raises(analyze.InputError, match=match) if expected else nullcontext()
