"""Checkpoints: which files are, in what order, and what is in them."""

from __future__ import annotations

import argparse
import math
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from analyze.checkpoints.finding.discovery import find
from analyze.checkpoints.finding.series import select
from analyze.checkpoints.naming.file_names import natural_key, read_names
from analyze.checkpoints.reading import read_content, read_weights
from analyze.checkpoints.state import common_prefix
from analyze.errors import CheckpointError, InputError
from tests.conftest import assert_three_facts
from tests.hostile_files import Calls

WEIGHTS = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}


def save(path: Path, content=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(WEIGHTS if content is None else content, path)
    return path


def known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


# --- names and order

NAMES = [
    # name, step, epoch
    ("step_00064.safetensors", 64, None),
    ("checkpoint-500/model.safetensors", 500, None),
    ("epoch=3-step=100.ckpt", 100, 3),
    ("epoch=3-step=100-v1.ckpt", 100, 3),
    ("lightning_logs/version_0/checkpoints/epoch=0-step=7.ckpt", 7, 0),
    ("iter_5000.pth", 5000, None),
    ("ep1-ba20-rank0.pt", 20, 1),
    ("epoch_12.pth", None, 12),
    ("checkpoint-12.pth.tar", 12, None),
    ("global_step1000/model.pt", 1000, None),
    ("step-001000-2BT.pt", 1000, None),
    ("stage1-step150-tokens1B.pt", 150, None),
    ("iteration-30.pt", 30, None),
    ("ckpt_20.pt", 20, None),
    ("model_10.pth", 10, None),
    ("sweep4_epoch_2.pt", None, 2),
    ("last.ckpt", None, None),
    ("model-10-85.5.pt", 10, None),  # the metric is no step
    ("model.10.pth", 10, None),
    ("best-0.95.pt", None, None),
]


@pytest.mark.parametrize(("name", "step", "epoch"), NAMES)
def test_step_and_epoch_in_a_name(name, step, epoch):
    alone = read_names([name])[name]
    assert (alone.step, alone.epoch) == (step, epoch)


CONTENTS = [
    ({"global_step": 100, "epoch": 3, "state_dict": WEIGHTS}, 100, 3, "content global_step"),
    ({"iter_num": 7, "model": WEIGHTS}, 7, None, "content iter_num"),
    ({"epoch": 2, "model_state_dict": WEIGHTS}, 5, 2, "name step=N"),
    ({"step": True, "model": WEIGHTS}, 5, None, "name step=N"),
    ({"step": math.inf, "epoch": math.nan, "model": WEIGHTS}, 5, None, "name step=N"),
    ({"step": 10**400, "model": WEIGHTS}, 5, None, "name step=N"),
    (WEIGHTS, 5, None, "name step=N"),
]


@pytest.mark.parametrize(("content", "step", "epoch", "rule"), CONTENTS)
def test_what_a_file_says_of_itself_goes_before_its_name(tmp_path, content, step, epoch, rule):
    save(tmp_path / "step_5.pt", content)
    (found,) = find(tmp_path).checkpoints
    assert (found.step, known(found.epoch), found.step_rule) == (step, epoch, rule)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["step_9.pt", "step_100.pt", "step_10.pt"], [0, 2, 1]),
        (["epoch_9.pt", "epoch_10.pt", "epoch_1.pt"], [2, 0, 1]),
        (["a9.ckpt", "a10.ckpt", "last.ckpt"], [0, 1, 2]),
        (["checkpoint-1000/m.pt", "checkpoint-500/m.pt"], [1, 0]),
        (["b_step_2.pt", "a_step_3.pt"], [0, 1]),
        (["b_epoch_2.pt", "a_epoch_3.pt"], [0, 1]),
        (["1²2.pt", "1²1.pt"], [1, 0]),
    ],
)
def test_order_is_that_of_the_numbers(tmp_path, names, order):
    for name in names:
        save(tmp_path / name)
    assert [c.name for c in find(tmp_path).checkpoints] == [names[k] for k in order]


def test_natural_order():
    names = ["e10", "e9", "1²2", "E1", ""]
    assert sorted(names, key=natural_key) == ["", "1²2", "E1", "e9", "e10"]


def test_what_stands_beside_the_weights_is_left_out(tmp_path):
    save(tmp_path / "checkpoint-5" / "pytorch_model.bin")
    for name in (
        "optimizer.pt", "optim_state.pt", "scheduler.pt", "rng_state.pth", "training_args.bin",
        "scaler.pt", "tmp-checkpoint.pt", "model.pt.part", "model.pt.tmp", "random_states_0.pt",
    ):  # fmt: skip
        save(tmp_path / "checkpoint-5" / name)
    (tmp_path / "notes.json").write_text("{}")
    save(tmp_path / "history.pt", {"loss": [1.0, 0.5]})  # no tensors
    assert [c.name for c in find(tmp_path).checkpoints] == ["checkpoint-5/pytorch_model.bin"]


def test_a_probe_file_in_the_run_is_no_checkpoint(tmp_path):
    from analyze.probes import write_probes
    from tests.conftest import small_probes

    save(tmp_path / "step_1.pt")
    write_probes(tmp_path / "frozen.safetensors", small_probes())
    save_file({"x": torch.ones(1)}, tmp_path / "named.safetensors")
    found = find(tmp_path, exclude=[tmp_path / "named.safetensors"]).checkpoints
    assert [c.name for c in found] == ["step_1.pt"]


def test_a_run_of_one_file(tmp_path):
    save(tmp_path / "step_1.pt")
    path = save(tmp_path / "step_2.pt")
    assert [c.name for c in find(path).checkpoints] == ["step_2.pt"]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [("1:", [1, 2]), ("-1:", [2]), ("::2", [0, 2]), (":", [0, 1, 2]), ("*_[13].pt", [0, 2])],
)
def test_select(tmp_path, selection, expected):
    names = [save(tmp_path / f"step_{k}.pt").name for k in (1, 2, 3)]
    found = select(find(tmp_path).checkpoints, selection)
    assert [c.name for c in found] == [names[k] for k in expected]


# --- reading

NESTED = ["state_dict", "model_state_dict", "model", "net", "module", "params"]


@pytest.mark.parametrize("key", ["", *NESTED])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before torch 1.6"])
def test_weights_are_found_where_trainers_put_them(tmp_path, key, legacy):
    content = {key: WEIGHTS, "epoch": 3, "optimizer": {"lr": 0.1}} if key else WEIGHTS
    path = tmp_path / "a.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    found = read_content(path)
    assert (found.format, found.weights_key, found.names) == ("torch", key, ["weight", "bias"])
    assert all(torch.equal(read_weights(path)[name], t) for name, t in WEIGHTS.items())


def test_safetensors(tmp_path):
    save_file(WEIGHTS, tmp_path / "a.safetensors")
    found = read_content(tmp_path / "a.safetensors")
    assert (found.format, sorted(found.names), found.position.step) == (
        "safetensors", ["bias", "weight"], None,
    )  # fmt: skip


def test_options_of_a_trainer_are_read_as_the_values_they_are(tmp_path):
    """timm and torchvision save their arguments as an argparse.Namespace."""
    path = save(tmp_path / "a.pt", {"model": WEIGHTS, "args": argparse.Namespace(lr=0.1)})
    assert read_content(path).weights_key == "model"
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


PICKLES = {
    "in a dictionary": lambda path, evil: torch.save({"state_dict": evil}, path),
    "beside weights": lambda path, evil: torch.save({"model": WEIGHTS, "x": evil}, path),
    "before torch 1.6": lambda path, evil: torch.save(
        {"x": evil}, path, _use_new_zipfile_serialization=False
    ),
    "torch, protocol 5": lambda path, evil: torch.save({"x": evil}, path, pickle_protocol=5),
    **{
        f"plain, protocol {p}": lambda path, evil, p=p: path.write_bytes(pickle.dumps(evil, p))
        for p in (0, 2, 4, 5)
    },
}


@pytest.mark.parametrize("forced", [False, True], ids=["", "forced"])
@pytest.mark.parametrize("case", PICKLES)
def test_a_pickle_that_would_run_code_is_never_run(tmp_path, monkeypatch, case, forced):
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker, path = tmp_path / "marker", tmp_path / "step_1.pt"
    PICKLES[case](path, Calls(os.system, f"touch {marker}"))
    for read in (read_content, read_weights):
        with pytest.raises(CheckpointError, match=r"would run code") as error:
            read(path)
        assert error.value.found == f"{path} asks for {os.system.__module__}.system"
        assert_three_facts(str(error.value))
    (found,) = find(tmp_path).checkpoints
    assert found.problem is not None
    assert not marker.exists()


def test_the_pickles_of_this_test_would_run_code(tmp_path):
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(Calls(os.system, f"touch {marker}")))
    assert marker.exists()


def test_a_whole_module_is_a_pickle_that_would_run_code(tmp_path):
    path = save(tmp_path / "a.pt", nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match="would run code") as error:
        read_weights(path)
    assert error.value.found == f"{path} asks for torch.nn.modules.linear.Linear"
    assert "torch.save(model.state_dict(), path)" in error.value.fix


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
@pytest.mark.parametrize("size", [0, 3, 60, 300])
def test_a_damaged_file_says_so_and_nothing_of_unsafe_readers(tmp_path, name, size):
    path = tmp_path / name
    save(path) if name == "a.pt" else save_file(WEIGHTS, path)
    if size < path.stat().st_size:
        path.write_bytes(path.read_bytes()[:size])
    else:
        path.write_bytes(b"x" * size)
    with pytest.raises(CheckpointError, match="cannot be read") as error:
        read_weights(path)
    assert f"{size} bytes" in error.value.found
    assert "weights_only" not in str(error.value)


def test_a_name_in_no_encoding_becomes_one_that_can_be_written(tmp_path):
    odd = os.fsencode(tmp_path) + b"/step_\xff1.safetensors"
    save_file(WEIGHTS, tmp_path / "step_2.safetensors")
    try:
        Path(os.fsdecode(odd)).write_bytes(b"damaged")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    for found in find(tmp_path).checkpoints:
        assert found.name.encode("utf-8")
        assert found.problem is None or str(found.problem).encode("utf-8")


def test_common_prefix():
    assert common_prefix(["m.a.w", "m.a.b"]) == "m.a."
    assert common_prefix(["m.a.w", "m.b"]) == "m."
    assert common_prefix(["w", "m.b"]) == ""


def test_all_input_errors_are_of_one_class():
    assert issubclass(CheckpointError, InputError)
