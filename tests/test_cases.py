"""The list of cases is itself tested for gaps."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from analyze.gradients.plan import Method, Plan
from analyze.gradients.rules import RULES
from tests import oracle
from tests.cases import CASES, settled

# Every constructor option of the layers that rules measure: somebody decided what it does to the
# gradient. A new option of torch makes the test below fail.
CONVOLUTION = {
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
    "bias", "padding_mode",
}  # fmt: skip
TRANSPOSED = CONVOLUTION | {"output_padding"}
RECURRENT = {
    "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional",
    "proj_size", "mode", "nonlinearity", "args", "kwargs",
}  # fmt: skip
BATCH_NORM = {"num_features", "eps", "momentum", "affine", "track_running_stats", "bias"}
DECIDED = {
    nn.Conv1d: CONVOLUTION,
    nn.Conv2d: CONVOLUTION,
    nn.Conv3d: CONVOLUTION,
    nn.ConvTranspose1d: TRANSPOSED,
    nn.ConvTranspose2d: TRANSPOSED,
    nn.ConvTranspose3d: TRANSPOSED,
    nn.InstanceNorm1d: BATCH_NORM,
    nn.InstanceNorm2d: BATCH_NORM,
    nn.InstanceNorm3d: BATCH_NORM,
    nn.Linear: {"in_features", "out_features", "bias"},
    nn.BatchNorm1d: BATCH_NORM,
    nn.BatchNorm2d: BATCH_NORM,
    nn.BatchNorm3d: BATCH_NORM,
    nn.LayerNorm: {"normalized_shape", "eps", "elementwise_affine", "bias"},
    nn.GroupNorm: {"num_groups", "num_channels", "eps", "affine", "bias"},
    nn.RMSNorm: {"normalized_shape", "eps", "elementwise_affine"},
    nn.Embedding: {
        "num_embeddings", "embedding_dim", "padding_idx", "max_norm", "norm_type",
        "scale_grad_by_freq", "sparse",
    },
    nn.EmbeddingBag: {
        "num_embeddings", "embedding_dim", "padding_idx", "max_norm", "norm_type",
        "scale_grad_by_freq", "sparse", "mode", "include_last_offset",
    },
    nn.MultiheadAttention: {
        "embed_dim", "num_heads", "dropout", "bias", "add_bias_kv", "add_zero_attn", "kdim",
        "vdim", "batch_first",
    },
    nn.LSTM: RECURRENT,
    nn.GRU: RECURRENT,
    nn.RNN: RECURRENT,
    nn.LSTMCell: {"input_size", "hidden_size", "bias"},
    nn.GRUCell: {"input_size", "hidden_size", "bias"},
    nn.RNNCell: {"input_size", "hidden_size", "bias", "nonlinearity"},
}  # fmt: skip


def test_names_are_unique():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


def test_every_rule_has_a_case():
    used = set().union(*(case.rules for case in CASES))
    assert {rule.name for rule in RULES.values()} <= used


@pytest.mark.parametrize("layer_type", DECIDED, ids=lambda t: t.__name__)
def test_every_layer_option_is_decided(layer_type):
    ignored = {"device", "dtype", "_weight", "_freeze"}
    options = set(inspect.signature(layer_type).parameters) - ignored
    assert options <= DECIDED[layer_type], options - DECIDED[layer_type]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_has_a_gradient_to_compare(case):
    """A case whose parameters all have zero gradient would prove nothing."""
    model, inputs, targets = settled(case)
    output = oracle.call(model, inputs)
    loss = nn.functional.cross_entropy(output.flatten(0, -2), targets.flatten())
    loss.backward()
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    assert torch.stack(norms).max() > 1e-3


def test_plans_know_their_fallbacks():
    methods = {"a": "linear", "b": "vmap(grad)", "c": "never used"}
    plan = Plan((), {n: Method.parse(text) for n, text in methods.items()}, tuple(methods))
    assert plan.by_rule == ["a"]
    demoted = plan.demoted({"a", "b", "c"})
    assert demoted.named_methods == {"a": "vmap(grad)", "b": "one at a time", "c": "vmap(grad)"}
