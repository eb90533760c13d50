"""Probe files and pictures of others, and disks that are full while probes are written."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import analyze
from analyze.files import whole as whole_file
from analyze.probes import read_probes, write_probes
from analyze.probes.cells import check_columns
from tests.conftest import assert_input_error, call, small_probes


def test_the_same_probes_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_probes(tmp_path / name, small_probes(), seed="0", data="x", noise="", more="y")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    found, whole = read_probes(tmp_path / "a"), small_probes()
    np.testing.assert_array_equal(found.inputs[""], whole.inputs[""])
    assert found.subset_names == whole.subset_names


def test_a_full_disk_leaves_the_older_file(tmp_path, monkeypatch):
    np.savez(tmp_path / "d.npz", inputs=np.zeros((6, 2), np.float32), targets=np.arange(6) % 2)
    out = tmp_path / "p.safetensors"
    command = ("probes", "build", str(out), "--data", str(tmp_path / "d.npz"))
    assert call(*command).exit_code == 0
    before = out.read_bytes()
    command = (*command, "--overwrite")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(whole_file.os, "fsync", full)
    assert_input_error(call(*command), "probe file cannot be written", "No space left")
    assert out.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"d.npz", "p.safetensors"}


def broken(**changes):
    arrays = {
        "inputs": np.zeros((4, 2), np.float32), "targets": np.zeros(4, np.int64),
        "subset": np.zeros(4, np.int64),
    }  # fmt: skip
    metadata = {"subset_names": '["a"]'}
    for name, value in changes.items():
        if isinstance(value, str):
            metadata[name] = value
        else:
            arrays[name.replace("__", ".")] = value
    return arrays, metadata


LYING = {
    "deep names": broken(subset_names="[" * 50_000),
    "names that are lists": broken(subset_names="[[1]]"),
    "a mean in words": broken(mean='{"a": 1}', std="[1]"),
    "codes without end": broken(column__c=np.full(4, 1 << 60)),
    "codes below zero": broken(column__c=np.full(4, -1)),
    "codes beyond their names": broken(**{"column__c": np.full(4, 3), "column_names.c": '["a"]'}),
    "codes that are no numbers": broken(column__c=np.zeros(4)),
    "codes of two axes": broken(column__c=np.zeros((4, 2), np.int64)),
}


@pytest.mark.parametrize("case", LYING)
def test_files_that_lie_are_refused(tmp_path, case):
    arrays, metadata = LYING[case]
    save_file(arrays, tmp_path / "p.safetensors", metadata)
    assert_input_error(call("probes", "show", str(tmp_path / "p.safetensors")), "p.safetensors")


NAMES = {
    "loss": None, "gradient_sqnorm": None, "a/b": None, "a\0b": None, "": None, "..": None,
    "c": ["x\0y", "z"], "d": ["\ud800", "z"],
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_columns_that_no_results_file_can_hold_are_refused_before_the_work(name):
    from analyze.probes.subsets import Column

    probes = small_probes()
    probes.columns[name] = Column(np.zeros(len(probes), np.int64), tuple(NAMES[name] or "xy"))
    with pytest.raises(analyze.InputError, match="cannot be summed by this column") as error:
        check_columns(probes, [name])
    assert json.dumps(error.value.found)


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    pytest.importorskip("torchvision")
    from PIL import Image

    for name in "ab":
        (tmp_path / "img" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "img" / name / "0.png")
    (tmp_path / "img" / "b" / "1.png").write_bytes(b"garbage")
    options = ["--resize", "8", "--crop", "8", "--mean", "0,0,0", "--std", "1,1,1"]
    command = (
        "probes",
        "build",
        str(tmp_path / "p.safetensors"),
        "--data",
        f"folder:{tmp_path / 'img'}",
    )
    assert_input_error(call(*command, *options), "a picture cannot be read", "b/1.png")
    (tmp_path / "img" / "b" / "1.png").unlink()
    assert call(*command, *options).exit_code == 0


def test_a_picture_without_end_is_named(tmp_path, monkeypatch):
    pytest.importorskip("torchvision")
    from PIL import Image

    (tmp_path / "img" / "a").mkdir(parents=True)
    Image.fromarray(np.zeros((80, 80, 3), np.uint8)).save(tmp_path / "img" / "a" / "0.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)  # a warning up to twice as many
    command = (
        "probes",
        "build",
        str(tmp_path / "p.safetensors"),
        "--data",
        f"folder:{tmp_path / 'img'}",
    )
    assert_input_error(call(*command), "a picture cannot be read", "a/0.png")
