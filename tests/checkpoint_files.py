"""Small weights in the files and directories that trainers leave, and what is found there."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.checkpoints.finding.discovery import find
from analyze.checkpoints.fitting.fit import fit
from analyze.checkpoints.options import ReadingOptions
from analyze.checkpoints.reading import read_weights

FOREIGN = pytest.mark.filterwarnings("ignore")  # what other libraries warn of


def net(seed: int = 0, width: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    return net(seed).state_dict()


def save(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def known(value: float) -> float | None:
    return None if math.isnan(value) else value


def found(run: Path, **reading) -> list[Checkpoint]:
    return find(run, reading=ReadingOptions(**reading)).checkpoints


def reasons(run: Path, **reading) -> dict[str, str]:
    return {one.name: one.why for one in find(run, reading=ReadingOptions(**reading)).left_out}


def assert_weights(checkpoint: Checkpoint, expected, **reading) -> None:
    """Equal to what was saved, tensor by tensor, after the strict fit to a model of other ones."""
    assert checkpoint.problem is None, str(checkpoint.problem)
    model = net(99)
    fit(model, read_weights(checkpoint.path, ReadingOptions(**reading)), checkpoint.name, "net")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def hugging_face(folder: Path, step: int | None, content, *, shards: int = 1, kind="safetensors"):
    """A checkpoint directory of the Trainer, as its documentation lays it out."""
    folder.mkdir(parents=True)
    names = list(content)
    stem, suffix = ("model", kind) if kind == "safetensors" else ("pytorch_model", kind)
    write = save_file if kind == "safetensors" else torch.save
    if shards == 1:
        write(content, folder / f"{stem}.{suffix}")
    else:
        where = {}
        for k in range(shards):
            part = f"{stem}-{k + 1:05d}-of-{shards:05d}.{suffix}"
            write({n: content[n] for n in names[k::shards]}, folder / part)
            where |= dict.fromkeys(names[k::shards], part)
        index = {"metadata": {"total_size": 1}, "weight_map": where}
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    torch.save({"state": {}}, folder / "optimizer.pt")
    if step is not None:
        state = {"global_step": step, "epoch": step / 500, "log_history": []}
        (folder / "trainer_state.json").write_text(json.dumps(state))
