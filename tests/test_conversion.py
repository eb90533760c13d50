"""Weights of transformers by that library's own loading, and nothing left at random."""

from __future__ import annotations

import pytest
import torch

from analyze.checkpoints.fitting.fit import fit
from analyze.errors import CheckpointError
from analyze.models.conversion import converted

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # what that library warns of

SMALL = {"vocab_size": 20, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
BERT = transformers.BertConfig(
    **SMALL, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
    num_labels=3, max_position_embeddings=12,
)  # fmt: skip
GPT2 = transformers.GPT2Config(**SMALL, n_embd=8, n_layer=2, n_head=2, n_positions=12)
MIXTRAL = transformers.MixtralConfig(
    **SMALL, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=1, num_local_experts=2, max_position_embeddings=16,
)  # fmt: skip
MODELS = {
    "bert": (transformers.BertForSequenceClassification, BERT),
    "bare bert": (transformers.BertModel, BERT),
    "gpt2": (transformers.GPT2LMHeadModel, GPT2),
    "mixtral": (transformers.MixtralForCausalLM, MIXTRAL),
}


def model_of(name: str, seed: int = 0) -> torch.nn.Module:
    kind, config = MODELS[name]
    torch.manual_seed(seed)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape))
    return model


def old_names(state):
    """As BERT was saved once."""
    norms = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for today, before in norms.items():
        state = {key.replace(today, before): tensor for key, tensor in state.items()}
    return state


def under(prefix: str):
    return lambda state: {prefix + key: tensor for key, tensor in state.items()}


def without(start: str):
    return lambda state: {key.removeprefix(start): tensor for key, tensor in state.items()}


def masks(state):
    """GPT-2 of before, which saved its causal masks, without the head that is tied."""
    state = {k.removeprefix("transformer."): t for k, t in state.items() if "lm_head" not in k}
    triangle = torch.ones(1, 1, 12, 12).tril()
    return state | {f"h.{k}.attn.bias": triangle for k in range(2)}


def one_by_one(state):
    """Each expert for itself, as Mixtral is published."""
    found = {}
    for key, tensor in state.items():
        path, dot, leaf = key.rpartition(".")
        path = path.replace(".mlp", ".block_sparse_moe")
        for k, expert in enumerate(tensor) if path.endswith("experts") else ():
            halves = expert.chunk(2) if leaf == "gate_up_proj" else (expert,)
            names = ("w1", "w3") if leaf == "gate_up_proj" else ("w2",)
            found |= {f"{path}.{k}.{n}.weight": h for n, h in zip(names, halves, strict=True)}
        if not path.endswith("experts"):
            found[f"{path}{dot}{leaf}"] = tensor
    return found


CONVERTED = {
    "as it is": ("bert", dict, ""),
    "gamma and beta": ("bert", old_names, ""),
    "gamma and beta of DDP": ("bert", lambda s: under("module.")(old_names(s)), "module."),
    "of Lightning": ("bert", under("net."), "net."),
    "of the base model": ("bert", without("bert."), ""),
    "into the base model": ("bare bert", under("bert."), "bert."),
    "a buffer of before": (
        "bert", lambda s: s | {"bert.embeddings.position_ids": torch.arange(12)[None]}, ""),
    "masks": ("gpt2", masks, ""),
    "experts": ("mixtral", one_by_one, ""),
    "experts of today": ("mixtral", dict, ""),
}  # fmt: skip


def refused(name: str, weights) -> CheckpointError:
    with pytest.raises(CheckpointError) as error:
        fit(model_of(name, 1), weights, "step_1", "transformers:auto", convert=converted)
    return error.value


@pytest.mark.parametrize("case", CONVERTED)
def test_weights_of_any_version_of_the_library_are_loaded(no_network, case):
    name, change, prefix = CONVERTED[case]
    source, model = model_of(name), model_of(name, 1)
    weights = change(source.state_dict())
    if case.startswith("experts") and not hasattr(transformers, "conversion_mapping"):
        pytest.skip("of transformers 5")
    assert fit(model, weights, "step_1", "transformers:auto", convert=converted) == prefix
    ids = torch.arange(6)[None]
    assert torch.equal(model(input_ids=ids)[0], source(input_ids=ids)[0])


REFUSED = {
    "missing": (lambda s: s.pop("classifier.bias"), "1 of them missing: classifier.bias [3]"),
    "two missing": (
        lambda s: [s.pop(f"bert.pooler.dense.{k}") for k in ("weight", "bias")],
        "2 of them missing: bert.pooler.dense.weight [8, 8], bert.pooler.dense.bias [8]"),
    "shape": (lambda s: s.update({"classifier.weight": torch.ones(5, 8)}),
              "1 of another shape: classifier.weight [5, 8]"),
    "unknown": (lambda s: s.update(other=torch.ones(2)), "1 of them unknown: other [2]"),
    "extra state": (lambda s: s.update({"bert._extra_state": {"a": 1}}),
                    "1 of them unknown: bert._extra_state"),
    "no numbers": (lambda s: s["classifier.bias"].fill_(torch.nan), "NaN or infinity in classifie"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_library_would_fill_or_leave_out_is_refused(no_network, case):
    change, said = REFUSED[case]
    weights = dict(model_of("bert").state_dict())
    change(weights)
    error = refused("bert", weights)
    assert said in f"{error.found} {error.expected}"


def test_a_parameter_that_the_library_lets_be_missing_is_refused(no_network, monkeypatch):
    """Random numbers would stand in its place."""
    for kind in (transformers.BertForSequenceClassification, transformers.BertModel):
        monkeypatch.setattr(kind, "_keys_to_ignore_on_load_missing", ["pooler"], raising=False)
    weights = {k: t for k, t in model_of("bert").state_dict().items() if "pooler" not in k}
    assert "bert.pooler.dense.weight" in refused("bert", weights).expected


def test_tied_weights_that_differ_are_refused(no_network):
    weights = model_of("gpt2").state_dict() | {"lm_head.weight": torch.ones(20, 8)}
    assert refused("gpt2", weights).what.startswith("the checkpoint has two values for one")


def test_masks_that_the_library_does_not_know_are_named(no_network):
    weights = masks(model_of("gpt2").state_dict())
    weights |= {f"h.{k}.attn.masked_bias": torch.tensor(-1e4) for k in range(2)}
    assert "--ignore '*.attn.masked_bias'" in refused("gpt2", weights).fix


@pytest.mark.parametrize("entry", ["quantization_config", "fusion_config"])
def test_a_config_that_would_put_other_modules_in_place(no_network, entry):
    model = model_of("bert", 1)
    setattr(model.config, entry, {"quant_method": "bitsandbytes", "load_in_8bit": True})
    source = model_of("bert")
    fit(model, source.state_dict(), "step_1", "transformers:auto", convert=converted)
    assert all(map(torch.equal, model.state_dict().values(), source.state_dict().values()))
    assert hasattr(model.config, entry)


def test_nothing_is_printed(no_network, capfd):
    refused("bert", {})
    assert capfd.readouterr() == ("", "")
