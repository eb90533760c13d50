"""The conditions of a measurement, and that nothing of them is left behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import deterministic

import analyze
from analyze.gradients.step.conditions import RECURRENT, _precisions, measuring, threads_restored


def settings() -> tuple[object, ...]:
    cudnn = torch.backends.cudnn
    namespace = tuple(sorted(vars(torch._VF)))
    matmul = torch.get_float32_matmul_precision()
    order = torch.are_deterministic_algorithms_enabled(), deterministic.fill_uninitialized_memory
    convolutions = cudnn.enabled, cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32
    return *convolutions, matmul, namespace, order


def test_everything_is_as_before_afterwards():
    torch.set_float32_matmul_precision("medium")
    try:
        before = settings()
        with measuring():
            assert settings()[:5] == (True, True, False, False, "highest")
            with measuring():
                pass
            assert set(RECURRENT) <= vars(torch._VF).keys()
        assert settings() == before
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_model_is_measured_where_the_caller_has_gradients_off(off):
    """As in an evaluation that is decorated with either."""
    torch.manual_seed(0)
    model, probes = nn.Linear(4, 3), analyze.ProbeSet(torch.randn(8, 4), torch.arange(8) % 3)
    expected = analyze.measure(model, probes)["network"]["m_coherence"].values
    with off():
        seen = analyze.measure(model, probes)["network"]["m_coherence"].values
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (off is torch.inference_mode)
    np.testing.assert_array_equal(seen, expected)


def older(name: str) -> object:
    """A setting of the older kind, which torch may refuse to tell."""
    try:
        return {
            "products": torch.get_float32_matmul_precision,
            "cublas": lambda: torch.backends.cuda.matmul.allow_tf32,
            "cudnn": lambda: torch.backends.cudnn.allow_tf32,
        }[name]()
    except RuntimeError:
        return "contradiction"


def precisions() -> list[object]:
    newer: list[object] = [place.fp32_precision for place in _precisions()]
    return newer + [older(name) for name in ("products", "cublas", "cudnn")]


@pytest.fixture
def as_at_first():
    kept = [place.fp32_precision for place in _precisions()]
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    for place, value in zip(_precisions(), kept, strict=True):
        place.fp32_precision = value


@pytest.mark.parametrize(
    "settings",
    [{}, {"": "tf32"}, {"": "ieee"}, {"cuda.matmul": "tf32"}, {"cuda.matmul": "ieee"},
     {"cudnn": "tf32"}, {"cudnn": "ieee"}, {"cudnn.conv": "ieee"}, {"cudnn.rnn": "ieee"},
     {"mkldnn": "tf32"}, {"mkldnn.matmul": "bf16"}, {"older": "medium"},
     {"older": "high", "cudnn.conv": "ieee"}, {"older": "high", "cuda.matmul": "ieee"}],
    ids=str,
)  # fmt: skip
def test_every_setting_of_precision_is_as_before_afterwards(settings, as_at_first):
    for path, value in settings.items():
        if path == "older":
            torch.set_float32_matmul_precision(value)
        else:
            place = torch.backends
            for part in path.split(".") if path else ():
                place = getattr(place, part)
            place.fp32_precision = value
    before = precisions()
    with measuring():
        assert precisions() == ["ieee"] * 9 + ["highest", False, False]
        with torch.backends.cudnn.flags(enabled=False):  # as models do that cuDNN cannot run
            pass
    assert precisions() == before


@pytest.mark.parametrize(
    ("name", "layer"),
    [("lstm", nn.LSTM(2, 3)), ("gru", nn.GRU(2, 3)), ("rnn_tanh", nn.RNN(2, 3)),
     ("rnn_relu", nn.RNN(2, 3, nonlinearity="relu"))],
)  # fmt: skip
def test_recurrent_layers_run_without_cudnn_and_only_they(name, layer, monkeypatch):
    seen = []
    function = getattr(torch, name)

    def watched(*args):
        seen.append(torch.backends.cudnn.enabled)
        return function(*args)

    monkeypatch.setattr(torch, name, watched)
    expected = layer(torch.ones(4, 1, 2))[0]
    with measuring():
        found = layer(torch.ones(4, 1, 2))[0]
        assert torch.backends.cudnn.enabled
    assert seen == [False]
    assert torch.equal(found, expected)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="where its kernels would get slow")
def test_rows_that_are_looked_up_are_summed_in_one_order_by_several_threads():
    """Torch by itself gives other bits in about every second pass."""
    torch.manual_seed(0)
    table, values = torch.zeros(10, 8, requires_grad=True), torch.randn(100_000, 8)
    ids = torch.randint(10, (100_000,))

    def gradient() -> torch.Tensor:
        return torch.autograd.grad((table[ids] * values).sum(), table)[0]

    with threads_restored(), measuring():
        torch.set_num_threads(2)
        first = gradient()
        assert all(torch.equal(gradient(), first) for _ in range(20))


def test_what_a_user_set_of_the_order_of_sums_stays():
    torch.use_deterministic_algorithms(True)
    try:
        with measuring():
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
