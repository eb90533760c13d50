"""Some layers and parameters alone: the same numbers as among all, and less work."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

import analyze
from analyze.gradients.step.collector import Collector
from tests.conftest import TinyRun, small_probes


def measured(tiny: TinyRun, **selection):
    return analyze.run(
        tiny.path, precision="float64", device="cpu", batch_size=8,
        output=tiny.path.parent / "selected.h5", restart=True, **selection,
    )  # fmt: skip


def test_selected_rows_are_those_of_a_full_run(tiny):
    full = measured(tiny)["parameters"].to_dataset()
    some = measured(tiny, layers=["hidden*"], parameters=["*.weight"])
    own = some["parameters"].to_dataset()
    expected = [
        name
        for name, layer in zip(full["parameter"].values, full["layer"].values, strict=True)
        if layer == "hidden" and name.endswith(".weight")
    ]
    assert [*own["parameter"].values] == expected
    assert 0 < len(expected) < full.sizes["parameter"]
    for variable in ("gradient_gram", "gradient_sqnorm"):
        np.testing.assert_allclose(own[variable], full[variable].sel(parameter=expected), rtol=1e-9)


def test_the_network_is_the_sum_of_what_was_selected(tiny):
    some = measured(tiny, layers=["fc"])
    np.testing.assert_allclose(
        some["network"]["m_coherence"], some["layers"]["m_coherence"].sel(layer="fc"), rtol=1e-12
    )


def test_no_gradient_is_computed_for_the_rest(tiny, monkeypatch):
    seen = []
    original = Collector._summarise

    def noted(self, name):
        seen.append(name)
        return original(self, name)

    monkeypatch.setattr(Collector, "_summarise", noted)
    measured(tiny, layers=["fc"])
    assert set(seen) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("option", ["layers", "parameters"])
def test_a_glob_that_matches_nothing_is_refused(tiny, option):
    with pytest.raises(analyze.InputError, match=f"none of the {option} asked for") as refusal:
        measured(tiny, **{option: ["encoder.*"]})
    assert f"--{option} 'encoder.*'" in refusal.value.found


def test_layers_and_parameters_that_nothing_has_both_of_are_refused(tiny):
    with pytest.raises(analyze.InputError, match="layers asked for and among") as refusal:
        measured(tiny, layers=["fc"], parameters=["hidden.*"])
    assert refusal.value.found == "--layers fc and --parameters hidden.*"


def test_a_model_without_parameters_is_refused():
    with pytest.raises(analyze.InputError, match="the model has no parameter"):
        analyze.measure(nn.Flatten(), small_probes())
