"""``analyze init``: a starter of the run card, from what lies in the directory."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

import analyze
from analyze.models import recognition
from analyze.models.building import built_without_values
from analyze.models.recognition import specs_that_fit
from analyze.probes import write_probes
from analyze.specs.model import ModelSpec
from analyze.specs.run_card import read_run_card
from tests.conftest import assert_input_error, call
from tests.nightly import of_every_run

FITTING = [
    "builtin:small_mlp?num_classes=3&in_features=12&width=5",
    "builtin:small_resnet?num_classes=7&in_channels=3&width=8",
    "builtin:small_resnet?num_classes=10&norm=none",
    "builtin:small_inception?num_classes=4&width=8",
    "builtin:small_inception?num_classes=10",
]


def shapes_of(spec: str) -> dict[str, tuple[int, ...]]:
    state = built_without_values(ModelSpec.parse(spec)).state_dict()
    return {name: tuple(value.shape) for name, value in state.items()}


@pytest.mark.parametrize("spec", FITTING)
def test_a_model_is_known_by_names_and_shapes(spec):
    found = specs_that_fit(shapes_of(spec))
    assert found
    assert len(set(found)) == len(found)
    assert all(shapes_of(text) == shapes_of(spec) for text in found)


def test_models_of_torchvision_are_tried_where_no_other_fits(monkeypatch):
    names = ["alexnet", "mobilenet_v3_small", "resnet18", "resnet34"]
    monkeypatch.setattr(models, "list_models", lambda module=None: names)
    shapes = shapes_of("torchvision:mobilenet_v3_small?num_classes=5")
    assert specs_that_fit(shapes) == ["torchvision:mobilenet_v3_small?num_classes=5"]
    tried = []
    fits = recognition._fits
    monkeypatch.setattr(recognition, "_fits", lambda *of: tried.append(of[0]) or fits(*of))
    assert specs_that_fit(shapes) == ["torchvision:mobilenet_v3_small?num_classes=5"]
    of_torchvision = [text for text in tried if text.startswith("torchvision:")]
    assert of_torchvision == ["torchvision:mobilenet_v3_small?num_classes=5"]
    del shapes["classifier.3.bias"]
    assert specs_that_fit(shapes) == []
    assert "torchvision:resnet34?num_classes=5" not in tried  # nine times as large


# Of every run: the kinds that need something of their own, and the most common ones.
QUICK = {"regnet_y_400mf", "squeezenet1_1", "resnet18", "shufflenet_v2_x0_5", "vgg11_bn", "swin_t"}


@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
@pytest.mark.parametrize(
    "name",
    of_every_run(models.list_models(module=models), QUICK),
)
def test_every_classifier_of_torchvision_is_recognised(name):
    spec = f"torchvision:{name}?num_classes=7"
    assert specs_that_fit(shapes_of(spec)) == [spec]


def test_what_is_recognised_stands_in_the_card_and_runs(tiny):
    (tiny.path / "run.toml").unlink()
    result = call("init", str(tiny.path))
    assert result.exit_code == 0, result.stderr
    text = (tiny.path / "run.toml").read_text()
    assert text in result.stdout
    assert result.stdout.endswith(f"then: analyze check {tiny.path}\n")
    assert "# 3 checkpoints; format torch; steps 9 to 100" in text
    card = read_run_card(tiny.path)
    assert card.probes == "../probes.safetensors"
    assert (card.name, card.loss) == ("run", "cross_entropy")
    assert card.model == FITTING[0]
    assert tiny.run("--checkpoints", ":1").exit_code == 0


def test_what_is_not_there_is_said(tiny, monkeypatch):
    monkeypatch.setattr(recognition, "_torchvision", lambda *_: [])
    (tiny.path / "run.toml").unlink()
    tiny.probes.unlink()
    for path in tiny.path.glob("*.pt"):
        weights = torch.load(path) | {"more.weight": torch.ones(2)}
        torch.save({"student": weights, "teacher": weights}, path)
    result = call("init", str(tiny.path), "--weights-key", "student")
    assert f"then: analyze check {tiny.path} --model FILE.py:FACTORY\n" in result.stdout
    card, text = read_run_card(tiny.path), (tiny.path / "run.toml").read_text()
    assert (card.model, card.weights_key) == (None, "student")
    assert "no model of the program or torchvision has these 5 tensors" in text
    build = f"analyze probes build {tiny.path / 'probes.safetensors'} --data"
    assert f"still to be made, beside this card: {build}" in text


@pytest.mark.parametrize("layout", ["checkpoint-{}/model.safetensors", "step_{}.safetensors"])
def test_a_config_beside_the_weights_names_the_model_and_the_loss(tmp_path, layout):
    """As a Trainer saves: a directory for each checkpoint, with its config; or one for all."""
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 1}
    for step in (20, 40):
        path = tmp_path / layout.format(step)
        path.parent.mkdir(exist_ok=True)
        save_file({"transformer.wte.weight": torch.full((4, 2), float(step))}, path)
        (path.parent / "config.json").write_text(json.dumps(config))
    text = analyze.init(tmp_path).read_text()
    card = read_run_card(tmp_path)
    assert (card.model, card.loss) == ("transformers:auto", "cross_entropy")
    assert '"cross_entropy?shift=1" for the inputs' in text


IDS = np.arange(12).reshape(3, 4)
PADDED = np.where(IDS % 5 == 0, -100, IDS)
# Whether a Trainer saved it, the targets of the probes that are there, and the loss of the card.
LABELS = {
    "a Trainer": (True, None, "cross_entropy?shift=1"),
    "a Trainer, and its labels": (True, PADDED, "cross_entropy?shift=1"),
    "a Trainer, and other targets": (True, IDS + 1, "cross_entropy"),
    "labels that are the inputs": (False, IDS, "cross_entropy?shift=1"),
    "one class for each text": (True, IDS[:, 0], "cross_entropy"),
}


@pytest.mark.parametrize("case", LABELS)
def test_a_language_models_labels_are_shifted_where_they_are_the_inputs(tmp_path, case):
    of_trainer, targets, loss = LABELS[case]
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 1}
    for step in (20, 40):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        save_file(
            {"transformer.wte.weight": torch.full((4, 2), step)}, folder / "model.safetensors"
        )
        (folder / "config.json").write_text(json.dumps(config))
        if of_trainer:
            (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    if targets is not None:
        write_probes(tmp_path / "probes.safetensors", analyze.ProbeSet(IDS, targets))
    analyze.init(tmp_path)
    assert read_run_card(tmp_path).loss == loss


def test_a_probe_file_here_is_found_from_the_run(tiny, monkeypatch):
    (tiny.path / "run.toml").unlink()
    here = tiny.path.parent / "else" / "where"
    here.mkdir(parents=True)
    tiny.probes.rename(here / "my_probes.safetensors")
    monkeypatch.chdir(here)
    analyze.init("../../run")
    assert read_run_card(tiny.path).probes == "../else/where/my_probes.safetensors"
    assert tiny.run("--checkpoints", ":1").exit_code == 0


def test_configs_that_differ_name_no_model(tmp_path):
    for step in (20, 40):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        save_file({"weight": torch.full((4, 2), float(step))}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": step}))
    analyze.init(tmp_path)
    assert read_run_card(tmp_path).model is None


def test_a_card_is_not_overwritten(tiny):
    before = (tiny.path / "run.toml").read_text()
    result = call("init", str(tiny.path))
    assert_input_error(result, "the run card cannot be written", "which is there already")
    assert (tiny.path / "run.toml").read_text() == before
    with pytest.raises(analyze.InputError, match="no directory to write"):
        analyze.init(tiny.path.parent / "nothing")


def test_names_cannot_write_lines_of_the_card(tiny):
    """A directory's name comes from whoever sent it."""
    (tiny.path / "run.toml").unlink()
    odd = tiny.path.rename(tiny.path.with_name('a"\nmodel = "b'))
    card = read_run_card(analyze.init(odd).parent)
    assert card.name == 'a"\nmodel = "b'
    assert card.model == FITTING[0]
