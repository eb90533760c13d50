"""The probe set: what it is made from, what it refuses, its file and its folds."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import analyze
from analyze.errors import InputError
from analyze.probes import Cells, read_probes, write_probes
from analyze.probes.cells import fold_of
from analyze.probes.subsets import Column
from tests import oracle
from tests.conftest import assert_three_facts, small_probes

X = np.arange(18, dtype=np.float32).reshape(6, 3)
Y = np.array([0, 1, 2, 0, 1, 2])

SOURCES = {
    "arrays": (X, Y),
    "tensors": (torch.tensor(X), torch.tensor(Y)),
    "lists": (X.tolist(), Y.tolist()),
    "with a graph": (torch.tensor(X, requires_grad=True), torch.tensor(Y)),
    "bfloat16": (torch.tensor(X).bfloat16(), torch.tensor(Y)),
    "reversed view": (X[::-1][::-1], Y[::-1][::-1]),
    "read only": (np.broadcast_to(X, (1, 6, 3))[0], np.frombuffer(Y.tobytes(), Y.dtype)),
    "other byte order": (X.astype(">f4"), Y.astype(">i8")),
    "small integers": (X, Y.astype(np.uint8)),
    "unsigned": (X, Y.astype(np.uint16)),
}


@pytest.mark.parametrize("case", SOURCES)
def test_a_probe_set_is_made_of_arrays_that_torch_takes(case):
    inputs, targets = SOURCES[case]
    probes = analyze.ProbeSet(inputs, targets)
    np.testing.assert_array_equal(probes.inputs[""], X)
    np.testing.assert_array_equal(probes.targets, Y)
    assert probes.targets.dtype == np.int64
    for values in (probes.inputs[""], probes.targets):
        assert torch.from_numpy(values).numel() == values.size


def test_defaults():
    probes = analyze.ProbeSet(X, Y)
    assert (probes.subset_names, probes.held_out) == (("probes",), ())
    np.testing.assert_array_equal(probes.id, np.arange(6))
    assert len(probes) == 6


def test_several_inputs_are_passed_by_keyword():
    probes = analyze.ProbeSet({"image": X, "mask": Y}, Y)
    assert list(probes.inputs) == ["image", "mask"]
    assert repr(probes) == "ProbeSet(6 probes; image [3], mask []; probes: 6)"


def test_repr():
    subset = ["clean", "corrupted"] * 3
    assert repr(analyze.ProbeSet(X, Y, subset)) == (
        "ProbeSet(6 probes; inputs [3]; clean: 3, corrupted: 3)"
    )


@pytest.mark.parametrize("make", [list, tuple, np.array], ids=["list", "tuple", "array"])
def test_the_subset_called_held_out_is_held_out(make):
    probes = analyze.ProbeSet(X, Y, make(["a", "held_out", "b"] * 2))
    assert probes.subset_names == ("a", "held_out", "b")
    assert probes.held_out == ("held_out",)
    assert list(probes.training) == [0, 2, 3, 5]
    assert analyze.ProbeSet(X, Y, ["a", "held_out", "b"] * 2, held_out=["b"]).held_out == ("b",)


def test_held_out_may_be_named_where_nothing_is():
    assert analyze.ProbeSet(X, Y, ["a", "b"] * 3, held_out=["held_out"]).held_out == ()


@pytest.mark.parametrize("shape", [(6, 4, 4), (6, 3, 4, 4), (6, 16)])
def test_one_mean_stands_for_all_channels(shape):
    probes = analyze.ProbeSet(np.ones(shape, np.uint8), Y, mean=[0.5], std=[0.25])
    assert (probes.mean, probes.std) == ((0.5,), (0.25,))


def test_a_part_of_the_probes_keeps_what_belongs_to_them():
    column = Column(np.array([0, 1] * 3), ("p", "q"))
    probes = analyze.ProbeSet(X, Y, ["a", "b", "held_out"] * 2, Y + 10 * (X[:, 0] > 8),
                              columns={"source": column})  # fmt: skip
    part = probes.take(np.array([5, 0]))
    assert (part.subset_names, part.held_out) == (("a", "held_out"), ("held_out",))
    assert [part.subset_names[code] for code in part.subset] == ["held_out", "a"]
    assert list(part.id) == [12, 0]
    assert list(part.columns["source"].codes) == [1, 0]
    np.testing.assert_array_equal(part.inputs[""], X[[5, 0]])
    named = analyze.ProbeSet(X, Y, ["a", "b"] * 3, held_out=["b"])
    assert named.take(np.array([1, 2])).held_out == ("b",)
    assert named.take(np.array([2])).held_out == ()


def test_a_column_is_given_by_its_labels():
    labels = {"word": ["b", "a"] * 3, "number": np.arange(6) % 2, "tensor": torch.arange(6) % 2}
    columns = analyze.ProbeSet(X, Y, columns=labels).columns
    assert {name: column.names for name, column in columns.items()} == {
        "word": ("a", "b"), "number": ("0", "1"), "tensor": ("0", "1"),
    }  # fmt: skip
    assert list(columns["word"].codes) == [1, 0] * 3


REFUSED = {
    "lengths": ((X, Y[:5]), {}, "inconsistent", "5 targets beside 6 inputs"),
    "subset": ((X, Y, ["a"] * 5), {}, "inconsistent", "5 subset"),
    "one word": ((X, Y, "abcdef"), {}, "inconsistent", "'abcdef'"),
    "nothing": ((X[:0], Y[:0]), {}, "inconsistent", "0 targets"),
    "no inputs": (({}, Y), {}, "inconsistent", "no inputs"),
    "ids": ((X, Y), {"id": Y}, "not unique", "id 0 stands for 2 probes"),
    "id floats": ((X, Y), {"id": Y / 7}, "no integers", "float64"),
    "id table": ((X, Y), {"id": np.arange(6)[:, None]}, "no integers", "[6, 1]"),
    "id words": ((X, Y), {"id": list("abcdef")}, "no arrays of numbers", "id: <U1"),
    "all": ((X, Y, ["a", "all"] * 3), {}, "name that it cannot have", "'all'"),
    "no name": ((X, Y, ["a", ""] * 3), {}, "name that it cannot have", "''"),
    "unprintable": ((X, Y, ["a", "b\0"] * 3), {}, "name that it cannot have", r"'b\x00'"),
    "held out": ((X, Y, ["a", "b"] * 3), {"held_out": ["c"]}, "does not exist", "'c'"),
    "not finite": ((np.full_like(X, np.inf), Y), {}, "not finite", "probe 0 (6"),
    "words": ((np.array(["a"] * 6), Y), {}, "no arrays of numbers", "inputs: <U1"),
    "ragged": (([[1], [1, 2]], [0, 1]), {}, "no arrays of numbers", "inputs: "),
    "complex": ((X, Y * 1j), {}, "no arrays of numbers", "targets: complex128"),
    "one number": ((X, 3), {}, "no arrays of numbers", "targets: int64 of shape []"),
    "mean alone": ((X, Y), {"mean": [0.5]}, "mean and std do not fit", "std None"),
    "no std": ((X, Y), {"mean": [0.5], "std": [0]}, "mean and std do not fit", "std [0]"),
    "words as mean": ((X, Y), {"mean": ["a"], "std": [1]}, "mean and std do not fit", "['a']"),
    "channels": (
        (np.ones((6, 1, 4, 4), np.uint8), Y),
        {"mean": [0, 0, 0], "std": [1, 1, 1]},
        "mean and std do not fit",
        "1 channels",
    ),
    "column": (
        (X, Y),
        {"columns": {"c": Column(Y, ("a", "b"))}},
        "inconsistent",
        "column.c with codes 0 to 2 for 2 names",
    ),
    "few labels": ((X, Y), {"columns": {"c": ["a", "b"]}}, "inconsistent", "2 column.c"),
    "table of labels": ((X, Y), {"columns": {"c": X > 0}}, "inconsistent", "one for each probe"),
    "short column": ((X, Y), {"columns": {"c": Column(Y[:2], ("a", "b"))}}, "inconsis", "2 column"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_probe_set(case):
    arguments, options, what, found = REFUSED[case]
    with pytest.raises(InputError, match=what) as error:
        analyze.ProbeSet(*arguments, **options)
    assert found in error.value.found
    assert_three_facts(str(error.value))


# --- the file


def test_the_file_keeps_everything(tmp_path):
    column = Column(np.array([0, 1] * 3), ("web", "lab"))
    images = np.arange(6 * 2 * 4, dtype=np.uint8).reshape(6, 2, 4)
    before = analyze.ProbeSet(
        {"image": images, "scale": X}, Y, ["b", "a"] * 3, 7 * np.arange(6) - 2,
        held_out=["a"], columns={"source": column}, mean=[0.5, 0.25], std=[0.1, 0.2],
    )  # fmt: skip
    write_probes(tmp_path / "probes.safetensors", before, made_by="a test")
    after = read_probes(tmp_path / "probes.safetensors")
    assert repr(after) == repr(before)
    assert list(after.inputs) == ["image", "scale"]
    for name, values in before.inputs.items():
        assert after.inputs[name].dtype == values.dtype
        np.testing.assert_array_equal(after.inputs[name], values)
    for name in ("targets", "subset", "id"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    for name in ("subset_names", "held_out", "mean", "std"):
        assert getattr(after, name) == getattr(before, name)
    np.testing.assert_array_equal(after.columns["source"].codes, column.codes)
    assert after.columns["source"].names == column.names


def minimal(path, meta: dict[str, object] | None = None, **changes) -> None:
    """A file with nothing that may be absent, and changes to it; None takes a tensor out."""
    arrays = {"inputs": X, "targets": Y, "subset": np.array([2, 0] * 3)} | changes
    arrays = {k: np.ascontiguousarray(v) for k, v in arrays.items() if v is not None}
    names = {"subset_names": ["a", "b", "c"]} | (meta or {})
    save_file(arrays, path, {k: json.dumps(v) for k, v in names.items() if v is not None})


def test_a_file_with_nothing_that_may_be_absent(tmp_path):
    minimal(tmp_path / "p.safetensors")
    probes = read_probes(tmp_path / "p.safetensors")
    assert probes.subset_names == ("a", "c")  # without examples: not listed
    assert [probes.subset_names[k] for k in probes.subset] == ["c", "a"] * 3
    np.testing.assert_array_equal(probes.id, np.arange(6))
    assert (probes.held_out, probes.columns, probes.mean) == ((), {}, None)


def test_a_column_without_names_is_named_by_its_codes(tmp_path):
    minimal(tmp_path / "p.safetensors", **{"column.class": Y})
    assert read_probes(tmp_path / "p.safetensors").columns["class"].names == ("0", "1", "2")


def test_a_path_may_be_a_string(tmp_path):
    path = str(tmp_path / "p.safetensors")
    write_probes(path, analyze.ProbeSet(X, Y))
    np.testing.assert_array_equal(read_probes(path).targets, Y)


FILES = {
    "no targets": ({"targets": None}, {}, "targets missing; tensors: inputs, subset"),
    "no inputs": ({"inputs": None}, {}, "inputs missing"),
    "no subset": ({"subset": None}, {}, "subset missing"),
    "no names": ({}, {"subset_names": None}, "the metadata subset_names missing"),
    "names": ({}, {"subset_names": "a"}, "the metadata subset_names is not a JSON list"),
    "held out": ({}, {"held_out": "a"}, "the metadata held_out is not a JSON list"),
    "codes": ({"subset": np.arange(6)}, {}, "subset codes that are not integers from 0 to 2"),
    "below 0": ({"subset": -Y}, {}, "subset codes that are not integers from 0 to 2"),
    "floats": ({"subset": Y / 2}, {}, "subset codes that are not integers"),
    "table": ({"subset": Y[:, None]}, {}, "subset codes that are not integers"),
    "both": ({"inputs.x": X}, {}, "inputs beside inputs.x"),
    "twice": ({}, {"subset_names": ["a", "a", "b"]}, "subsets 'a', 'a', 'b' in "),
    "all": ({}, {"subset_names": ["a", "all", "b"]}, "subsets 'a', 'all', 'b' in "),
    "numbers": ({}, {"subset_names": [0, 1, 2]}, "subsets 0, 1, 2 in "),
    "ids": ({"id": Y}, {}, "id 0 stands for 2 probes in "),
    "not finite": ({"inputs": np.full_like(X, np.nan)}, {}, "NaN or infinity in inputs, probe 0"),
    "mean": ({}, {"mean": [0.5]}, "mean [0.5], std None"),
}


@pytest.mark.parametrize("case", FILES)
def test_what_is_no_probe_file(tmp_path, case):
    changes, meta, found = FILES[case]
    path = tmp_path / "p.safetensors"
    minimal(path, meta, **changes)
    with pytest.raises(InputError) as error:
        read_probes(path)
    assert found in error.value.found
    assert str(path) in error.value.found
    assert_three_facts(str(error.value))


@pytest.mark.parametrize("content", [b"", b"no probes", b"\xff" * 100])
def test_what_is_no_safetensors_file(tmp_path, content):
    path = tmp_path / "p.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a probe file"):
        read_probes(path)
    with pytest.raises(InputError, match="the probe file is missing"):
        read_probes(tmp_path)


# --- folds and cells


def test_a_fold_depends_on_the_id_and_the_number_of_folds_only():
    ids = np.arange(500)
    folds = fold_of(ids, 10)
    order = np.random.default_rng(0).permutation(500)
    np.testing.assert_array_equal(fold_of(ids[order], 10), folds[order])
    np.testing.assert_array_equal(fold_of(ids[100:7:-3], 10), folds[100:7:-3])
    assert [oracle.fold_of(k, 10) for k in ids.tolist()] == folds.tolist()
    assert (np.bincount(folds, minlength=10) > 25).all()
    assert (fold_of(ids, 3) != folds).any()


@pytest.mark.parametrize("value", [-1, -(2**63), 2**63 - 1])
def test_every_id_has_a_fold(value):
    assert 0 <= fold_of(np.array([value]), 7)[0] < 7


def test_a_probe_keeps_its_fold_in_a_part_of_the_set():
    probes = small_probes(24, id=np.arange(24) + 1000)
    rows = np.array([20, 3, 11])
    whole, part = Cells.of(probes, 4), Cells.of(probes.take(rows), 4)
    names = np.array(whole.names)[whole.of_probe][rows]
    assert names.tolist() == np.array(part.names)[part.of_probe].tolist()


def test_cells_are_subset_by_fold():
    probes = small_probes(24)
    cells = Cells.of(probes, 2)
    assert cells.names == [f"{s}/{k}" for s in ("clean", "corrupted", "held_out") for k in (0, 1)]
    assert cells.counts.tolist() == [len(cells.rows(k)) for k in range(6)]
    assert cells.counts.sum() == 24
    for k in range(6):
        assert (probes.subset[cells.rows(k)] == k // 2).all()
        assert [oracle.fold_of(int(i), 2) for i in probes.id[cells.rows(k)]] == [k % 2] * len(
            cells.rows(k)
        )


def test_the_file_is_read_by_safetensors_alone(tmp_path):
    write_probes(tmp_path / "p.safetensors", small_probes())
    arrays = load_file(tmp_path / "p.safetensors")
    assert sorted(arrays) == ["id", "inputs", "subset", "targets"]
    assert [arrays[k].dtype.kind for k in sorted(arrays)] == ["i", "f", "i", "i"]
