"""Results files: their bytes, and what stands in a file that is otherwise one."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

import analyze
from analyze.files.hdf5 import check_heaps
from analyze.results.rows import as_csv, verify_results
from analyze.results.seal import LENGTH, seal
from analyze.results.show import show
from scripts.fuzzing.chance import NUMBERS, REALS, number, spoilt, word
from scripts.fuzzing.kind import WRITTEN, Case, Kind, command
from scripts.fuzzing.text_inputs import honest_card
from scripts.fuzzing.texts import changed_json

FILE, OTHER = "out.h5", "other.h5"
PAGE_SECONDS = 60.0  # an honest page takes eight


@cache
def honest_results() -> bytes:
    """A small results file, without its seal; measured in a process of its own."""
    place = Path.cwd()
    for name, content in honest_card().items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(content)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            analyze.run("run", output=place / FILE, device="cpu", folds=2)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status != 0:
        sys.exit(f"the honest run failed with status {status}")
    return (place / FILE).read_bytes()[:-LENGTH]


def edited(content: bytes, change: Callable[[h5py.File], None]) -> bytes:
    """A results file after a change by h5py; as it was where h5py itself refuses."""
    buffer = io.BytesIO(content)
    try:
        check_heaps(buffer)  # HDF5 goes on for ever over some
        with h5py.File(buffer, "r+") as file:
            change(file)
    except Exception:  # of a kind that HDF5 has not, or a corpus' broken file
        return content
    return buffer.getvalue()


def _results(draw: Random, corpus: list[Case]) -> Case:
    """A file with spoilt bytes, or with some changes; a few with a new seal."""
    content = draw.choice(corpus)[FILE]
    if draw.random() < 0.35:
        content = spoilt(content, draw)
    else:
        times = 1 + int(draw.expovariate(0.7))
        content = edited(content, lambda file: _changes(file, draw, times))
    return {FILE: content + (seal(content) if draw.random() < 0.2 else b"")}


def _changes(file: h5py.File, draw: Random, times: int) -> None:
    for _ in range(times):
        draw.choice(CHANGES)(file, draw)


def _variables(file: h5py.File) -> list[h5py.Dataset]:
    found: list[h5py.Dataset] = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found


def _values(file: h5py.File, draw: Random) -> None:
    """Other values in a variable: all of them, or one."""
    variable = draw.choice(_variables(file))
    if variable.dtype.kind == "O":
        value: Any = word(draw).encode("utf-8", "surrogatepass")
    else:
        value = draw.choice((*REALS, *NUMBERS))
    if draw.random() < 0.5 or variable.ndim == 0:
        variable[...] = value
    else:
        variable[tuple(draw.randrange(n) for n in variable.shape)] = value


def _attribute(file: h5py.File, draw: Random) -> None:
    """Another attribute of a variable, a group or the file."""
    target = draw.choice(
        [file, *_variables(file), *(g for g in file.values() if isinstance(g, h5py.Group))]
    )
    names = [*target.attrs, "units", "long_name", "_FillValue", "coordinates", "_Netcdf4Dimid",
    "scale_factor",
             "add_offset", "dtype", "calendar", "CLASS", "NAME", "DIMENSION_LIST",
             "REFERENCE_LIST"]  # fmt: skip
    odd = (number(draw), draw.choice(REALS), word(draw), [1, 2], np.zeros(20_000), b"\xff\xfe",
           "days since 0000-00-00", h5py.Empty("f"), np.array([], "f8"),
           [word(draw)] * 3)  # fmt: skip
    target.attrs[draw.choice(names)] = draw.choice(odd)


def _provenance(file: h5py.File, draw: Random) -> None:
    """The provenance changed as JSON."""
    keys = (
        "held_out",
        "warnings",
        "checkpoints",
        "versions",
        "plan",
        "proof",
        "run",
        "training",
        "reading",
    )
    text = str(file.attrs["provenance"]).encode()
    file.attrs["provenance"] = (
        changed_json(text, draw, keys).decode("utf-8", "replace").replace("\0", "")
    )


def _missing(file: h5py.File, draw: Random) -> None:
    """A variable, or a group, that is not there."""
    names: list[str] = []
    file.visit(names.append)
    del file[draw.choice(names)]


def _other_form(file: h5py.File, draw: Random) -> None:
    """A variable of another type or shape in the place of one."""
    old = draw.choice(_variables(file))
    name, shape = old.name, old.shape
    del file[name]
    forms: tuple[Any, ...] = (
        np.zeros(shape, "i8"), np.zeros(shape, "f4"), np.zeros(shape[::-1]), np.zeros(shape[1:]),
        np.zeros(shape, "S3"),
        np.zeros(shape, "c8"), np.zeros(shape, "u1"), np.zeros(shape, bool), np.zeros((2, *shape)),
        np.zeros(shape, [("a", "f8")]), np.full(shape, "a", object), h5py.Empty("f8"),
        np.zeros(shape, ">f8"),
    )  # fmt: skip
    file[name] = draw.choice(forms)
    if draw.random() < 0.5:
        for axis in range(file[name].ndim):
            file[name].dims[axis].attach_scale(draw.choice(_variables(file)))


def _more(file: h5py.File, draw: Random) -> None:
    """Something that no results file has."""
    place = draw.choice(("", "network/", "layers/", "parameters/", "a/b/c/d/"))
    name = place + draw.choice(
        ("x", word(draw)[:99].replace("/", "") or "y", "coherence", "m_coherence_other")
    )
    way = draw.randrange(9)
    if way == 0:
        file[name] = draw.choice(
            (h5py.SoftLink("/loss"), h5py.ExternalLink("secret", "/x"), h5py.SoftLink("/" + name))
        )
    elif way == 1:
        file.create_dataset(name, (3,), "S10", external=[("../secret", 0, 30)])
    elif way == 2:
        file[name] = file[draw.choice(("network", "/"))]
    elif way == 3:
        packed = draw.choice(
            (
                {"compression": "gzip"},
                {"compression": "lzf"},
                {"scaleoffset": 2},
                {"fletcher32": True},
            )
        )
        file.create_dataset(
            name, (draw.choice((10, 1 << 24, 1 << 34)),), "f8", chunks=(1 << 10,), **packed
        )
    elif way == 4:
        for k in range(draw.choice((3, 3000))):
            file.create_group(f"{name}{k}")
    elif way == 5:
        file[name] = [word(draw).replace("\0", "") for _ in range(3)]
    elif way == 6:
        for _ in range(200):
            name += "/a"
        file.create_group(name)
    elif way == 7:
        file[name] = np.random.default_rng(0).standard_normal(draw.choice((1, 5, 1000)))
    else:
        file[name] = np.array([file.ref], h5py.ref_dtype)


CHANGES = (
    _values,
    _values,
    _values,
    _attribute,
    _attribute,
    _provenance,
    _missing,
    _other_form,
    _more,
)


def _read(folder: Path) -> str:
    """Everything that ``show`` does, opened once."""
    tree = analyze.open_results(folder / FILE)
    rows = show(tree)
    shown = as_csv(rows) + as_csv(show(tree, layers=True)) + json.dumps(rows)
    as_csv(show(tree, by="parameter"))
    verify_results(tree, FILE)
    return shown


def _pages(draw: Random, corpus: list[Case]) -> Case:
    """A file of which more often only values, names and attributes are other ones."""
    changes = (_values, _values, _values, _attribute, _provenance)
    case = draw.choice(corpus)
    times = draw.choice((1, 2, 4, 8))

    def change(file: h5py.File) -> None:
        for _ in range(times):
            draw.choice(changes)(file, draw)

    return {FILE: edited(case[FILE], change), OTHER: honest_results()}


def _read_pages(folder: Path) -> str:
    """By ``report``, and by ``compare`` with an honest file."""
    shown = command("compare", FILE, OTHER, "--output", f"{WRITTEN}/comparison")
    if not shown.startswith("Error"):
        shown = command("report", FILE, "--output", f"{WRITTEN}/report")
    pages = (path.read_text("utf-8") for path in (folder / WRITTEN).rglob("index.html"))
    if any("<script>alert(7)" in page for page in pages):
        return "\0 a name in a page is a script"
    return shown


KINDS = (
    Kind("results", 0.04, lambda: [{FILE: honest_results()}], _results, _read),
    Kind("pages", 0.001, lambda: [{FILE: honest_results(), OTHER: honest_results()}], _pages,
         _read_pages, PAGE_SECONDS),
)  # fmt: skip
