"""Every algorithm of a form gives the same numbers, whichever the timing would choose."""

from __future__ import annotations

import pytest
import torch

from analyze.gradients.forms import Explicit, OuterProducts, ScatteredRows, Sum, combined
from tests import oracle
from tests.cases import CASES
from tests.test_engine import TIGHT, measured, zero_to_rounding

WITH_OUTER_PRODUCTS = [
    case
    for case in CASES
    if any("conv" in m or "linear" in m for m in case.methods.values())
]  # fmt: skip


@pytest.mark.parametrize("algorithm", ["direct", "singly", "gram", "alone", "grouped"])
@pytest.mark.parametrize("case", WITH_OUTER_PRODUCTS, ids=lambda case: case.name)
def test_forced_algorithms_agree_with_the_oracle(case, algorithm, monkeypatch):
    monkeypatch.setattr(OuterProducts, "algorithms", (algorithm,))
    tree, expected = measured(case)
    parameters = tree["parameters"].to_dataset().isel(checkpoint=0)
    for name in set(expected.gram) - set(zero_to_rounding(tree)):
        at = parameters.sel(parameter=name)
        if name in case.methods:
            assert at["method"].item() == case.methods[name], "demoted: the algorithm is wrong"
        gram = oracle.scaled_gram_error(at["gradient_gram"].values, expected.gram[name])
        norms = oracle.relative_error(at["gradient_sqnorm"].values, expected.squared_norms[name])
        assert max(gram, norms) < TIGHT, name


def forms() -> list:
    torch.manual_seed(0)
    rows = torch.randint(4, (5, 3))
    scattered = ScatteredRows(rows, torch.randn(5, 3, 2, dtype=torch.float64), 4)
    explicit = Explicit(torch.randn(5, 4, 2, dtype=torch.float64))
    x, dy = torch.randn(5, 1, 6, 2).double(), torch.randn(5, 1, 6, 4).double()
    outer = OuterProducts(
        5, torch.Size((4, 2)), (1, 6, 4, 2), lambda a, b: (x[a:b], dy[a:b]),
        lambda: torch.einsum("ngto,ngtk->ok", dy, x), x,
    )  # fmt: skip
    return [explicit, scattered, outer]


@pytest.mark.parametrize("second", range(3))
@pytest.mark.parametrize("first", range(3))
def test_forms_of_any_kind_add_up(first, second):
    """A parameter used in two ways: the cross term counts."""
    a, b = forms()[first], forms()[second]
    expected = a.explicit(0, 5) + b.explicit(0, 5)
    both = combined([a, b])
    for algorithm in both.algorithms:
        total, norms = both.summarise(algorithm)
        torch.testing.assert_close(total, expected.sum(0))
        torch.testing.assert_close(norms, expected.flatten(1).square().sum(1))


def test_an_unknown_algorithm_is_refused():
    with pytest.raises(ValueError, match="no algorithm 'magic'"):
        Sum(tuple(forms())).summarise("magic")


def test_tiny_gradients_do_not_underflow():
    """Squares of 1e-30 are below float32's smallest number."""
    _, norms = Explicit(torch.full((2, 3), 1e-30)).summarise()
    torch.testing.assert_close(
        norms, torch.full((2,), 3e-60, dtype=torch.float64), rtol=1e-6, atol=0
    )
