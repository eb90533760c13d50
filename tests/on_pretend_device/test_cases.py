"""The list of cases on the device: numbers are the oracle's, by the very methods of a CPU.

A rule that cannot run there would be right all the same, by a slower method.
"""

from __future__ import annotations

import pytest

from tests.agreement import assert_exact
from tests.cases import CASES, Case
from tests.nightly import variants

FIRST, SECOND = "pretend", "pretend:1"


def by_device() -> list[tuple[Case, str]]:
    return [(case, device) for device in (FIRST, SECOND) for case in CASES]


def methods(case: Case, device: str) -> set[str]:
    """Each method on the first device; a few of them on the other."""
    names = {method.removesuffix(", derived") for method in case.methods.values()}
    return names if device == FIRST else names & {"conv", "batch_norm", "embedding", "vmap(grad)"}


@pytest.mark.parametrize(("case", "device"), variants(by_device(), methods))
def test_numbers_are_exact_by_the_expected_methods(case, device):
    assert_exact(case, device=device, batch_size=3)
