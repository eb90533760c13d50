"""Whose a row of a call is, found by the backward pass of the batch itself."""

from __future__ import annotations

import pytest
import torch

import analyze
from analyze.gradients.plan import FALLBACKS
from analyze.gradients.step import tracing
from analyze.gradients.step.tracing import RowsMixExamplesError, factors, owners, passes
from tests.agreement import SETTINGS, assert_agrees, measured
from tests.cases import EXAMPLES, NAMED
from tests.cases.routing import Unpadded

TRACED = ["packed-sequence", "experts", "experts-of-tokens", "unpadded", "routed"]


def test_passes_tell_all_examples_apart():
    assert [passes(n) for n in (1, 64, 65, 4096, 4097)] == [1, 1, 2, 2, 3]


def gradients(of_row: torch.Tensor, count: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Rows of very different size, and what they are in each pass."""
    generator = torch.Generator().manual_seed(0)
    dy = torch.randn(len(of_row), 3, generator=generator)
    dy = dy * 10.0 ** torch.randint(-20, 5, (len(of_row), 1), generator=generator)
    seed = torch.ones(count, 1)
    return dy, [dy * factors(seed, digit)[of_row] for digit in range(passes(count))]


@pytest.mark.parametrize("count", [1, 2, 64, 100, 5000])
def test_each_row_has_its_example(count):
    of_row = torch.randint(count, (3 * count,), generator=torch.Generator().manual_seed(1))
    dy, multiples = gradients(of_row, count)
    assert owners(dy, multiples).tolist() == of_row.tolist()


def test_a_row_without_gradient_belongs_to_none():
    dy, multiples = gradients(torch.tensor([3, 0, 1]), 4)
    for value in (dy, *multiples):
        value[1] = 0.0
    assert owners(dy, multiples).tolist() == [3, -1, 1]


@pytest.mark.parametrize(("one", "other"), [(0, 1), (5, 63), (2, 70)])
def test_a_row_of_several_examples_is_noticed(one, other):
    count = 80
    dy, multiples = gradients(torch.tensor([4, one, other]), count)
    share = 0.01 * dy[0].norm() / dy[2].norm()
    for value in (dy, *multiples):
        value[0] += share * value[2]
    with pytest.raises(RowsMixExamplesError, match="several"):
        owners(dy, multiples)


def test_more_examples_than_one_pass_tells_apart():
    torch.manual_seed(0)
    model = Unpadded().eval()
    probes = analyze.ProbeSet(torch.randint(5, (70, 4)), torch.randint(4, (70,)))
    found, expected = (
        analyze.measure(model, probes, **(SETTINGS | {"batch_size": size})) for size in (70, 8)
    )
    for name in ("gradient_gram", "gradient_sqnorm"):
        ours, theirs = found["parameters"][name].values, expected["parameters"][name].values
        assert abs(ours - theirs).max() < 1e-9 * abs(theirs).max()
    assert "rows traced" in found["parameters"]["method"].sel(parameter="inner.weight").item()


@pytest.mark.parametrize("name", TRACED)
def test_rows_given_to_other_examples_are_found_out(name, monkeypatch):
    monkeypatch.setattr(
        tracing, "owners", lambda *given: (owners(*given) + 1).remainder(EXAMPLES).clamp_max(1)
    )
    tree, expected = measured(NAMED[name])
    assert set(tree["parameters"]["method"].values) & set(map(str, FALLBACKS))
    assert_agrees(tree, expected)


@pytest.mark.parametrize("name", TRACED)
def test_in_single_precision(name):
    tree, expected = measured(NAMED[name], precision="float32")
    parameters = tree["parameters"].to_dataset().isel(checkpoint=0)
    for parameter, squares in expected.squared_norms.items():
        found = parameters["gradient_sqnorm"].sel(parameter=parameter).values
        assert abs(found - squares).max() < 1e-3 * squares.max() + 1e-9, parameter
