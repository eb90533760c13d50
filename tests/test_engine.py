"""The engine against the oracle, over the list of cases, and identities that need no oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import analyze
from tests import oracle
from tests.agreement import TIGHT, assert_exact, measured, zero_to_rounding
from tests.cases import CASES, NAMED, Case, settled
from tests.conftest import DEVICE
from tests.nightly import variants


def batched() -> list[tuple[Case, int | str]]:
    """The cases, each in batches of three and in as large ones as are fast."""
    return [(case, size) for case in CASES for size in (3, "auto")]


def reached(case: Case, size: int | str) -> set[str]:
    """Every case in batches of three, every rule in larger ones as well."""
    return {("", case.name)} if size == 3 else {(rule, "auto") for rule in case.rules}


@pytest.mark.parametrize(("case", "batch_size"), variants(batched(), reached))
def test_agrees_with_one_example_at_a_time_by_the_expected_method(case, batch_size):
    """Gram matrices and squared norms, and each example's loss and squared norm."""
    tree, expected = assert_exact(case, batch_size=batch_size)
    examples = tree["examples"].to_dataset().isel(checkpoint=0)
    np.testing.assert_allclose(examples["loss"], expected.loss, rtol=TIGHT, atol=1e-12)
    zero = set(zero_to_rounding(tree))
    total = np.nansum([v for name, v in expected.per_example.items() if name not in zero], axis=0)
    np.testing.assert_allclose(examples["gradient_sqnorm"].sum("layer"), total, rtol=1e-6)


def test_every_run_measures_every_case():
    often = {p.values[0].name for p in variants(batched(), reached) if not p.marks}
    assert often == NAMED.keys()


def test_rounding_is_not_gradient():
    tree, _ = measured(NAMED["unused"])
    assert "inner.bias" in zero_to_rounding(tree)
    parameters = tree["parameters"].to_dataset().isel(checkpoint=0)
    assert np.isnan(parameters["gradient_sqnorm"].sel(parameter="spare.weight")).all()
    layers = tree["layers"].to_dataset().isel(checkpoint=0).sel(subset="all")
    assert np.isnan(layers["norm_of_mean_gradient"].sel(layer="spare"))
    assert np.isnan(layers["m_coherence"].sel(layer="spare"))


def of_real_numbers() -> list[Case]:
    """The cases whose loss and gradients ``double()`` does not change."""
    return [case for case in CASES if case.name not in ("caching", "complex-filter")]


@pytest.mark.parametrize("case", variants(of_real_numbers(), lambda case: case.rules))
def test_sums_to_the_batch_gradient(case):
    """The norm of the mean gradient of ``all`` is that of one ordinary backward pass."""
    model, inputs, targets = settled(case)
    tree = analyze.measure(
        model, analyze.ProbeSet(inputs, targets), precision="float64", device=DEVICE,
        batch_norm="saved", folds=1,
    )  # fmt: skip
    model = model.double()
    model.zero_grad(set_to_none=True)
    oracle.cross_entropy(
        oracle.call(model, oracle.as_dtype(inputs, torch.float64)), targets
    ).backward()
    grads = [p.grad.to_dense().flatten() for p in model.parameters() if p.grad is not None]
    expected = float(torch.cat(grads).norm()) / len(targets)
    found = float(tree["network"]["norm_of_mean_gradient"].sel(subset="all").item())
    assert found == pytest.approx(expected, rel=TIGHT)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_identical_and_orthogonal_examples(precision):
    """All equal: m. Orthogonal: 1, also with unequal norms."""
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 3, bias=False)
    same = torch.randn(1, 6).expand(5, 6).clone()
    orthogonal = torch.diag(torch.arange(1.0, 7.0))[:5]
    targets = torch.ones(5, dtype=torch.int64)
    for inputs, expected in ((same, 5.0), (orthogonal, 1.0)):
        tree = analyze.measure(
            model, analyze.ProbeSet(inputs, targets), precision=precision, device=DEVICE
        )
        found = float(tree["network"]["m_coherence"].sel(subset="all").item())
        assert found == pytest.approx(expected, rel=1e-6)


def test_one_fold_gives_no_standard_error():
    tree, _ = measured(CASES[0], folds=1)
    assert np.isnan(tree["network"]["m_coherence_stderr"]).all()
    assert np.isfinite(tree["network"]["m_coherence"]).all()


def test_the_model_is_left_as_it_was():
    model, inputs, targets = settled(NAMED["called-twice"])
    model.train()
    model.norm.eval()
    model.inner.weight.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    analyze.measure(model, analyze.ProbeSet(inputs, targets), device="cpu")
    assert model.training
    assert not model.norm.training
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["inner.weight"]
    assert [n for n, p in model.named_parameters() if p.grad is not None] == ["head.weight"]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"model": "resnet18"}, "model given is something else"),
     ({"probes": {"x": 1}}, "probes given are something else"),
     ({"loss": print}, "loss given is something else"),
     ({"directions": None}, "directions has a value that it cannot have"),
     ({"progress": True}, "progress given is something else"),
     ({"tune": "no"}, "tune has a value that it cannot have"),
     ({"folds": "3"}, "folds has a value"), ({"folds": 0}, "folds has a value"),
     ({"precision": "float16"}, "precision has a value"), ({"batch_size": 0}, "batch_size has"),
     ({"batch_norm": "train"}, "batch_norm has a value"), ({"device": "gpu"}, "no such device")],
    ids=str,
)  # fmt: skip
def test_refuses_arguments_that_mean_nothing(changed, message):
    model, inputs, targets = settled(CASES[0])
    arguments = {"model": model, "probes": analyze.ProbeSet(inputs, targets), **changed}
    with pytest.raises(analyze.InputError, match=message):
        analyze.measure(arguments.pop("model"), arguments.pop("probes"), **arguments)
