"""What a torch file says of its tensors, before torch is there to make them."""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from pathlib import Path

import pytest
import torch

from analyze.checkpoints.reading import read_content, read_weights
from analyze.checkpoints.torch_files.number_types import FORMS, number_type
from analyze.errors import CheckpointError
from tests.hostile_files import WEIGHTS, archive

TYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}


@pytest.mark.parametrize("name", TYPES)
def test_every_type_of_torch_is_known_by_name_and_size(name):
    kind = number_type(name)
    assert (f"torch.{kind.name}", kind.itemsize) == (str(TYPES[name]), TYPES[name].itemsize)
    floats = TYPES[name].is_floating_point or TYPES[name].is_complex
    assert kind.with_gradient == floats
    assert kind.quantized == (TYPES[name] in (
        torch.quint8, torch.qint8, torch.qint32, torch.quint4x2, torch.quint2x4
    ))  # fmt: skip


@pytest.mark.parametrize("name", ["save", "nn", "float", "int", "Tensor", "float99x", "device"])
def test_other_names_of_torch_are_no_types(name):
    assert (number_type(name) is None) == (name not in TYPES)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_a_step_may_be_a_tensor_of_any_real_type(tmp_path, name, legacy):
    step = torch.tensor([[1, 2, 100]]).to(getattr(torch, name))[:, 2]
    torch.save({"model": WEIGHTS, "step": step}, tmp_path / "a.pt",
               _use_new_zipfile_serialization=not legacy)  # fmt: skip
    assert read_content(tmp_path / "a.pt").position.step == 100


@pytest.mark.parametrize("step", [
    torch.tensor([1, 2]), torch.tensor(1j), torch.tensor(True), torch.zeros(0),
    torch.eye(1).to_sparse(),
])  # fmt: skip
def test_what_is_no_number_is_no_step(tmp_path, step):
    torch.save({"model": WEIGHTS, "step": step}, tmp_path / "a.pt")
    assert read_content(tmp_path / "a.pt").position.step is None


def test_a_step_may_be_a_view_of_the_negative(tmp_path):
    torch.save({"model": WEIGHTS, "step": torch._neg_view(torch.tensor(-7.0))}, tmp_path / "a.pt")
    assert read_content(tmp_path / "a.pt").position.step == 7


def test_files_of_machines_with_the_other_order_of_bytes(tmp_path):
    weights = {"w": torch.randn(200, 300), "b": torch.randn(3)}
    torch.save({"model": weights, "step": torch.tensor(300)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as file:
        entries = {name: file.read(name) for name in file.namelist()}
    for name, content in entries.items():
        if "/data/" in name:
            size = 8 if len(content) == 8 else 4
            parts = [content[k : k + size][::-1] for k in range(0, len(content), size)]
            entries[name] = b"".join(parts)
    archive(tmp_path / "b.pt", {**entries, "a/byteorder": b"big"})
    assert read_content(tmp_path / "b.pt").position.step == 300
    read = read_weights(tmp_path / "b.pt")
    assert all(torch.equal(read[name], tensor) for name, tensor in weights.items())


def test_a_type_in_an_extra_state_is_torchs_again(tmp_path):
    state = {**WEIGHTS, "_extra_state": {"dtype": torch.float16, "scale": torch.ones(2)}}
    torch.save(state, tmp_path / "a.pt")
    extra = read_weights(tmp_path / "a.pt")["_extra_state"]
    assert extra["dtype"] is torch.float16
    assert torch.equal(extra["scale"], torch.ones(2))


def test_weights_twice_are_one_where_they_lie_at_one_place(tmp_path):
    torch.save({"model": WEIGHTS, "net": WEIGHTS}, tmp_path / "a.pt")
    assert read_content(tmp_path / "a.pt").weights_key == "model"
    others = {name: tensor + 1 for name, tensor in WEIGHTS.items()}
    torch.save({"model": WEIGHTS, "net": others}, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match="twice"):
        read_content(tmp_path / "b.pt")


def pickles_in(content: bytes) -> list[bytes]:
    """The pickles at the beginning of a file from before torch 1.6."""
    found = []
    for _ in range(5):
        *_, (_, _, last) = pickletools.genops(content)
        found.append(content[: last + 1])
        content = content[last + 1 :]
    return found


def test_a_storage_that_an_old_file_does_not_have_is_damage(tmp_path):
    """Its values would be whatever is in memory."""
    path: Path = tmp_path / "step_1.pt"
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_weights(path)["weight"], WEIGHTS["weight"])
    *before, _ = pickles_in(path.read_bytes())
    path.write_bytes(b"".join([*before, pickle.dumps([], 2)]))
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_content(path)
