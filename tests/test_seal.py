"""A damaged byte of a results file is noticed, wherever it is, and nothing is plotted."""

from __future__ import annotations

import random

import h5py
import pytest
import xarray as xr

import analyze
from analyze.results import seal
from analyze.results.file import open_results
from tests.conftest import assert_input_error, call


@pytest.fixture
def copy(measured, tmp_path):
    path = tmp_path / "copy.h5"
    path.write_bytes(measured.output.read_bytes())
    return path


def flip(path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << place % 8
    path.write_bytes(content)


def test_every_flipped_bit_is_noticed(measured, copy):
    """Of 300 places over file and seal, its mark among them."""
    content = copy.read_bytes()
    mark = range(len(content) - seal.LENGTH, len(content) - seal.LENGTH + len(seal.MARK))
    draw = random.Random(0)
    for place in [*draw.sample(range(len(content)), 290), *mark[:5], *range(-5, 0)]:
        copy.write_bytes(content)
        flip(copy, place)
        with pytest.raises(analyze.InputError, match="this is not a results file") as error:
            open_results(copy)
        assert "damaged" in error.value.found


@pytest.mark.parametrize("command", ["show", "show --verify", "report", "compare"])
def test_a_damaged_file_is_not_plotted(measured, copy, tmp_path, command):
    flip(copy, copy.stat().st_size // 2)
    out = tmp_path / "out"
    word, *options = command.split()
    files = [str(copy), str(measured.output)] if word == "compare" else [str(copy)]
    output = [] if word == "show" else ["--output", str(out)]
    assert_input_error(call(word, *files, *options, *output), "damaged: its bytes are not those")
    assert not out.exists()


def test_a_run_does_not_replace_a_damaged_output(tiny, copy):
    flip(copy, copy.stat().st_size // 2)
    before = copy.read_bytes()
    assert_input_error(tiny.run("--output", str(copy)), "damaged: its bytes are not those")
    assert copy.read_bytes() == before


def test_other_readers_see_nothing_of_the_seal(measured):
    assert seal.seal_of(measured.output) == seal.WHOLE
    with h5py.File(measured.output) as file:
        assert "network" in file
    with xr.open_datatree(measured.output, engine="h5netcdf") as tree:
        assert "network" in tree.children
    assert seal.seal_of(measured.output) == seal.WHOLE  # reading leaves it


def test_a_file_that_another_program_changed_has_no_seal(measured, copy):
    with h5py.File(copy, "r+") as file:
        file.attrs["note"] = "mine"
    assert seal.seal_of(copy) == seal.UNSEALED
    assert open_results(copy).attrs["note"] == "mine"
    result = call("show", str(copy), "--verify")
    assert result.exit_code == 0
    assert result.stderr.startswith("Warning: no seal: ")
    assert call("show", str(measured.output), "--verify").stderr == ""


@pytest.mark.parametrize("tail", [b"\n", b"\0" * 48, seal.MARK, b"x" * seal.LENGTH])
def test_what_stands_behind_the_end_and_is_no_seal_is_damage(copy, tail):
    whole = copy.read_bytes()
    for content in (whole + tail, whole[: -seal.LENGTH] + tail):
        copy.write_bytes(content)
        with pytest.raises(analyze.InputError, match="this is not a results file") as error:
            open_results(copy)
        assert "damaged" in error.value.found


def test_show_warns_of_a_file_without_a_seal(copy):
    copy.write_bytes(copy.read_bytes()[: -seal.LENGTH])
    result = call("show", str(copy))
    assert result.exit_code == 0
    assert result.stderr.startswith("Warning: no seal: ")


def test_a_file_shorter_than_a_seal_has_none(tmp_path):
    (tmp_path / "short").write_bytes(b"short")
    assert seal.seal_of(tmp_path / "short") == seal.UNSEALED
