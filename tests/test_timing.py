"""Which of several ways is the fastest, told by scripted times: the machine's own would vary."""

from __future__ import annotations

import pytest
import torch

from analyze.gradients.device import timing
from analyze.gradients.device.devices import HOST

COMPILING = timing.COMPILING


@pytest.fixture
def fastest(monkeypatch):
    """Finds the fastest of ways by name, given the seconds of each of their runs in order.

    Also gives how many of these were used; a way that runs longer than the list stays at its last.
    """

    def of(
        budget: timing.Budget | None = None, **seconds: list[float]
    ) -> tuple[str, dict[str, int]]:
        ran = dict.fromkeys(seconds, 0)

        def once(name: str, device: torch.device) -> float:
            ran[name] += 1
            return seconds[name][min(ran[name], len(seconds[name])) - 1]

        monkeypatch.setattr(timing, "once", once)
        return timing.fastest({name: name for name in seconds}, HOST, budget=budget), ran

    return of


def test_the_best_run_counts(fastest):
    assert fastest(steady=[3.0], noisy=[9.0, 8.0, 2.0, 9.0])[0] == "noisy"


def test_the_first_run_which_may_allocate_does_not_count(fastest):
    assert fastest(first=[1.0, 3.0], second=[2.0])[0] == "second"


def test_what_cannot_be_the_fastest_runs_once(fastest):
    name, ran = fastest(quick=[1.0], hopeless=[5.0 + COMPILING])
    assert name == "quick"
    assert ran == {"quick": 1 + timing.ROUNDS, "hopeless": 1}


def test_a_first_run_that_compiles_a_kernel_is_not_held_against_it(fastest):
    compiled = COMPILING / 100
    name, _ = fastest(plain=[2 * compiled], compiled=[COMPILING, compiled])
    assert name == "compiled"


def test_what_is_slow_without_compiling_runs_twice(fastest):
    quick = COMPILING / 100
    name, ran = fastest(quick=[quick], slow=[10 * quick])
    assert name == "quick"
    assert ran["slow"] == 2


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 1), (7.0, 1), (9.0, 2), (100.0, 3)])
def test_a_budget_pays_for_rounds_and_for_one_at_least(fastest, seconds, rounds):
    budget = timing.Budget(seconds)
    name, ran = fastest(budget, quick=[1.0], slow=[2.0])
    assert name == "quick"
    assert ran == {"quick": 1 + rounds, "slow": 1 + rounds}
    assert budget.left == seconds - 3.0 * (1 + rounds)


def test_what_is_hopeless_costs_the_budget_once(fastest):
    budget = timing.Budget(10.0)
    fastest(budget, quick=[1.0], hopeless=[6.0])
    assert budget.left == 10.0 - 7.0 - 3.0
