"""Shards of other names, programs among checkpoints, names with brackets, weights twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from analyze.checkpoints.checkpoint import NoCheckpointsError
from analyze.checkpoints.finding.discovery import find
from analyze.checkpoints.finding.series import select
from analyze.checkpoints.options import ReadingOptions
from analyze.checkpoints.reading import read_weights
from tests.checkpoint_files import assert_weights, found, save, weights
from tests.conftest import assert_three_facts

# --- shards


def shards(folder: Path, stem: str, kind: str, content) -> Path:
    """Two files and their index, as libraries name them."""
    folder.mkdir(parents=True, exist_ok=True)
    where = {}
    for k in range(2):
        part = f"{stem}-{k + 1:05d}-of-00002.{kind}"
        held = {name: content[name] for name in list(content)[k::2]}
        save_file(held, folder / part) if kind == "safetensors" else torch.save(held, folder / part)
        where |= dict.fromkeys(held, part)
    index = folder / f"{stem}.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("stem", ["diffusion_pytorch_model", "diffusion_pytorch_model.fp16", "own"])
def test_shards_of_any_name_are_read(tmp_path, stem, kind):
    for step in (5, 10):
        shards(tmp_path / f"checkpoint-{step}" / "unet", stem, kind, weights(step))
    checkpoints = found(tmp_path)
    assert [c.step for c in checkpoints] == [5, 10]
    assert {c.format for c in checkpoints} == {
        f"{'safetensors' if kind == 'safetensors' else 'torch'}, 2 shards"
    }
    for c in checkpoints:
        assert_weights(c, weights(int(c.step)))


def test_the_usual_name_goes_before_others_and_two_others_are_refused(tmp_path):
    folder = tmp_path / "step_1"
    shards(folder, "consolidated", "safetensors", weights(1))
    shards(folder, "model", "safetensors", weights(2))
    assert_weights(found(tmp_path)[0], weights(2))
    (folder / "model.safetensors.index.json").rename(folder / "other.safetensors.index.json")
    (only,) = found(tmp_path)
    assert "several checkpoints in shards" in str(only.problem)
    assert "consolidated.safetensors.index.json, other.safetensors" in only.problem.found


# --- programs


def script(path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(path))


def program(path: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), str(path))


PROGRAMS = {"TorchScript": (script, "torch.jit.load"), "of torch.export": (program, "torch.export")}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_program_is_told_from_damage(tmp_path, kind):
    write, loader = PROGRAMS[kind]
    write(tmp_path / "model.pt2")
    (tmp_path / "model.pt2").rename(tmp_path / "model_1.pt")
    (only,) = found(tmp_path)
    assert kind in only.problem.what
    assert f"{loader}" in only.problem.fix
    assert ".state_dict()" in only.problem.fix
    assert_three_facts(str(only.problem))


@pytest.mark.filterwarnings("ignore")
def test_what_is_advised_for_torchscript_gives_its_weights(tmp_path, monkeypatch):
    torch.manual_seed(0)
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(tmp_path / "model_1.pt"))
    (only,) = found(tmp_path)
    advice = only.problem.fix.partition(": ")[2].partition(", and move")[0]
    monkeypatch.chdir(tmp_path)
    eval(advice, {"torch": torch})
    torch.manual_seed(0)
    read = read_weights(tmp_path / "weights.pt")
    assert all(torch.equal(read[name], t) for name, t in nn.Linear(2, 2).state_dict().items())


# --- names with brackets


@pytest.mark.parametrize("name", ["step_1.pt", "step_1.bin"])
def test_safetensors_by_another_name_are_read(tmp_path, name):
    save_file(weights(1), tmp_path / name)
    (only,) = found(tmp_path)
    assert (only.step, only.format) == (1, "safetensors")
    assert_weights(only, weights(1))


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_torch_file_that_is_called_safetensors_is_told_from_damage(tmp_path, as_zip):
    path = tmp_path / "step_1.safetensors"
    torch.save(weights(1), path, _use_new_zipfile_serialization=as_zip)
    (only,) = found(tmp_path)
    assert "a file of torch.save" in only.problem.found
    assert "step_1.pt" in only.problem.fix
    assert_three_facts(f"Error: {only.problem}")
    path.rename(tmp_path / "step_1.pt")
    assert_weights(found(tmp_path)[0], weights(1))


def test_a_header_whose_size_begins_as_a_pickle_is_no_pickle(tmp_path):
    """The length of a header of 128 bytes is written as the first byte of a pickle."""
    path = tmp_path / "step_1.safetensors"
    save_file({"w": torch.ones(2)}, path, metadata={"a": "b" * 47})
    assert path.read_bytes()[0] == 0x80
    assert found(tmp_path)[0].format == "safetensors"


def test_a_name_with_brackets_is_meant_as_it_stands(tmp_path):
    for step in (1, 2):
        save(tmp_path / f"[run 1] step={step}.pt", weights(step))
    save(tmp_path / "x step=3.pt", weights(3))
    checkpoints = find(tmp_path).checkpoints
    (only,) = select(checkpoints, "[run 1] step=2.pt")
    assert only.step == 2
    with pytest.raises(NoCheckpointsError) as error:
        select(checkpoints, "[run 1] step=?.pt")
    glob = error.value.fix.split("'")[1]
    assert [c.step for c in select(checkpoints, glob)] == [1, 2]
    assert [c.step for c in select(checkpoints, "[xyz] step=?.pt")] == [3]


# --- weights twice


def test_weights_of_one_network_at_two_keys_are_refused_and_each_can_be_chosen(tmp_path):
    save(tmp_path / "step_1.pt", {"model": weights(1), "net": weights(2)})
    (only,) = found(tmp_path)
    assert only.problem.what == "the checkpoint holds weights of one network twice"
    for key, seed in (("model", 1), ("net", 2)):
        assert f"--weights-key {key}" in only.problem.fix
        (chosen,) = found(tmp_path, weights_key=key)
        assert_weights(chosen, weights(seed), weights_key=key)


@pytest.mark.parametrize("other", [{"loss": torch.ones(2)}, None])
def test_what_is_no_other_network_is_no_rival(tmp_path, other):
    """Weights of a loss, or the same tensors at two keys."""
    state = weights(1)
    save(tmp_path / "step_1.pt", {"model": state, "weights": other or state})
    (only,) = found(tmp_path)
    assert_weights(only, weights(1))
    assert read_weights(only.path, ReadingOptions()).keys() == state.keys()


def test_shards_of_any_name_are_no_checkpoints_of_their_own(tmp_path):
    folder = tmp_path / "checkpoint-3"
    folder.mkdir()
    state = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    for name, value in state.items():
        save_file({name: value}, folder / f"the-{name}.safetensors")
    index = {"weight_map": {name: f"the-{name}.safetensors" for name in state}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    discovery = find(tmp_path)
    assert [c.name for c in discovery.checkpoints] == ["checkpoint-3"]
    parts = [
        one.name for one in discovery.left_out if one.why.startswith("a part of the checkpoint")
    ]
    assert {f"checkpoint-3/the-{name}.safetensors" for name in state} <= set(parts)
