"""The results file: its contract, read by xarray and by plain h5py, and how it is written."""

from __future__ import annotations

import io
import json
import os

import h5py
import numpy as np
import pytest
import xarray as xr

import analyze
from analyze import statistics
from analyze.errors import InputError
from analyze.files.members import Members
from analyze.results import seal
from analyze.results.file import check_writable, file_content, open_results, write_results
from tests.conftest import NAMES, SUBSETS, small_probes

COHERENCE = {
    "m_coherence": (), "m_coherence_stderr": (), "alpha": (), "alpha_unbiased": (),
    "norm_of_mean_gradient": (), "mean_squared_gradient_norm": (),
    "gradient_dot": ("subset_other",), "gradient_cosine": ("subset_other",),
}  # fmt: skip
CELL = ("cell", "cell_other")
# Every variable of the contract with its dimensions, by group.
CONTRACT: dict[str, dict[str, tuple[str, ...]]] = {
    "/": {
        "loss": ("checkpoint", "subset"), "accuracy": ("checkpoint", "subset"),
        "probe_count": ("subset",), "checkpoint": ("checkpoint",), "step": ("checkpoint",),
        "epoch": ("checkpoint",), "status": ("checkpoint",), "subset": ("subset",),
    },
    "/network": {
        **{k: ("checkpoint", "subset", *more) for k, more in COHERENCE.items()},
        "subset": ("subset",), "subset_other": ("subset_other",),
    },
    "/layers": {
        **{k: ("checkpoint", "layer", "subset", *more) for k, more in COHERENCE.items()},
        "layer": ("layer",), "layer_type": ("layer",), "parameter_count": ("layer",),
    },
    "/parameters": {
        "gradient_gram": ("checkpoint", "parameter", *CELL),
        "gradient_sqnorm": ("checkpoint", "parameter", "cell"), "probe_count": ("cell",),
        "parameter": ("parameter",), "layer": ("parameter",), "aliases": ("parameter",),
        "method": ("parameter",), "cell": ("cell",), "cell_other": ("cell_other",),
        "cell_subset": ("cell",), "cell_fold": ("cell",),
    },
    "/examples": {
        "gradient_sqnorm": ("checkpoint", "layer", "probe"), "loss": ("checkpoint", "probe"),
        "layer": ("layer",), "probe": ("probe",), "subset": ("probe",), "target": ("probe",),
    },
}  # fmt: skip
FLOATS = [(g, n) for g, table in CONTRACT.items() for n in table if n in {
    *COHERENCE, "loss", "accuracy", "gradient_gram", "gradient_sqnorm", "step", "epoch",
}]  # fmt: skip


@pytest.fixture(scope="module")
def tree(measured) -> xr.DataTree:
    return open_results(measured.output)


def text(dataset: h5py.Dataset) -> list[str]:
    return dataset.asstr()[...].tolist()


def test_round_trip(tree, tmp_path):
    write_results(tree, tmp_path / "again.h5")
    assert open_results(tmp_path / "again.h5").identical(tree)
    assert [p.name for p in tmp_path.iterdir()] == ["again.h5"]


@pytest.mark.parametrize("name", ["human label", "two\nlines"])
def test_a_column_with_white_space_in_its_name_is_written_and_read(tree, tmp_path, name):
    labelled = tree.copy()
    for group, dimension, of in (
        ("parameters", "cell", f"cell_{name}"),
        ("examples", "probe", name),
    ):
        table = tree[group].to_dataset(inherit=False)
        labels = np.array(["cat", "dog"], dtype=object)[np.arange(table.sizes[dimension]) % 2]
        labelled[group].dataset = table.assign_coords({of: (dimension, labels)})
    write_results(labelled, tmp_path / "columns.h5")
    found = open_results(tmp_path / "columns.h5")
    assert found.identical(labelled)
    cats = {"cats": {name: "cat"}}
    np.testing.assert_array_equal(
        statistics.coherence(found, subsets=cats)["m_coherence"],
        statistics.coherence(labelled, subsets=cats)["m_coherence"],
    )


@pytest.mark.parametrize("group", CONTRACT)
def test_every_group_opens_alone(measured, group):
    with xr.open_dataset(measured.output, group=group, engine="h5netcdf") as dataset:
        assert dataset["checkpoint"].values.tolist() == NAMES
        assert dataset["step"].values.tolist() == [9, 10, 100]
        assert np.isnan(dataset["epoch"].values).all()
        for name, dims in CONTRACT[group].items():
            assert dataset[name].dims == dims, name


def test_xarray_opens_the_tree(measured, tree):
    with xr.open_datatree(measured.output, engine="h5netcdf") as opened:
        assert {"/", *(g.path for g in opened.children.values())} == set(CONTRACT)
        assert opened.identical(tree)


@pytest.mark.parametrize("group", CONTRACT)
def test_plain_h5py_reads_names_and_dimensions(measured, group):
    with h5py.File(measured.output) as file:
        for name, dims in CONTRACT[group].items():
            variable = file[group][name]
            if not variable.is_scale:
                scales = [scale[0].name.rpartition("/")[2] for scale in variable.dims]
                assert tuple(scales) == dims, name
            assert variable.ndim == len(dims)


@pytest.mark.parametrize(("group", "name"), FLOATS, ids=lambda part: part.strip("/"))
def test_types(measured, group, name):
    single = (group, name) == ("/examples", "gradient_sqnorm")
    with h5py.File(measured.output) as file:
        assert file[group][name].dtype == (np.float32 if single else np.float64)


def test_plain_h5py_reads_the_values(measured, tree):
    with h5py.File(measured.output) as file:
        assert text(file["subset"]) == [*SUBSETS, "all"]
        assert file["probe_count"][...].tolist() == [8, 8, 8, 16]
        assert text(file["checkpoint"]) == NAMES
        status = text(file["status"])
        assert (status[0], status[2]) == ("ok", "ok")
        assert "it is empty" in status[1]
        parameters = file["parameters"]
        names = ["hidden.weight", "hidden.bias", "fc.weight", "fc.bias"]
        assert text(parameters["parameter"]) == names
        assert text(parameters["layer"]) == ["hidden", "hidden", "fc", "fc"]
        assert text(parameters["aliases"]) == [""] * 4
        assert text(parameters["cell"]) == [f"{s}/{k}" for s in SUBSETS for k in (0, 1)]
        assert text(parameters["cell"]) == text(parameters["cell_other"])
        assert text(parameters["cell_subset"]) == [s for s in SUBSETS for _ in (0, 1)]
        assert parameters["cell_fold"][...].tolist() == [0, 1] * 3
        assert text(file["layers/layer"]) == ["hidden", "fc"]
        assert text(file["layers/layer_type"]) == ["Linear", "Linear"]
        assert file["layers/parameter_count"][...].tolist() == [65, 18]
        probes = small_probes()
        assert file["examples/probe"][...].tolist() == probes.id.tolist()
        assert file["examples/target"][...].tolist() == probes.targets.tolist()
        assert text(file["examples/subset"]) == [SUBSETS[k % 3] for k in range(24)]


def test_the_headline_follows_from_the_sums_in_the_file(measured):
    """With h5py and the definition alone: |sum g|^2 / sum |g|^2 over the cells of a subset."""
    with h5py.File(measured.output) as file:
        subsets = np.array(text(file["parameters/cell_subset"]))
        gram = file["parameters/gradient_gram"][...].sum(1)
        squares = file["parameters/gradient_sqnorm"][...].sum(1)
        found = file["network/m_coherence"][...]
    for k, subset in enumerate([*SUBSETS, "all"]):
        member = subsets != "held_out" if subset == "all" else subsets == subset
        expected = gram[:, member][:, :, member].sum((1, 2)) / squares[:, member].sum(1)
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-12)


@pytest.mark.parametrize("group", CONTRACT)
def test_every_variable_says_what_it_is(tree, group):
    for name, variable in tree[group].to_dataset(inherit=False).data_vars.items():
        assert variable.attrs.get("long_name"), name
        assert variable.attrs.get("units"), name


def test_root_attributes(measured):
    with h5py.File(measured.output) as file:
        version, provenance = file.attrs["schema_version"], file.attrs["provenance"]
    assert isinstance(version, np.int64)
    assert (version, open_results(measured.output).attrs["schema_version"]) == (1, 1)
    content = json.loads(provenance)
    assert {
        "command", "versions", "device", "precision", "model", "probes", "checkpoints",
        "batch_norm", "plan", "proof",
    } <= set(content)  # fmt: skip
    assert len(content["probes"]["sha256"]) == 64
    records = content["checkpoints"]
    assert [r["checkpoint"] for r in records] == NAMES
    assert [len(r.get("sha256", "")) for r in records] == [64, 0, 64]


# --- writing


def full(descriptor: int) -> None:
    """As a full disk does: after a part was written."""
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("old", [None, b"the old one"])
def test_a_failure_leaves_no_part_and_the_old_file(tree, tmp_path, monkeypatch, old):
    path = tmp_path / "out.h5"
    if old is not None:
        path.write_bytes(old)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="the output cannot be written") as error:
        write_results(tree, path)
    assert error.value.found == f"{path}: No space left on device"
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if old is None else [old])


def test_a_bug_while_writing_leaves_no_part_either(tree, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(xr.DataTree, "to_netcdf", broken)
    with pytest.raises(ZeroDivisionError):
        write_results(tree, tmp_path / "out.h5")
    assert list(tmp_path.iterdir()) == []


def test_the_file_appears_complete_or_not_at_all(tree, tmp_path, monkeypatch):
    seen = []
    write = xr.DataTree.to_netcdf

    def watched(self, path, **kwargs):
        write(self, path, **kwargs)
        seen.append((tmp_path / "out.h5").exists())

    monkeypatch.setattr(xr.DataTree, "to_netcdf", watched)
    write_results(tree, tmp_path / "out.h5")
    assert seen == [False]
    assert (tmp_path / "out.h5").exists()


def test_the_file_has_the_permissions_of_any_new_file(tree, tmp_path):
    (tmp_path / "other").touch()
    write_results(tree, tmp_path / "out.h5")
    modes = [(tmp_path / name).stat().st_mode for name in ("other", "out.h5")]
    assert modes[0] == modes[1]


def test_what_cannot_be_read_is_not_kept_open(measured, tmp_path):
    path = tmp_path / "out.h5"
    content = bytearray(measured.output.read_bytes()[: -seal.LENGTH])  # it would say so first
    second = content.index(b"OHDR", content.index(b"OHDR") + 4)  # an object in the root group
    content[second + 12] ^= 255
    path.write_bytes(content)
    with pytest.raises(InputError, match="this is not a results file") as error:
        open_results(path)
    with h5py.File(path, "a") as file:  # HDF5 refuses this while the file is open elsewhere
        assert "network" in file
    assert str(path) in error.value.found  # what the error holds on to lived until here


def test_a_file_that_another_program_wrote_again(measured, tree, tmp_path):
    """netCDF programs make a list of every number among the attributes."""
    tree.to_netcdf(tmp_path / "again.h5", engine="h5netcdf", write_inherited_coords=True)
    with h5py.File(tmp_path / "again.h5") as file:
        assert file.attrs["schema_version"].shape == (1,)
    assert open_results(tmp_path / "again.h5").identical(tree)


def test_where_a_file_can_go(tmp_path, measured):
    check_writable(tmp_path / "new.h5")
    check_writable(measured.output)
    assert list(tmp_path.iterdir()) == []
    for path in (tmp_path, tmp_path / "gone" / "new.h5", f"{tmp_path}/new.h5/", "a\0b", ""):
        with pytest.raises(InputError, match="the output cannot be written"):
            check_writable(path)


def test_a_member_is_looked_up_once_and_anew_where_it_was_deleted(tmp_path):
    with Members(tmp_path / "a.h5", "w") as file:
        file["group/a"] = 1
        assert file["group/a"] is file["group/a"]
        del file["group"]["a"]
        file["group"]["a"] = 2
        assert file["group/a"][()] == 2
        del file["group"]["a"]
        with pytest.raises(KeyError):
            file["group/a"]


def test_the_same_tree_gives_the_same_bytes_with_all_that_is_in_it(tree):
    content, sealed = file_content(tree)
    assert [bytes(part) for part in file_content(tree)] == [bytes(content), sealed]
    with xr.open_datatree(io.BytesIO(content), engine="h5netcdf") as plain:
        assert plain.load().identical(tree)


def test_only_results_are_replaced(measured, tree, tmp_path, monkeypatch):
    """A file with its seal is not read for that, one that another program wrote is."""
    tree.to_netcdf(tmp_path / "again.h5", engine="h5netcdf", write_inherited_coords=True)
    check_writable(tmp_path / "again.h5")
    other = xr.DataTree(xr.Dataset({"a": ("x", np.zeros(3))}))
    write_results(other, tmp_path / "sealed.h5")
    other.to_netcdf(tmp_path / "plain.h5", engine="h5netcdf")
    (tmp_path / "damaged.h5").write_bytes(measured.output.read_bytes()[:-1])
    for name in ("sealed", "plain", "damaged"):
        with pytest.raises(InputError, match="this is not a results file"):
            check_writable(tmp_path / f"{name}.h5")
    monkeypatch.setattr(xr, "open_datatree", None)
    check_writable(measured.output)


def test_large_variables_are_compressed_and_small_ones_are_not(tmp_path):
    big = xr.Dataset({"a": ("x", np.zeros(1 << 14)), "b": ("x", np.zeros(1 << 14, np.int8))})
    write_results(xr.DataTree(big), tmp_path / "big.h5")
    with h5py.File(tmp_path / "big.h5") as file:
        assert (file["a"].compression, file["b"].compression) == ("gzip", None)


def test_a_model_in_memory_gives_the_same_tree(tmp_path):
    import torch

    model = torch.nn.Linear(12, 3)
    tree = analyze.measure(model, small_probes(), device="cpu", folds=2)
    write_results(tree, tmp_path / "out.h5")
    again = open_results(tmp_path / "out.h5")
    assert again.identical(tree)
    assert again["checkpoint"].values.tolist() == ["model"]
    for group, variables in CONTRACT.items():
        for name, dims in variables.items():
            assert again[group].to_dataset()[name].dims == dims
