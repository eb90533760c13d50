"""Float32 products are float32 inside a measurement, and all settings are as before after it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from analyze.gradients.step.conditions import measuring
from tests.precision_states import PLACES, place, told

FULL = ["ieee"] * len(PLACES) + ["highest", False, False]


@pytest.mark.parametrize("step", [41, pytest.param(1, marks=pytest.mark.nightly)])
def test_settings_of_precision_are_off_inside_and_as_before_afterwards(step):
    """By old flags, by new ones or both; also after an exception, or where a model sets some."""
    command = [sys.executable, "-m", "tests.precision_states", str(step)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stderr == ""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) * step > 500
    for line in lines:
        untouched = line["found"].pop("without")
        for how, found in line["found"].items():
            assert found["after"] == untouched["after"], (line["settings"], how)
            inside = FULL * 2 if how == "model" else FULL
            assert found["inside"] == inside, (line["settings"], how)


@pytest.fixture
def as_at_first():
    yield
    torch.set_float32_matmul_precision("highest")
    for path in ("mkldnn.matmul", "cuda.matmul", ""):
        place(path).fp32_precision = "none"


@pytest.mark.parametrize(
    "ask",
    [lambda: torch.set_float32_matmul_precision("medium"),
     lambda: setattr(place("mkldnn.matmul"), "fp32_precision", "bf16"),
     lambda: setattr(torch.backends, "fp32_precision", "bf16")],
    ids=["older", "matmul", "generic"],
)  # fmt: skip
def test_products_are_exact_inside(ask: Callable[[], None], as_at_first):
    """On processors that multiply bfloat16 numbers, those outside are not."""
    torch.manual_seed(0)
    a, b = torch.randn(256, 256), torch.randn(256, 256)
    exact = (a.double() @ b.double()).float()
    ask()
    with measuring():
        torch.testing.assert_close(a @ b, exact, rtol=0.0, atol=1e-4)


def test_what_cudnn_allows_can_be_read_where_settings_contradict_each_other(as_at_first):
    torch.backends.fp32_precision = "ieee"
    flag = torch.backends.cudnn
    assert told(lambda: flag.allow_tf32) == "contradiction"
    with measuring():
        assert flag.allow_tf32 is False
    assert told(lambda: flag.allow_tf32) == "contradiction"
