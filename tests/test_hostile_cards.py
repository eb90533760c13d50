"""Run cards and probe files that claim or hang, and files that change while they are read."""

from __future__ import annotations

import os
from zipfile import ZipFile

import numpy as np
import pytest
from safetensors.numpy import save_file

import analyze
from analyze.errors import InputError
from analyze.files import arrays
from analyze.files.arrays import ChangedArraysError, read_arrays
from analyze.probes import Cells, read_probes
from analyze.probes.cells import MOST_CELLS
from analyze.runs import loading, preparation
from analyze.specs.run_card import LARGEST, read_run_card
from tests.conftest import assert_three_facts, call

CARDS = {
    "lists in lists": "x = " + "[" * 3000,
    "tables in tables": "x = " + "{a=" * 3000,
    "a number of any length": "[training]\nlr = " + "9" * 5000,
    "a number that cannot be printed": "[training]\nlr = 0x" + "f" * 5000,
    "no number": "[training]\nlr = nan",
    "no end": "[training]\nlr = -inf",
    "a date": "[training]\nday = 2020-01-01",
    "a key of any depth": "[training]\n" + ".".join("a" * LARGEST) + " = 1",
    "a zero": 'probes = "a\\u0000b"',
    "another byte": "\ufeff\ufeff",
}


@pytest.mark.parametrize("case", CARDS)
def test_a_card_that_is_none_is_told(tmp_path, case):
    text = CARDS[case]
    text = text + "[run]" if text == "\ufeff" else "[run]\n" + text
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="the run card is not understood") as error:
        read_run_card(tmp_path)
    assert_three_facts(str(error.value))


@pytest.mark.parametrize("how", ["run", "check"])
@pytest.mark.parametrize("form", ["text", "archive", "probes without subsets"])
def test_nothing_is_shown_of_a_file_that_a_card_calls_probes(tiny, tmp_path, how, form):
    secret = tmp_path / "secret"
    secret.write_text("root:f3a91c:0:0\n" * 100)
    if form == "archive":
        with ZipFile(secret, "w") as archive:
            archive.writestr("f3a91c", "f3a91c")
    if form == "probes without subsets":
        save_file({"inputs": np.zeros(3, np.float32)}, secret, {"password": "f3a91c"})
    tiny.card(f'[run]\nprobes = "{secret}"\nmodel = "builtin:small_mlp"\n')
    done = call(how, str(tiny.path))
    assert done.exit_code == 3
    assert "this is not a probe file" in done.output
    assert "f3a91c" not in done.output


@pytest.mark.parametrize("how", ["run", "check"])
@pytest.mark.parametrize(
    "model",
    [
        "torchvision:vit_b_16",
        "torchvision:regnet_y_32gf",
        "torchvision:resnet18?num_classes=1000000000",
        "builtin:small_mlp?num_classes=1000000000",
    ],
)
def test_no_memory_is_taken_for_a_model_that_the_checkpoints_cannot_be_of(
    tiny, monkeypatch, how, model
):
    monkeypatch.setattr(preparation, "build_model", pytest.fail)
    monkeypatch.setattr(loading, "build_model", pytest.fail)
    tiny.card(f'[run]\nprobes = "../probes.safetensors"\nmodel = "{model}"\n')
    done = call(how, str(tiny.path))
    assert done.exit_code == 3
    assert "the model spec describes a model that the checkpoint cannot be of" in done.output
    assert f"numbers and more are described by '{model}'" in done.output.replace(
        ", in one tensor", ""
    )
    assert_three_facts(done.output[done.output.index("Error: ") :])


def test_settings_of_a_training_are_texts_and_numbers(tmp_path):
    settings = {"lr": 1e-3, "steps": 10**18, "nesterov": True, "optimizer": "sgd"}
    lines = [f"{k} = {str(v).lower() if v is True else repr(v)}" for k, v in settings.items()]
    (tmp_path / "run.toml").write_text("[run]\n[training]\n" + "\n".join(lines))
    assert read_run_card(tmp_path).training == settings


def test_probes_of_too_many_cells_are_refused_before_the_work(tiny):
    count = MOST_CELLS + 1
    probes = analyze.ProbeSet(
        np.zeros((count, 12), np.float32),
        np.zeros(count, np.int64),
        [f"s{k}" for k in range(count)],
    )
    with pytest.raises(InputError, match="the probes make too many cells") as error:
        Cells.of(probes, 1)
    assert f"{count} subsets" in error.value.found
    assert len(Cells.of(probes.take(np.arange(count - 1)), 1)) == MOST_CELLS
    analyze.probes.write_probes(tiny.probes, probes)
    result = call("run", str(tiny.path), "--output", str(tiny.output), "--folds", "1")
    assert result.exit_code == 3
    assert "too many cells" in result.stderr
    assert not tiny.output.exists()


# --- files that change while they are read


ARRAYS = {
    "x": np.arange(6.0, dtype=np.float32).reshape(2, 3), "none": np.zeros((0, 3), np.int64),
    "one": np.array(5, np.int16), "truth": np.array([True, False]), "c": np.ones(2, np.complex64),
}  # fmt: skip


def test_arrays_are_read_as_they_were_written(tmp_path):
    save_file(ARRAYS, tmp_path / "a.safetensors", {"note": "a"})
    found, metadata = read_arrays(tmp_path / "a.safetensors")
    assert metadata == {"note": "a"}
    assert {name: (v.dtype, v.shape) for name, v in found.items()} == {
        name: (v.dtype, v.shape) for name, v in ARRAYS.items()
    }
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("change", ["cut off", "written anew", "replaced"])
def test_probes_that_change_while_they_are_read_are_refused(tiny, monkeypatch, change):
    """A file that is cut off while it is mapped would end the program."""
    real = arrays._array
    content = tiny.probes.read_bytes()

    def changing(*words):
        if change == "replaced":
            other = tiny.probes.with_suffix(".new")
            other.write_bytes(content)
            other.replace(tiny.probes)
        elif change == "written anew":
            tiny.probes.write_bytes(content)
            os.utime(tiny.probes, (1, 1))
        else:
            os.truncate(tiny.probes, 900)
        return real(*words)

    monkeypatch.setattr(arrays, "_array", changing)
    with pytest.raises(InputError, match="this is not a probe file") as error:
        read_probes(tiny.probes)
    assert "it was changed while" in error.value.found or "shorter" in error.value.found
    assert isinstance(error.value.__cause__, ChangedArraysError)
