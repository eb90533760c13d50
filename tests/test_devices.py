"""Which device a name means on machines that have others than this one."""

from __future__ import annotations

import pytest
import torch

from analyze.errors import InputError
from analyze.gradients.device.devices import resolve_device

FLOAT32, FLOAT64 = torch.float32, torch.float64


@pytest.fixture
def has(monkeypatch):
    """Let the machine have some devices besides its CPU."""

    def having(*names: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in names)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: names.count("cuda"))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in names)

    return having


@pytest.mark.parametrize(
    ("devices", "dtype", "expected"),
    [((), FLOAT32, "cpu"), (("cuda",), FLOAT32, "cuda"), (("cuda",), FLOAT64, "cuda"),
     (("mps",), FLOAT32, "mps"), (("mps",), FLOAT64, "cpu")],
    ids=str,
)  # fmt: skip
def test_auto_is_the_fastest_that_has_the_numbers(has, devices, dtype, expected):
    has(*devices)
    assert resolve_device("auto", dtype) == torch.device(expected)


def test_gpus_are_numbered(has):
    has("cuda", "cuda")
    assert resolve_device("cuda:1", FLOAT64) == torch.device("cuda:1")
    with pytest.raises(InputError, match="one of cpu, cuda, cuda:0, cuda:1 on"):
        resolve_device("cuda:2", FLOAT32)


def test_a_device_without_float64_is_refused_for_it(has):
    has("mps")
    assert resolve_device("mps", FLOAT32).type == "mps"
    with pytest.raises(InputError, match="'mps' with precision 'float64'"):
        resolve_device("mps", FLOAT64)
