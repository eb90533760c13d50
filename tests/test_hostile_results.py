"""Results files from anyone: what leads out of them, claims what is not there, or is no result."""

from __future__ import annotations

import json
import struct
import zlib

import h5py
import numpy as np
import pytest

import analyze
from tests.conftest import assert_input_error, assert_three_facts, call


@pytest.fixture
def copy(measured, tmp_path):
    path = tmp_path / "copy.h5"
    path.write_bytes(measured.output.read_bytes())
    return path


def external(file, folder) -> None:
    del file["status"]
    where = [(str(folder / "secret"), 0, 30)]
    file.create_dataset("status", shape=(3,), dtype="S10", external=where)
    file["status"].dims[0].attach_scale(file["checkpoint"])


def virtual(file, folder) -> None:
    layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", shape=(3,))
    file.create_virtual_dataset("network/x", layout)


def linked(link):
    def change(file, folder) -> None:
        file["network/x"] = link

    return change


def circle(file, folder) -> None:
    file["network/again"] = file["network"]


def axes_in_numbers(file, folder) -> None:
    file["loss"].attrs["DIMENSION_LIST"] = [1, 2]


def axes_elsewhere(file, folder) -> None:
    kind = h5py.vlen_dtype(h5py.ref_dtype)
    leading = np.array([np.array([file["network"].ref], h5py.ref_dtype)] * 2 + [None], object)[:2]
    file["loss"].attrs.create("DIMENSION_LIST", leading, dtype=kind)


def bomb(file, folder) -> None:
    file.create_dataset("network/x", (1 << 28,), "f8", chunks=(1 << 20,), compression="gzip")


def late(file, folder) -> None:
    file.create_dataset("network/x", (1 << 40,), "f8", chunks=(1 << 20,))


def many_groups(file, folder) -> None:
    for k in range(101):
        file.create_group(f"network/x{k}")


def heap_without_end(file, folder) -> None:
    """HDF5 goes from one part of a heap of texts to the next by its length, here 0."""
    file.flush()
    file.close()
    path = folder / "copy.h5"
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    (length,) = struct.unpack_from("<Q", content, heap + 8)
    place = heap + 16
    while (entry := struct.unpack_from("<HHIQ", content, place))[0] and place < heap + length - 32:
        place += 16 + -(-entry[3] // 8) * 8
    content[place : place + 16] = bytes(16)
    path.write_bytes(content)


def deep_groups(file, folder) -> None:
    file.create_group("network" + "/x" * 90)


def many_variables(file, folder) -> None:
    for k in range(2000):
        file[f"x{k}"] = k


def compound(file, folder) -> None:
    file["network/x"] = np.zeros(3, dtype=[("a", "f8"), ("b", "i4")])


def chunk(file, folder) -> None:
    """A single number in a chunk of a gigabyte, that is unpacked for it."""
    bomb = {"chunks": (1 << 27,), "compression": "gzip"}
    made = file.create_dataset("network/x", (1,), "f8", maxshape=(None,), **bomb)
    packed = zlib.compress(bytes(1 << 20)) + bytes(1 << 20)
    made.id.write_direct_chunk((0,), packed)


def one_text_many_times(file, folder) -> None:
    """All texts lie at the place of the first one, a megabyte long."""
    made = file.create_dataset("network/x", (300,), h5py.string_dtype())
    made[0] = "x" * (1 << 20)
    file.flush()
    place = made.id.get_offset()
    file.close()
    path = folder / "copy.h5"
    content = bytearray(path.read_bytes())
    content[place : place + 16 * 300] = content[place : place + 16] * 300
    path.write_bytes(content)


def texts_of_an_attribute(file, folder) -> None:
    texts = np.array(["x"] * 65, object)
    file["network"].attrs.create("note", texts, dtype=h5py.string_dtype())


def numbers_of_an_attribute(file, folder) -> None:
    numbers = np.empty(1, object)
    numbers[0] = np.zeros(3)
    file["network"].attrs.create("note", numbers, dtype=h5py.vlen_dtype(np.float64))


def texts_in_a_table(file, folder) -> None:
    file["network/x"] = np.array([["a", "b"]], object)


STRUCTURE = {
    "a chunk larger than its variable": (chunk, "bytes that become 10"),
    "one text many times": (one_text_many_times, "and more in memory"),
    "texts of an attribute": (texts_of_an_attribute, "'note' of /network has more than 64"),
    "numbers of an attribute": (numbers_of_an_attribute, "'note' of /network is neither"),
    "texts in a table": (texts_in_a_table, "/network/x holds texts along 2 axes"),
    "values in another file": (external, "takes its values from other files"),
    "a view of another file": (virtual, "takes its values from other files"),
    "a link to another file": (linked(h5py.ExternalLink("a.h5", "/x")), "is a link to elsewhere"),
    "a link": (linked(h5py.SoftLink("/loss")), "is a link to elsewhere"),
    "a group in itself": (circle, "is there a second time"),
    "a bomb": (bomb, "bytes, which are not in the file"),
    "values never written": (late, "bytes, which are not in the file"),
    "many groups": (many_groups, "is one of too many"),
    "a heap without an end": (heap_without_end, "has a free part of no length"),
    "groups in groups": (deep_groups, "/network/x/x/x/x/x/x/x/x lies too deep"),
    "many variables": (many_variables, "is one of too many"),
    "records": (compound, "which is neither number nor text"),
    "axes that are numbers": (axes_in_numbers, "/loss has no proper DIMENSION_LIST"),
    "axes that are groups": (axes_elsewhere, "an axis of /loss is no variable of the file"),
}


@pytest.mark.parametrize("case", STRUCTURE)
def test_what_is_not_in_the_file_is_not_read(copy, tmp_path, case):
    change, found = STRUCTURE[case]
    (tmp_path / "secret").write_bytes(b"TOPSECRET-0123456789abcdefghijkl")
    with h5py.File(copy, "r+") as file:
        change(file, tmp_path)
    with pytest.raises(analyze.InputError, match="this is not a results file") as error:
        analyze.open_results(copy)
    assert found in error.value.found
    assert_three_facts(str(error.value))


def provenance(**facts):
    def change(file) -> None:
        origin = json.loads(file.attrs["provenance"])
        file.attrs["provenance"] = json.dumps(origin | facts)

    return change


def text(value):
    def change(file) -> None:
        file.attrs["provenance"] = value

    return change


def without(name):
    def change(file) -> None:
        del file[name]

    return change


def values(name, new):
    def change(file) -> None:
        file[name][...] = new

    return change


def other_axes(name, shape):
    def change(file) -> None:
        if name in file:
            del file[name]
        file[name] = np.zeros(shape)

    return change


def offset(name: str, value: float):
    """A number that every reader adds to the values."""

    def change(file) -> None:
        file[name].attrs["add_offset"] = value

    return change


def units(value):
    def change(file) -> None:
        file["loss"].attrs["units"] = value

    return change


FORM = {
    "no JSON": (text("{"), "no JSON object"),
    "deep JSON": (text("[" * 30_000), "no JSON object"),
    "a number": (text(3), "no JSON object"),
    "a list": (text("[1]"), "no JSON object"),
    "held out, a number": (provenance(held_out=3), "held_out = 3 in the provenance"),
    "warnings, a number": (provenance(warnings=7), "warnings = 7"),
    "warnings, numbers": (provenance(warnings=[7]), "warnings = [7]"),
    "checkpoints, numbers": (provenance(checkpoints=[1]), "checkpoints = [1]"),
    "a proof in words": (provenance(proof={"relative_errors": {"a": "x"}}), "proof.relative_err"),
    "a precision of no numbers": (provenance(precision="str"), "precision = str in the provenance"),
    "verified, in words": (
        provenance(verification={"compared_with_autograd_alone": "all"}),
        "verification.compared_with_autograd_alone = all",
    ),
    "a proof that is none": (provenance(proof=[1]), "parts that are no objects"),
    "no types of layers": (without("layers/layer_type"), "/layers/layer_type missing"),
    "endless flags": (offset("network/warning_flags", np.inf), "flags with numbers that stand for"),
    "halves of flags": (offset("layers/warning_flags", 0.5), "flags with numbers that stand for"),
    "flags below 0": (values("layers/warning_flags", -3), "flags with numbers that stand for no"),
    "no folds": (without("parameters/cell_fold"), "/parameters/cell_fold missing"),
    "no sizes": (without("parameters/parameter_count"), "/parameters/parameter_count missing"),
    "no group": (without("layers"), "/layers/layer, "),
    "subsets of one name": (values("subset", "all"), "damaged ("),
    "cells of others": (values("parameters/cell_subset", "x"), "cells of other subsets"),
    "layers of others": (values("parameters/layer", "x"), "parameters of other layers"),
    "shares by other axes": (
        other_axes("network/alpha_unbiased", (2, 3, 4)),
        "/network/alpha_unbiased (",
    ),
    "a loss by other axes": (other_axes("loss_per_token", ()), "/loss_per_token ("),
    "units that are no text": (units(3), "units of loss that is no text"),
}


@pytest.mark.parametrize("case", FORM)
def test_what_is_no_result_is_told(copy, case):
    change, found = FORM[case]
    with h5py.File(copy, "r+") as file:
        change(file)
    assert_input_error(call("show", str(copy)), "this is not a results file", found)


def test_units_are_no_formula(copy):
    from matplotlib.figure import Figure

    from analyze.figures.loss_over_training import draw
    from analyze.pages.figures import rendered

    with h5py.File(copy, "r+") as file:
        units("$\\frac{$")(file)
    figure = Figure()
    draw(analyze.open_results(copy), figure.subplots())
    assert b"mean loss ($\\frac{$)" in rendered(figure)["svg"]


def test_names_that_begin_with_a_line_below_are_in_the_legend():
    from matplotlib.figure import Figure

    from analyze.figures.names import legend_label, unmarked

    figure = Figure()
    ax = figure.subplots()
    for name in ("_a", "b", "$_c$"):
        ax.plot([1], [1], label=legend_label(name))
    ax.plot([1], [1], label="_guide")
    legend = ax.legend()
    unmarked(legend)
    assert [t.get_text() for t in legend.get_texts()] == ["_a", "b", r"\$_c\$"]


@pytest.mark.parametrize("name", ["=1+1", "@SUM(1)", "+1", "-1", " =1", "\t=1", "\uff1d1", "a"])
def test_spreadsheets_run_no_name(name):
    from analyze.results.rows import as_csv

    row = {"checkpoint": name, "m_coherence": -1.5, "warnings": []}
    cell = as_csv([row]).splitlines()[1].partition(",")[0]
    assert cell[:1] not in "=+-@\t \uff1d" or name == "a"
    assert as_csv([row]).splitlines()[1].split(",")[1] == "-1.5"


def test_results_without_a_measured_checkpoint_are_told(copy):
    with h5py.File(copy, "r+") as file:
        file["status"][...] = "it was empty"
    result = call("show", str(copy), "--layers")
    assert_input_error(result, "no checkpoint of the results was measured", "it was empty")
