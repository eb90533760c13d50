"""The conditions of a measurement, and that nothing of them is left behind."""

from __future__ import annotations

import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import deterministic

import analyze
from analyze.gradients.step import conditions
from analyze.gradients.step.conditions import RECURRENT, measuring, threads_restored


def settings() -> tuple[object, ...]:
    cudnn = torch.backends.cudnn
    namespace = tuple(sorted(vars(torch._VF)))
    matmul = torch.get_float32_matmul_precision()
    order = (
        torch.are_deterministic_algorithms_enabled(),
        deterministic.fill_uninitialized_memory,
        torch.backends.cuda.mem_efficient_sdp_enabled(),
    )
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


@pytest.mark.parametrize("asked", [False, True])
def test_on_a_gpu_sums_have_a_fixed_order_if_the_user_asks_for_it(asked, monkeypatch):
    """By the variable that cuBLAS needs for it, without which torch would warn at each product."""
    gpu, workspace = torch.device("cuda:0"), "CUBLAS_WORKSPACE_CONFIG"
    monkeypatch.setattr(conditions, "current", lambda device: nullcontext())
    monkeypatch.setenv(workspace, ":4096:8") if asked else monkeypatch.delenv(workspace, False)
    before = settings()
    with measuring(gpu):
        assert torch.are_deterministic_algorithms_enabled() == asked
        assert torch.backends.cuda.mem_efficient_sdp_enabled() != asked
        with measuring():  # another thread, on the CPU
            assert torch.are_deterministic_algorithms_enabled()
        assert torch.are_deterministic_algorithms_enabled() == asked
    assert settings() == before


def test_operations_without_a_fixed_order_run_and_do_not_warn():
    with measuring():
        for message in ("cumsum does not have a deterministic implementation, but you set",
                        "There is a performance drop because", "Memory Efficient attention "
                        "defaults to a non-deterministic algorithm."):  # fmt: skip
            warnings.warn(message, UserWarning, stacklevel=1)
    with pytest.warns(UserWarning, match="cumsum"):
        warnings.warn("cumsum does not have a deterministic implementation", stacklevel=1)


def test_what_a_user_set_of_the_order_of_sums_stays():
    torch.use_deterministic_algorithms(True)
    try:
        with measuring():
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
