"""Modules that were compiled, pruned or reparametrised compute what they did."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.utils import prune

import analyze
from tests import oracle
from tests.agreement import assert_agrees
from tests.small_models import EXAMPLES, SETTINGS, Small, assert_measures, built, examples


class _Scales(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x)) * self.scale)


class _CompiledMethod(Small):
    @torch.compile(backend="eager")
    def between(self, x: Tensor) -> Tensor:
        return torch.tanh(x) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.between(self.first(x)))


def compiled_forward():
    model = Small()
    model.forward = torch.compile(model.forward, backend="eager")
    return model


def compiled_model():
    return torch.compile(Small(), backend="eager")


def compiled_in_place():
    model = Small()
    model.compile(backend="eager")
    return model


def compiled_part():
    model = Small()
    model.first = torch.compile(model.first, backend="eager")
    return model


@pytest.mark.parametrize(
    ("build", "alike"),
    [(compiled_forward, Small), (compiled_in_place, Small), (_CompiledMethod, _Scales)],
)
def test_compiled_models_are_measured_as_they_were_written(build, alike):
    assert_measures(build, alike)


@pytest.mark.parametrize("build", [compiled_model, compiled_part])
def test_compiled_parts_are_measured_as_they_were_written(build):
    assert_measures(build)


def pruned():
    model = Small()
    prune.l1_unstructured(model.first, "weight", 0.5)
    prune.ln_structured(model.head, "weight", 0.4, n=2, dim=0)
    prune.random_unstructured(model.head, "weight", 0.2)  # a container of both
    return model


def pruned_and_run():
    model = pruned().double()
    model(examples()[0])
    return model


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("build", [pruned, pruned_and_run])
def test_pruned_models(build):
    assert_measures(build)


def test_a_run_of_a_pruned_model(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "pruned.py").write_text(
        "from tests.test_rewritten_modules import pruned\n\n\ndef net():\n    return pruned()\n"
    )
    model = built(pruned)
    torch.save(model.state_dict(), tmp_path / "run" / "step_1.pt")
    tree = analyze.run(
        tmp_path / "run", model=f"{tmp_path / 'pruned.py'}:net",
        probes=analyze.ProbeSet(*examples()), output=tmp_path / "out.h5",
        **(SETTINGS | {"batch_size": 4}),
    )  # fmt: skip
    assert_agrees(tree, oracle.statistics(model, *examples(), [0] * EXAMPLES, 1, copied=False))
