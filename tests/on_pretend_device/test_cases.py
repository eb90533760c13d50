"""The list of cases on the device: numbers are the oracle's, by the very methods of a CPU.

A rule that cannot run there would be right all the same, by a slower method.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from analyze.gradients.device.memory import let_go
from analyze.gradients.established import ESTABLISHED
from tests.agreement import assert_exact
from tests.cases import CASES, Case
from tests.nightly import variants
from tests.pretend_device import device as pretend

FIRST, SECOND = "pretend", "pretend:1"
WHERE = ("analyze/gradients/rules/", "analyze/gradients/forms/")
COUNTING = "forms/scattered_rows.py"
LAST = 8  # bytes of the last pass of a thread of autograd, which may hold them a moment longer


def by_device() -> list[tuple[Case, str]]:
    return [(case, device) for device in (FIRST, SECOND) for case in CASES]


def methods(case: Case, device: str) -> set[str]:
    """Each method on the first device; a few of them on the other."""
    names = {method.removesuffix(", derived") for method in case.methods.values()}
    return names if device == FIRST else names & {"conv", "batch_norm", "embedding", "vmap(grad)"}


@pytest.fixture(autouse=True)
def _nothing_stays_on_the_devices() -> Iterator[None]:
    """No model, batch or graph outlives the measurement."""
    before = held()
    yield
    ESTABLISHED.forget()
    assert all(now - then <= LAST for then, now in zip(before, held(), strict=True))


@pytest.fixture(autouse=True)
def _no_rule_makes_the_host_wait() -> Iterator[None]:
    """But where it has to be known how many rows were looked up."""
    before = waits_in_rules()
    yield
    assert [place for place in waits_in_rules() - before if COUNTING not in place] == []


def waits_in_rules() -> Counter[str]:
    """What rules and forms have made the host wait for, and where."""
    at = {place: n for place, n in pretend.waits.items() if any(p in place for p in WHERE)}
    return Counter(at)


def held() -> list[int]:
    """Bytes on each device that something is in that is no garbage."""
    gc.collect()
    for name in (FIRST, SECOND):  # autograd's own threads are done with what was there
        let_go(Exception(), torch.device(name))
    return [pretend.held(0), pretend.held(1)]


@pytest.mark.parametrize(("case", "device"), variants(by_device(), methods))
def test_numbers_are_exact_by_the_expected_methods(case, device):
    assert_exact(case, device=device, batch_size=3)
