"""Probe files and pictures of others, and disks that are full while probes are written."""

from __future__ import annotations

import errno
import json
import os
import subprocess

import numpy as np
import pytest
from safetensors.numpy import save_file

import analyze
from analyze.files import whole as whole_file
from analyze.probes import read_probes, write_probes
from analyze.probes.cells import check_columns
from analyze.probes.freezing import tables, values
from analyze.probes.freezing.values import read_values
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
    "loss": None, "gradient_sqnorm": None, "status": None, "cell_fold": None,
    "a/b": None, "a\0b": None, "": None, "..": None,
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


def pictures(folder, **odd) -> list[str]:
    """A folder of four pictures and some odd files; the command that freezes it."""
    pytest.importorskip("torchvision")
    from PIL import Image

    for k, name in enumerate(["a/0.png", "a/2.png", "b/0.png", "b/2.png"]):
        (folder / "img" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), k, np.uint8)).save(folder / "img" / name)
    for name, make in odd.items():
        make(folder / "img" / "b" / name.replace("_", "."))
    scaled = ["--mean", "0,0,0", "--std", "1,1,1"]
    data = f"folder:{folder / 'img'}"
    return ["probes", "build", str(folder / "p.safetensors"), "--data", data, *scaled]


def written(content: bytes):
    return lambda path: path.write_bytes(content)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
ODD = {
    "garbage": written(b"garbage"),
    "nothing": written(b""),
    "PostScript": written(POSTSCRIPT),
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("case", ODD)
def test_a_picture_that_cannot_be_read_is_named_and_refused_or_skipped(tmp_path, case, monkeypatch):
    monkeypatch.setattr(subprocess, "check_call", lambda *_, **__: pytest.fail("a program was run"))
    command = pictures(tmp_path, **{"1_png": ODD[case]})
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", "gs")
    result = call(*command)
    assert_input_error(result, "a picture cannot be read", "b/1.png", "--on-error skip")
    skipped = call(*command, "--on-error", "skip")
    assert skipped.exit_code == 0
    assert "1 picture skipped that cannot be read" in skipped.stdout
    assert "b/1.png" in skipped.stdout
    probes = read_probes(tmp_path / "p.safetensors")
    assert probes.inputs[""][:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert probes.targets.tolist() == [0, 0, 1, 1]
    assert probes.id.tolist() == [0, 1, 2, 4]


def test_the_first_picture_is_skipped_as_any_other(tmp_path):
    command = pictures(tmp_path)
    (tmp_path / "img" / "a" / "0.png").write_bytes(b"garbage")
    assert_input_error(call(*command), "a picture cannot be read", "a/0.png")
    assert call(*command, "--on-error", "skip").exit_code == 0
    assert read_probes(tmp_path / "p.safetensors").id.tolist() == [1, 2, 3]


def test_held_out_pictures_are_skipped_too_and_without_any_there_are_no_probes(tmp_path):
    command = pictures(tmp_path, **{"1_png": ODD["garbage"]})
    held = ["--held-out", command[4], "--on-error", "skip"]
    assert call(*command, *held).stdout.count("1 picture skipped") == 2
    for picture in (tmp_path / "img").rglob("*.png"):
        picture.write_bytes(b"garbage")
    assert_input_error(call(*command, "--overwrite", "--on-error", "skip"), "cannot be read", "a/0")


def test_a_picture_without_end_is_named(tmp_path, monkeypatch):
    pytest.importorskip("torchvision")
    from PIL import Image

    command = pictures(tmp_path)
    Image.fromarray(np.zeros((80, 80, 3), np.uint8)).save(tmp_path / "img" / "a" / "1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)  # a warning up to twice as many
    assert_input_error(call(*command), "a picture cannot be read", "a/1.png")
    assert call(*command, "--on-error", "skip").exit_code == 0


def test_an_archive_of_arrays_is_no_bomb(tmp_path, monkeypatch):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, inputs=np.zeros((1000, 1000)), targets=np.zeros(1000, np.int64))
    assert read_values(path)["inputs"].shape == (1000, 1000)
    monkeypatch.setattr(values, "MOST_BYTES", 1 << 20)
    with pytest.raises(analyze.InputError, match="a file for the probes cannot be read") as error:
        read_values(path)
    assert "bytes that unpack to 80" in error.value.found


class Name(str):
    compared = 0

    def __eq__(self, other) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_columns_of_one_name_are_found_without_a_look_at_all_pairs():
    assert tables._repeated(["a", "b", "a", "c", "b", "a"]) == ["a", "b"]
    assert tables._repeated([Name(k) for k in range(1000)]) == []
    assert Name.compared < 10_000
