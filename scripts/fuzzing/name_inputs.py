"""Names of files, tensors, layers, subsets, columns and checkpoints, in all that prints them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import torch
from safetensors.torch import save

from analyze.results.rows import FORMULA
from analyze.results.seal import seal
from scripts.fuzzing.chance import spoilt, word
from scripts.fuzzing.kind import WRITTEN, Case, Kind, UnexpectedError, command
from scripts.fuzzing.results_inputs import edited, honest_results

NAMES = "names.json"
PARTS = {"files": 3, "tensors": 3, "layers": 2, "subsets": 2, "checkpoints": 1, "columns": 1}
LONGEST_FILE = 200  # bytes of a file's name


def _honest() -> list[Case]:
    names = {part: [f"{part}{k}" for k in range(count)] for part, count in PARTS.items()}
    names["files"] = ["step_1.pt", "step_2.safetensors", "notes.txt"]
    honest_results()  # measured now, before there are processes that need it
    return [{NAMES: json.dumps(names).encode()}]


def _names(draw: Random, corpus: list[Case]) -> Case:
    """Some of the names are other ones: words that mean trouble, alone or within a name."""
    case = dict(draw.choice(corpus))
    names = json.loads(case[NAMES])
    for part in PARTS:
        for k, name in enumerate(names[part]):
            if draw.random() < 0.5:
                odd = (
                    word(draw)
                    if draw.random() < 0.8
                    else spoilt(name.encode(), draw).decode("latin-1")
                )
                names[part][k] = draw.choice(
                    (odd, odd + name, name + odd, f"step_{odd}.safetensors")
                )
    return case | {NAMES: json.dumps(names).encode()}


def _usable(names: list[str]) -> list[str]:
    """Names that formats take at all: text that can be encoded, without the zero character."""
    return [n.encode("utf-8", "replace").decode().replace("\0", "") for n in names]


def _written(names: dict[str, list[str]], folder: Path) -> None:
    """A run, probes and results with these names."""
    tensors = {name: torch.ones(2) for name in _usable(names["tensors"])}
    weights = save(tensors or {"a": torch.ones(2)})
    (folder / "run").mkdir()
    for name in _usable(names["files"]):
        plain = name.replace("/", "_").encode()[:LONGEST_FILE].decode("utf-8", "ignore")
        if plain not in ("", ".", ".."):
            (folder / "run" / plain).write_bytes(weights)
    (folder / "probes.safetensors").write_bytes(_probes(names))
    content = edited(honest_results(), lambda file: _relabel(file, names))
    (folder / "out.h5").write_bytes(content + seal(content))


def _probes(names: dict[str, list[str]]) -> bytes:
    subsets, column = names["subsets"], names["columns"][0] if names["columns"] else "a"
    return save(
        {"inputs": torch.zeros(4, 3, 8, 8), "targets": torch.tensor([0, 1, 0, 1]),
         "subset": torch.tensor([0, 1, 0, 1]), f"column.{_usable([column])[0]}": torch.tensor([0,
         1, 0, 1])},
        {"subset_names": json.dumps(subsets),
        f"column_names.{_usable([column])[0]}": json.dumps(subsets)},
    )  # fmt: skip


def _relabel(file: h5py.File, names: dict[str, list[str]]) -> None:
    """Put names of layers, subsets and checkpoints where a results file has them, in all groups."""
    known: dict[str, str] = {}
    for part, place in (
        ("layers", "layers/layer"),
        ("subsets", "subset"),
        ("checkpoints", "checkpoint"),
    ):
        old = [v.decode() for v in file[place][...] if v != b"all"]
        known |= dict(zip(old, _usable(names[part]), strict=False))

    def rename(_: str, item: Any) -> None:
        if (
            isinstance(item, h5py.Dataset)
            and h5py.check_string_dtype(item.dtype)
            and item.ndim == 1
        ):
            values = [known.get(v.decode(), v.decode()) for v in item[...]]
            item[...] = np.array(values, dtype=object)

    file.visititems(rename)


def _read(folder: Path) -> str:
    """By everything that prints names."""
    _written(json.loads((folder / NAMES).read_text("utf-8")), folder / WRITTEN)
    run, results, probes = (f"{WRITTEN}/{name}" for name in ("run", "out.h5", "probes.safetensors"))
    shown = [
        command("scan", run), command("scan", run, "--json"), command("show", results),
        command("probes", "show", probes, "--sheet", f"{WRITTEN}/sheet.png"),
    ]  # fmt: skip
    table = command("show", results, "--layers", "--csv")
    if not table.startswith("Error"):
        _refuse_formulas(table)
    return "\n".join([*shown, table])


def _refuse_formulas(table: str) -> None:
    for row in csv.reader(io.StringIO(table)):
        for cell in row:
            if cell.lstrip()[:1] in FORMULA and not _is_number(cell) and cell:
                raise UnexpectedError(f"a cell that a spreadsheet runs: {cell[:40]!r}")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


KINDS = (Kind("names", 0.01, _honest, _names, _read),)
