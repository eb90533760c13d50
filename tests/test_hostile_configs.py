"""The ``config.json`` of a checkpoint from anyone: it names an architecture and its sizes."""

from __future__ import annotations

import builtins
import json
import re

import pytest
import torch
from torch import nn

from analyze.errors import InputError
from analyze.models import configs
from analyze.models.building import build_model
from analyze.models.sizes import check_size
from analyze.specs.model import ModelSpec
from tests.conftest import assert_three_facts
from tests.test_model_zoos import BERT, FOREIGN, GPT2

TIMM = {"model_type": "timm_wrapper", "architectures": ["TimmWrapperForImageClassification"],
        "architecture": "resnet10t", "num_classes": 2, "label_names": ["a", "b/c"]}  # fmt: skip
BACKBONE = {"model_type": "timm_backbone", "architectures": ["TimmBackbone"],
            "backbone": "resnet10t"}  # fmt: skip
DETR = {"model_type": "detr", "architectures": ["DetrForObjectDetection"]}


def spec_of(folder, content, **arguments) -> ModelSpec:
    path = folder / "config.json"
    path.write_text(json.dumps(content))
    return ModelSpec("transformers:auto", "transformers", "auto", arguments, path)


OPENING = {
    "weights for timm": TIMM | {"model_args": {"checkpoint_path": "SECRET"}},
    "a server for timm": TIMM | {"model_args": {"pretrained": True}},
    "settings for timm": TIMM | {"model_args": {"pretrained_cfg_overlay": {"file": "SECRET"}}},
    "a word for timm": TIMM | {"model_args": {"block_fn": "os.system"}},
    "no arguments for timm": TIMM | {"model_args": ["SECRET"]},
    "a folder for timm": TIMM | {"architecture": "local-dir:SECRET"},
    "a path for timm": TIMM | {"architecture": "SECRET"},
    "a backbone in a folder": BACKBONE | {"backbone": "local-dir:SECRET"},
    "a folder here": DETR | {"backbone": "folder", "use_timm_backbone": True},
    "inside another": DETR | {"backbone_config": TIMM | {"model_args": {"cache_dir": "SECRET"}}},
    "inside a list": DETR | {"more": [[BACKBONE | {"backbone": "../x"}]]},
    "of a backbone": DETR | {"backbone": "resnet10t", "backbone_kwargs": {"checkpoint_path": "S"}},
}


@FOREIGN
@pytest.mark.parametrize("case", OPENING)
def test_a_config_opens_no_files(tmp_path, monkeypatch, case):
    secret = tmp_path / "secret.bin"
    torch.save({"a": torch.zeros(1)}, secret)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    content = json.loads(json.dumps(OPENING[case]).replace("SECRET", str(secret)))
    spec = spec_of(tmp_path, content)
    opened, real = [], builtins.open

    def watched(file, *arguments, **options):
        opened.append(str(file))
        return real(file, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", watched)
        with pytest.raises(InputError, match="says more than which model") as error:
            build_model(spec)
    assert str(secret) not in opened
    assert_three_facts(str(error.value))


@FOREIGN
@pytest.mark.parametrize("content", [TIMM, TIMM | {"model_args": {"drop_rate": 0.1}}])
def test_plain_models_of_timm_are_built(tmp_path, content):
    pytest.importorskip("timm")
    content = content | {"pretrained_cfg": {"file": "/etc/passwd"}, "_name_or_path": "timm/x"}
    assert sum(p.numel() for p in build_model(spec_of(tmp_path, content)).parameters()) > 1000


LEFT_OUT = {
    "dtype": "os.system", "torch_dtype": "float64", "quantization_config": {"quant_method": "x"},
    "name_or_path": "/etc/passwd", "tokenizer_file": "/etc/passwd",
    "auto_map": {"AutoModel": "x.y"}, "vocabulary": "/etc/passwd", "attn_implementation": "a/b",
}  # fmt: skip


@FOREIGN
@pytest.mark.parametrize("key", LEFT_OUT)
def test_names_of_files_types_and_code_do_not_reach_the_library(tmp_path, key):
    model = build_model(spec_of(tmp_path, BERT | {key: LEFT_OUT[key]}))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert getattr(model.config, key, None) != LEFT_OUT[key]


HUGE = {
    "labels": (BERT | {"id2label": None, "num_labels": 10**9}, "num_labels = 1000000000"),
    "layers": (GPT2 | {"n_layer": 10**4}, "more than 2000 modules"),
    "layers, by another name": (BERT | {"num_hidden_layers": 9000}, "more than 2000"),
    "layers in a list": (GPT2 | {"depths": [2, 10**5]}, "depths = 100000"),
    "layers without end": (BERT | {"num_hidden_layers": 1 << 24}, "num_hidden_layers = 16777216"),
    "words": (BERT | {"vocab_size": 1 << 40}, "vocab_size = 1099511627776"),
    "width": (BERT | {"hidden_size": 1 << 20, "intermediate_size": 1 << 22}, "numbers and more"),
}


@FOREIGN
@pytest.mark.parametrize("case", HUGE)
def test_sizes_are_looked_at_before_anything_is_built(tmp_path, case):
    content, found = HUGE[case]
    with pytest.raises(InputError, match="the config") as error:
        build_model(spec_of(tmp_path, content))
    assert found in error.value.found


@FOREIGN
def test_a_class_of_another_type_and_paths_in_a_spec_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not have") as error:
        build_model(spec_of(tmp_path, BERT | {"architectures": GPT2["architectures"]}))
    assert "GPT2LMHeadModel for model_type 'bert'" in error.value.found
    with pytest.raises(InputError, match="says more") as error:
        build_model(spec_of(tmp_path, BERT, hidden_act="/etc/passwd"))
    assert "hidden_act=/etc/passwd in the model spec" in error.value.found


class ReadsNumbersWhileBuilt(nn.Module):
    """A model that cannot be built without memory, on the meta device."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 1, 3)]
        self.layer = nn.Linear(width, 1)


def test_a_model_that_reads_numbers_while_it_is_built_is_no_larger_than_its_files():
    message = "config", "config.json", "copy it"
    check_size(lambda: ReadsNumbersWhileBuilt(10), 2, *message)
    with pytest.raises(InputError) as error:
        check_size(lambda: ReadsNumbersWhileBuilt(10**12), 2, *message)
    assert "1000000000000 numbers and more are described, in one tensor" in error.value.found


def test_words_are_sought_in_the_beginning_of_a_long_name_only(tmp_path, monkeypatch):
    """They are for every number of a list."""
    real, lengths = re.search, []

    def search(words: str | re.Pattern[str], text: str) -> object:
        if isinstance(words, str) and text.startswith("layerxxx"):
            lengths.append(len(text))
        return real(words, text)

    monkeypatch.setattr(configs.re, "search", search)
    name = "layer" + "x" * 100_000
    with pytest.raises(InputError, match="the config") as error:
        configs.plain({name: [1, 2, 10**5]}, tmp_path / "config.json")
    assert "= 100000, larger than that of any model" in error.value.found
    assert lengths
    assert max(lengths) <= configs.LONGEST_NAME
