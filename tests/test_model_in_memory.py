"""``run`` with a module in place of a spec, and values of the wrong type from Python."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import analyze
from analyze.models.building import build_model
from analyze.specs.model import ModelSpec
from tests.conftest import SPEC, small_probes

OPTIONS = {"device": "cpu", "folds": 2}


KEPT: dict[str, list[nn.Module]] = {}  # outside of the model, where no copy of it leads


def network() -> nn.Module:
    """The model of the tiny run, with weights of its own and in a state of its own."""
    torch.manual_seed(7)
    model = build_model(ModelSpec.parse(SPEC))
    model.train()
    next(model.parameters()).requires_grad_(False)
    return model


def test_a_module_gives_the_numbers_of_its_spec_and_stays_as_it_was(tiny, measured, tmp_path):
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    probes = small_probes()
    data = torch.utils.data.TensorDataset(
        torch.tensor(probes.inputs[""]), torch.tensor(probes.targets)
    )
    output = tmp_path / "module.h5"
    tree = analyze.run(
        tiny.path, model=model, loss=nn.CrossEntropyLoss(), probes=data, output=output, **OPTIONS
    )
    expected = analyze.run(
        tiny.path, probes=analyze.ProbeSet(probes.inputs[""], probes.targets), **OPTIONS,
        output=tmp_path / "spec.h5",
    )  # fmt: skip
    for group in ("network", "layers"):
        assert tree[group].to_dataset().equals(expected[group].to_dataset())
    assert model.training
    assert not next(model.parameters()).requires_grad
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())

    units = sorted((tmp_path / "module.h5.units").glob("*.unit"))
    times = [unit.stat().st_mtime_ns for unit in units]
    again = {"probes": data, "output": output, **OPTIONS}
    analyze.run(tiny.path, model=network(), **again)
    assert units
    assert [unit.stat().st_mtime_ns for unit in units] == times, "units of an equal model are kept"
    other = network()
    other.register_buffer("mask", torch.ones(2), persistent=False)
    with pytest.raises(analyze.InputError, match="another configuration") as caught:
        analyze.run(tiny.path, model=other, **again)
    assert "model in memory" in caught.value.found


def test_a_module_that_the_checkpoints_do_not_fit_is_refused(tiny, tmp_path):
    with pytest.raises(analyze.InputError, match="does not fit the model") as caught:
        analyze.run(tiny.path, model=nn.GRU(2, 2), output=tmp_path / "out.h5", **OPTIONS)
    assert "torch.nn.modules.rnn.GRU in memory" in caught.value.expected


def test_a_copy_that_computes_with_the_modules_own_weights_is_refused(tiny, tmp_path):
    """They are not the checkpoint's."""
    model = network()
    KEPT["model"] = [model.fc]
    model.fc.register_forward_hook(
        lambda module, args, output: KEPT["model"][0].weight.sum() + output
    )
    with pytest.raises(analyze.InputError, match="reads its weights past the modules"):
        analyze.run(
            tiny.path, model=model, output=tmp_path / "out.h5",
            **OPTIONS,
        )  # fmt: skip


def test_a_module_is_measured_in_its_own_process(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("analyze.runs.pipeline.check_place", lambda _: None)
    with pytest.raises(analyze.InputError, match="in the process that has it"):
        analyze.run(
            tiny.path, model=network(), cluster="local", output=tmp_path / "out.h5", **OPTIONS
        )


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"model": nn.Linear}, "model given is something else"),
     ({"model": 3}, "model given is something else"),
     ({"probes": 3}, "probes given are something else"), ({"loss": print}, "loss given is"),
     ({"loss": np.abs}, "loss given is something else"),
     ({"cells": None}, "cells has a value that it cannot have"), ({"cells": [1]}, "cells has a"),
     ({"folds": 2.5}, "folds has a value"), ({"checkpoints": 3}, "checkpoints has a value"),
     ({"max_probes": "5"}, "max_probes has a value"), ({"follow": "yes"}, "follow has a value"),
     ({"output": 3}, "output has a value"), ({"rename": {"a": "b"}.values()}, "renaming"),
     ({"step_regex": 7}, "step_regex has a value"), ({"device": None}, "device has a value"),
     ({"patience": True}, "patience has a value")],
    ids=str,
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_a_message(tiny, changed, message):
    with pytest.raises(analyze.InputError, match=message):
        analyze.run(tiny.path, **{"output": tiny.output, **OPTIONS, **changed})
