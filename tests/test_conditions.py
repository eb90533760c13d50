"""The conditions of a measurement, and that nothing of them is left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from analyze.gradients.conditions import RECURRENT, measuring


def settings() -> tuple[object, ...]:
    cudnn = torch.backends.cudnn
    namespace = tuple(sorted(vars(torch._VF)))
    matmul = torch.get_float32_matmul_precision()
    return cudnn.enabled, cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul, namespace


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
