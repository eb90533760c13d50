"""Directories of torch.distributed.checkpoint made to do harm: their metadata are a pickle."""

from __future__ import annotations

import io
import os
import pickle

import pytest
import torch

from analyze.checkpoints.reading import read_content, read_weights
from analyze.errors import CheckpointError, InputError
from tests.conftest import assert_three_facts
from tests.hostile_files import WEIGHTS, Calls, distributed


def elsewhere(path: str):
    def change(metadata) -> None:
        for info in metadata.storage_data.values():
            info.relative_path = path

    return change


def enlarge(metadata) -> None:
    for entry in metadata.state_dict_metadata.values():
        entry.size = torch.Size([10**6, 10**6])


def of_sizes(metadata, sizes: list[int]) -> None:
    for entry, size in zip(metadata.state_dict_metadata.values(), sizes, strict=True):
        entry.size = torch.Size([size, 10**6])


def one_place(metadata) -> None:
    """Every part is the whole file, which would be read for each of them."""
    end = max(info.offset + info.length for info in metadata.storage_data.values())
    for info in metadata.storage_data.values():
        info.offset, info.length = 0, end


METADATA = {
    "parts at one place": (one_place, "entries that share their place"),
    "a file above": (elsewhere("../secret.pt"), "the file '../secret.pt'"),
    "an absolute path": (elsewhere("/etc/passwd"), "the file '/etc/passwd'"),
    "a file that is not there": (elsewhere("gone.distcp"), "FileNotFoundError"),
    "more than the files hold": (enlarge, "tensors of"),
    "no metadata": (lambda _: [1, 2], "list"),
    "sizes below zero": (lambda m: of_sizes(m, [10**6, -(10**6)]), "sizes that are no num"),
    "a name that is a number": (
        lambda m: setattr(m, "planner_data", dict.fromkeys(m.state_dict_metadata, 3)),
        "TypeError",
    ),
    "other records": (lambda m: setattr(m, "storage_data", {1: 2}), "int in place of"),
}


@pytest.mark.parametrize("case", METADATA)
def test_false_metadata(tmp_path, case):
    change, found = METADATA[case]
    torch.save(WEIGHTS, tmp_path / "secret.pt")
    folder = distributed(tmp_path / "step-1", change)
    with pytest.raises(CheckpointError, match="cannot be read") as error:
        read_weights(folder)
    assert found in error.value.found


@pytest.mark.parametrize("where", ["whole", "planner_data", "storage_meta"])
def test_code_in_metadata_is_not_run(tmp_path, where):
    marker = tmp_path / "marker"
    evil = Calls(os.system, f"touch {marker}")

    def change(metadata):
        if where == "whole":
            return evil
        return setattr(metadata, where, evil)

    folder = distributed(tmp_path / "step-1", change)
    with pytest.raises(CheckpointError, match="would run code") as error:
        read_weights(folder)
    assert f"{os.system.__module__}.system" in error.value.found
    assert not marker.exists()


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp", "meta.pt"])
def test_a_distributed_checkpoint_has_no_links(tmp_path, name):
    folder = distributed(tmp_path / "step-1", lambda _: None)
    torch.save({"global_step": 3}, folder / "meta.pt")
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="distributed checkpoint cannot be read") as error:
        read_weights(folder)
    assert error.value.found == f"{folder / name}: it is a link"


def test_code_in_an_entry_that_is_no_tensor_is_not_run(tmp_path):
    """Torch itself opens such entries without a check."""
    marker = tmp_path / "marker"
    folder = distributed(tmp_path / "step-1", lambda _: None)
    from torch.distributed.checkpoint.metadata import BytesStorageMetadata, MetadataIndex

    buffer = io.BytesIO()
    torch.save(Calls(os.system, f"touch {marker}"), buffer)
    (folder / "__0_1.distcp").write_bytes(buffer.getvalue())
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    info = next(iter(metadata.storage_data.values()))
    metadata.state_dict_metadata["step"] = BytesStorageMetadata()
    metadata.storage_data[MetadataIndex("step")] = type(info)(
        "__0_1.distcp", 0, len(buffer.getvalue())
    )
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    assert torch.equal(read_weights(folder)["weight"], WEIGHTS["weight"])
    assert read_content(folder).position.step is None
    assert not marker.exists()


ODD_VALUES = [None, 3, -1, "x", "../x", [], {}, (1, 2), torch.Size([2]), torch.float32, 1e300, b""]


@pytest.mark.filterwarnings("ignore")
def test_metadata_of_any_records_are_a_clear_error(tmp_path):
    """Every attribute of every record replaced by something else."""
    folder = distributed(tmp_path / "step-1", lambda _: None)
    good = (folder / ".metadata").read_bytes()
    for place in range(len(list(_attributes(pickle.loads(good))))):
        for odd in ODD_VALUES:
            metadata = pickle.loads(good)
            record, name = list(_attributes(metadata))[place]
            object.__setattr__(record, name, odd)
            try:
                content = pickle.dumps(metadata)
            except RuntimeError:  # torch's record of a memory format takes no other
                continue
            (folder / ".metadata").write_bytes(content)
            try:
                assert all(isinstance(t, torch.Tensor) for t in read_weights(folder).values())
            except InputError as error:
                assert_three_facts(str(error))


def _attributes(metadata):
    """Records and the names of their attributes."""
    first = next(iter(metadata.state_dict_metadata.values()))
    info = next(iter(metadata.storage_data.values()))
    for record in (metadata, first, first.properties, first.chunks[0], info):
        for name in vars(record):
            yield record, name
