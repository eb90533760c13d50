"""Models of timm and transformers: built without the network, fitted to what the zoo saves."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

import analyze
from analyze.errors import InputError
from analyze.models.building import build_model
from analyze.probes import write_probes
from analyze.specs.model import ModelSpec
from tests.conftest import assert_input_error, call

FOREIGN = pytest.mark.filterwarnings("ignore")  # what other libraries warn of


def test_the_network_is_blocked_in_these_tests(no_network):
    with pytest.raises(AssertionError, match="network was used"):
        socket.create_connection(("localhost", 80))
    assert [arguments[0] for arguments in no_network] == [("localhost", 80)]
    no_network.clear()


SPECS = [
    "builtin:small_mlp", "torchvision:resnet18", "torchvision:fcn_resnet50",
    "timm:resnet10t", "timm:vit_tiny_patch16_224",
]  # fmt: skip


@FOREIGN
@pytest.mark.parametrize("text", SPECS)
def test_no_model_is_downloaded(no_network, text):
    if text.startswith("timm"):
        pytest.importorskip("timm")
    assert isinstance(build_model(ModelSpec.parse(text)), torch.nn.Module)


# --- transformers:auto

BERT = {
    "model_type": "bert", "architectures": ["BertForSequenceClassification"], "vocab_size": 20,
    "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 12, "id2label": {"0": "a", "1": "b", "2": "c"},
}  # fmt: skip
GPT2 = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 20, "n_embd": 8,
    "n_layer": 1, "n_head": 2, "n_positions": 12,
}  # fmt: skip


def model_of(content: dict, seed: int):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    kinds = {"bert": transformers.BertConfig, "gpt2": transformers.GPT2Config}
    config = kinds[content["model_type"]].from_dict(content)
    return getattr(transformers, content["architectures"][0])(config)


def save_run(folder: Path, content: dict, steps=(5, 10)) -> Path:
    """Checkpoints as ``save_pretrained`` writes them, weights shared once."""
    for step in steps:
        model_of(content, step).save_pretrained(folder / f"checkpoint-{step}")
    return folder


def tokens(path: Path, kind: str) -> Path:
    draw = np.random.default_rng(0)
    ids = draw.integers(0, 20, (12, 6))
    targets = draw.integers(0, 3, 12) if kind == "bert" else np.roll(ids, -1, 1)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    write_probes(path, analyze.ProbeSet(inputs, targets, ["clean", "corrupted"] * 6))
    return path


@FOREIGN
@pytest.mark.parametrize(
    "content",
    [pytest.param(BERT, id="bert"), pytest.param(GPT2, id="gpt2", marks=pytest.mark.nightly)],
)
def test_a_run_of_transformers_is_measured(tmp_path, no_network, content):
    run = save_run(tmp_path / "run", content)
    probes = tokens(tmp_path / "probes.safetensors", content["model_type"])
    (run / "run.toml").write_text('[run]\nmodel = "transformers:auto"\n')
    output = tmp_path / "out.h5"
    result = call("run", str(run), "--probes", str(probes), "--folds", "2", "--device", "cpu",
                  "--output", str(output))  # fmt: skip
    assert result.exit_code == 0, result.stderr or result.exception
    tree = analyze.open_results(output)
    assert list(tree["step"].values) == [5, 10]
    assert np.isfinite(tree["network"]["m_coherence"].values).all()
    aliases = tree["parameters"]["aliases"].values.tolist()
    assert ("lm_head.weight" in aliases) == (content is GPT2)  # tied, and saved once


@FOREIGN
def test_the_model_is_that_of_the_config(tmp_path, no_network):
    run = save_run(tmp_path / "run", BERT, steps=(5,))
    (tmp_path / "run" / "checkpoint-5" / "modeling_evil.py").write_text("raise SystemExit")
    path = run / "checkpoint-5" / "config.json"
    content = json.loads(path.read_text()) | {"auto_map": {"AutoModel": "modeling_evil.Evil"}}
    path.write_text(json.dumps(content | {"dtype": "bfloat16"}))
    spec = ModelSpec("transformers:auto", "transformers", "auto", {}, path)
    model = build_model(spec)
    assert type(model).__name__ == "BertForSequenceClassification"
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.classifier.out_features == 3


FETCHING = {
    "a backbone": {"model_type": "detr", "architectures": ["DetrForObjectDetection"], "d_model": 16,
                   "backbone": "microsoft/resnet-50", "use_pretrained_backbone": True,
                   "use_timm_backbone": False},
    "a backbone of timm": {"model_type": "timm_backbone", "architectures": ["TimmBackbone"],
                           "backbone": "resnet10t", "use_pretrained_backbone": True},
    "a kernel": BERT | {"attn_implementation": "kernels-community/flash-attn"},
    "a kernel by another key": BERT | {"_attn_implementation": "kernels-community/flash-attn"},
    "a kernel inside": {"model_type": "encoder-decoder", "architectures": ["EncoderDecoderModel"],
                        "decoder": BERT, "encoder": BERT | {"attn_implementation": "a/b"}},
}  # fmt: skip


@FOREIGN
@pytest.mark.parametrize("case", FETCHING)
def test_a_config_fetches_nothing(tmp_path, no_network, monkeypatch, case):
    """Neither weights nor code: a kernel is code from a server, wherever it was fetched before."""
    pytest.importorskip("transformers")
    pytest.importorskip("timm")
    from transformers.integrations import hub_kernels

    monkeypatch.setattr(hub_kernels, "get_kernel", lambda *_, **__: pytest.fail("code was run"))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(FETCHING[case]))
    spec = ModelSpec("transformers:auto", "transformers", "auto", {}, path)
    if case == "a backbone":  # its config is on a server only
        with pytest.raises(InputError, match="says more than which model") as error:
            build_model(spec)
        assert "'microsoft/resnet-50'" in error.value.found
        return
    model = build_model(spec)
    assert "/" not in str(getattr(model.config, "_attn_implementation", ""))


@FOREIGN
def test_entries_of_a_config_are_overruled_by_name(tmp_path, no_network):
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps(BERT))
    common = ("transformers:auto?...", "transformers", "auto")
    wide = ModelSpec(*common, {"intermediate_size": 24}, tmp_path / "config.json")
    assert build_model(wide).bert.encoder.layer[0].intermediate.dense.out_features == 24
    with pytest.raises(InputError, match="no such entry"):
        build_model(ModelSpec(*common, {"intermediate_sise": 24}, tmp_path / "config.json"))


DATA = [
    "torchvision:CIFAR10?root=gone", "torchvision:FashionMNIST?root=gone", "huggingface:imdb",
    "huggingface:user/images?split=train", "folder:https://example.com/images",
]  # fmt: skip


@FOREIGN
@pytest.mark.parametrize("text", DATA)
def test_no_data_are_downloaded(no_network, tmp_path, monkeypatch, text):
    from analyze.probes.freezing.data import examples_of

    monkeypatch.chdir(tmp_path)
    if text.startswith("huggingface"):
        pytest.importorskip("datasets")
    with pytest.raises(InputError, match="data set cannot be opened"):
        examples_of(text)
    assert list(tmp_path.iterdir()) == []


@FOREIGN
def test_data_on_disk_are_read_without_the_network(no_network, tmp_path):
    datasets = pytest.importorskip("datasets")
    from analyze.probes.freezing.data import examples_of

    table = {"x": [[0.5, k] for k in range(4)], "label": [0, 1, 0, 1]}
    datasets.Dataset.from_dict(table).save_to_disk(tmp_path / "saved")
    examples = examples_of(f"huggingface:{tmp_path / 'saved'}")
    np.testing.assert_array_equal(examples.targets, [0, 1, 0, 1])
    np.testing.assert_array_equal(examples.items(np.array([3]))[0], [0.5, 3])


WRONG = {
    "type": ({"model_type": "evil"}, "model_type 'evil'"),
    "no type": ({"model_type": None}, "model_type None"),
    "class": ({"architectures": ["EvilModel"]}, "architectures ['EvilModel']"),
    "no class": ({"architectures": None}, "architectures None"),
    "no model": ({"architectures": ["BertTokenizer"]}, "architectures ['BertTokenizer']"),
    "function": ({"architectures": ["pipeline"]}, "architectures ['pipeline']"),
}


@FOREIGN
@pytest.mark.parametrize("case", WRONG)
def test_a_config_of_something_else(tmp_path, case):
    pytest.importorskip("transformers")
    changes, found = WRONG[case]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(BERT | changes))
    spec = ModelSpec("transformers:auto", "transformers", "auto", {}, path)
    with pytest.raises(InputError, match="model that transformers does not have") as error:
        build_model(spec)
    assert found in error.value.found


def test_no_config(tiny):
    result = tiny.run("--model", "transformers:auto")
    assert_input_error(result, "no config to build the model from", "config.json")


def test_transformers_has_no_other_name(tiny):
    (tiny.path / "config.json").write_text(json.dumps(BERT))
    result = tiny.run("--model", "transformers:bert-base-uncased")
    assert_input_error(result, "unknown transformers model", "transformers:auto")


def test_checkpoints_of_different_models(tmp_path):
    from analyze.models.configs import config_of
    from tests.checkpoint_files import found, hugging_face, weights

    for step, width in ((1, 8), (2, 16)):
        hugging_face(tmp_path / f"checkpoint-{step}", step, weights(step))
        content = BERT | {"hidden_size": width, "transformers_version": str(step)}
        (tmp_path / f"checkpoint-{step}" / "config.json").write_text(json.dumps(content))
    checkpoints = found(tmp_path)
    with pytest.raises(InputError, match="different models") as error:
        config_of(checkpoints, tmp_path, "transformers:auto")
    assert error.value.found.startswith("hidden_size differ")
    assert config_of(checkpoints[:1], tmp_path, "x").parent.name == "checkpoint-1"


def test_transformers_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    (tmp_path / "config.json").write_text(json.dumps(BERT))
    spec = ModelSpec("transformers:auto", "transformers", "auto", {}, tmp_path / "config.json")
    with pytest.raises(InputError, match="transformers is not installed") as error:
        build_model(spec)
    assert error.value.fix == "pip install transformers"


# --- timm


@FOREIGN
def test_a_run_of_timm_is_measured(tmp_path, no_network):
    timm = pytest.importorskip("timm")
    from timm.utils import CheckpointSaver

    model = timm.create_model("test_vit", pretrained=False, num_classes=3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    (tmp_path / "run").mkdir()
    saver = CheckpointSaver(model, optimizer, checkpoint_dir=str(tmp_path / "run"))
    for epoch in range(2):
        torch.manual_seed(epoch)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0.0, 0.1)
        saver.save_checkpoint(epoch, metric=float(epoch))
    draw = np.random.default_rng(0)
    size = model.default_cfg["input_size"]
    images = draw.standard_normal((6, *size)).astype(np.float32)
    write_probes(tmp_path / "probes.safetensors", analyze.ProbeSet(images, np.arange(6) % 3))
    tree = analyze.run(
        tmp_path / "run", model="timm:test_vit?num_classes=3", device="cpu", folds=1,
        probes=tmp_path / "probes.safetensors", output=tmp_path / "out.h5",
    )  # fmt: skip
    assert list(tree["epoch"].values) == [0, 1]
    assert np.isnan(tree["step"].values).all()
    assert np.isfinite(tree["network"]["m_coherence"].values).all()
