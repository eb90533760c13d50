"""Arrays in files: safetensors of weights, frozen probes, files of arrays and labels for probes."""

from __future__ import annotations

import io
import json
import struct
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from analyze.checkpoints.reading import read_weights
from scripts.fuzzing.chance import number, spoilt, word
from scripts.fuzzing.kind import WRITTEN, Case, Kind, command
from scripts.fuzzing.text_inputs import honest_probes
from scripts.fuzzing.texts import as_table, changed, changed_json
from scripts.fuzzing.torch_inputs import zipped

DTYPES = (
    "F32",
    "F16",
    "BF16",
    "I64",
    "U8",
    "BOOL",
    "F8_E4M3",
    "C64",
    "F4",
    "U64",
    "F99",
    "",
    "f32",
)
HEADER_KEYS = ("__metadata__", "dtype", "shape", "data_offsets", "inputs", "inputs.a", "targets",
"subset",
               "id", "column.a", "column_names.a", "subset_names", "held_out", "mean",
               "std")  # fmt: skip
EXAMPLES = 12


def _safetensors(draw: Random, corpus: list[Case]) -> Case:
    """The header as a value of JSON, its length, or the bytes."""
    case = dict(draw.choice(corpus))
    name = draw.choice([name for name in sorted(case) if name.endswith(".safetensors")])
    return case | {name: _other_header(case[name], draw)}


def _other_header(content: bytes, draw: Random) -> bytes:
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
    except (ValueError, RecursionError):  # a corpus has broken ones too
        return spoilt(content, draw)
    way, values = draw.random(), content[8 + length :]
    if way < 0.15:
        return spoilt(content, draw)
    if way < 0.3:
        return struct.pack("<Q", number(draw) & ((1 << 64) - 1)) + content[8:]
    if way < 0.55:
        text = changed_json(content[8 : 8 + length], draw, HEADER_KEYS)
    elif way < 0.7:
        text = json.dumps(_metadata_changed(header, draw)).encode()
    else:
        entry = draw.choice([e for e in header.values() if "shape" in e])
        _lie(entry, draw)
        text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


def _lie(entry: dict[str, Any], draw: Random) -> None:
    """Another type, shape or place of one tensor; at times the values still suffice."""
    way = draw.randrange(5)
    if way == 0:
        entry["dtype"] = draw.choice(DTYPES)
    elif way == 1:
        entry["shape"] = [number(draw) for _ in range(draw.randrange(4))]
    elif way == 2:
        entry["data_offsets"] = [number(draw), number(draw)]
    elif way == 3:
        entry["shape"] = [*entry["shape"], 1] if draw.random() < 0.5 else entry["shape"][::-1]
    else:
        whole = int(np.prod(entry["shape"])) if entry["shape"] else 1
        entry["shape"] = draw.choice(
            ([whole], [1] * 70 + [whole], [whole, 1], [0, 1 << 62], [1, whole])
        )


def _metadata_changed(header: dict[str, Any], draw: Random) -> dict[str, Any]:
    """Other entries of the metadata; lists in JSON are changed as lists."""
    notes = dict(header.get("__metadata__", {}))
    for name in list(notes):
        if draw.random() < 0.5:
            notes[name] = changed_json(notes[name].encode(), draw).decode("utf-8", "replace")
    if draw.random() < 0.3:
        notes[draw.choice(HEADER_KEYS)] = json.dumps(changed([1, "a"], draw))
    return {**header, "__metadata__": notes}


def _read_weights(folder: Path) -> str:
    shown = command("scan", "run")
    for path in sorted((folder / "run").iterdir()):
        weights = read_weights(path)
        shown += f"{len(weights)} {sum(t.nbytes for t in weights.values())}\n"
    return shown


def _read_probes(folder: Path) -> str:
    return command("probes", "show", "probes.safetensors", "--sheet", f"{WRITTEN}/sheet.png")


# --- the user's own arrays, tables and pictures, of which probes are built


@cache
def _arrays() -> Case:
    draw = np.random.default_rng(0)
    values: dict[str, Any] = {
        "inputs": draw.standard_normal((EXAMPLES, 3)).astype(np.float32),
        "targets": np.arange(EXAMPLES) % 3, "true_labels": np.arange(EXAMPLES) % 3,
        "id": np.arange(EXAMPLES), "group": np.array(["a", "b"] * (EXAMPLES // 2)),
    }  # fmt: skip
    npz, packed, npy, torch_file = (io.BytesIO() for _ in range(4))
    np.savez(npz, **values)
    np.savez_compressed(packed, **values)
    np.save(npy, np.arange(EXAMPLES) % 2 == 0)
    tensors = {k: torch.as_tensor(values[k]) for k in ("inputs", "targets", "id")}
    torch.save(tensors, torch_file)
    return {
        "data.npz": npz.getvalue(), "packed.npz": packed.getvalue(), "noise.npy": npy.getvalue(),
        "data.pt": torch_file.getvalue(), "data.safetensors": save(tensors),
    }  # fmt: skip


def _of_arrays() -> list[Case]:
    arrays = _arrays()
    noise = {"noise.npy": arrays["noise.npy"]}
    return [{name: content, **noise} for name, content in arrays.items() if name != "noise.npy"]


def _any_arrays(draw: Random, corpus: list[Case]) -> Case:
    """A file of arrays: its bytes, the header of an array, the entries of an archive."""
    case = dict(draw.choice(corpus))
    name = draw.choice(sorted(case))
    content = case[name]
    if name.endswith(".npy"):
        return case | {name: _other_array(content, draw)}
    if name.endswith(".safetensors"):
        return case | {name: _other_header(content, draw)}
    if name.endswith(".npz") and draw.random() < 0.7:
        entries = {"inputs.npy": _npy(np.zeros((EXAMPLES, 3), np.float32)),
                   "targets.npy": _npy(np.arange(EXAMPLES) % 3)}  # fmt: skip
        changed_one = draw.choice(sorted(entries))
        entries[changed_one] = _other_array(entries[changed_one], draw)
        entries[draw.choice(("true.npy", "id.npy", word(draw)[:99].replace("\ud800", "")))] = (
            entries[changed_one]
        )
        return case | {name: zipped(list(entries.items()), draw.choice((0, 8)))}
    return case | {name: spoilt(content, draw)}


def _npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


def _other_array(content: bytes, draw: Random) -> bytes:
    """Another header, or values of a kind that hold objects, records or texts."""
    way = draw.randrange(5)
    if way == 0:
        return spoilt(content, draw)
    if way == 1:
        odd: tuple[Any, ...] = (
            np.array([1, None], object), np.zeros(3, "f4,i4"), np.array(["a" * 99, "b"]),
            np.float64(1), np.zeros((3, 0)), np.array([np.nan, np.inf]), np.zeros(2, "M8[s]"),
            np.zeros(2, "c16"), np.zeros(2, "V7"), np.zeros(2, "g"), np.zeros((2,) * 18),
            np.zeros(2, ">i2"),
        )  # fmt: skip
        return _npy(draw.choice(odd))
    shape = tuple(number(draw) for _ in range(draw.randrange(3)))
    kind = draw.choice(
        ("<f4", "<i8", "|O", "|S1000000000", "<U9", "|V0", "x", "[('a', '<f4')]", "|b1")
    )
    header = draw.choice((
        f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}",
        f"{{'descr': {kind}, 'fortran_order': True, 'shape': {shape}, }}",
        "(" * 3000, "__import__('os').system('true')", "{'descr': '<f4'}", word(draw)[:2000],
    )).encode("utf-8", "replace")  # fmt: skip
    return (
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + content[128:]
    )


def _read_arrays(folder: Path) -> str:
    """By ``probes build``: the data, and a mask where there is one."""
    (data,) = [p.name for p in folder.iterdir() if p.is_file() and p.stem in ("data", "packed")][:1]
    noise = ["--noise", "mask:noise.npy"] if (folder / "noise.npy").is_file() else []
    return command("probes", "build", f"{WRITTEN}/p.safetensors", "--data", data, *noise)


def _of_tables() -> list[Case]:
    rows: list[list[Any]] = [["id", "label"], *([k, k % 3] for k in range(EXAMPLES))]
    records = [{"id": k, "label": k % 3} for k in range(EXAMPLES)]
    data = {"data.npz": _arrays()["data.npz"]}
    lines = "\n".join(map(json.dumps, records)).encode()
    texts = {
        "noise.csv": "\n".join(",".join(map(str, row)) for row in rows).encode(),
        "noise.tsv": "\n".join("\t".join(map(str, row)) for row in rows).encode(),
        "noise.json": json.dumps(records).encode(), "noise.jsonl": lines,
        "noise.txt": "\n".join(str(k % 3) for k in range(EXAMPLES)).encode(),
    }  # fmt: skip
    columns = json.dumps({"label": {str(k): k % 3 for k in range(EXAMPLES)}}).encode()
    return [data | {name: content} for name, content in texts.items()] + [
        data | {"noise.json": columns}
    ]


def _tables(draw: Random, corpus: list[Case]) -> Case:
    case = dict(draw.choice(corpus))
    (name,) = [name for name in case if name.startswith("noise")][:1]
    if name.endswith(".json"):
        return case | {name: changed_json(case[name], draw, ("columns", "index", "data", "label"))}
    if name.endswith((".csv", ".tsv")):
        rows: list[list[Any]] = [["id", "label"], *([k, k % 3] for k in range(EXAMPLES))]
        return case | {name: as_table(rows, draw, "," if name.endswith("csv") else "\t")}
    return case | {name: spoilt(case[name], draw)}


def _read_table(folder: Path) -> str:
    (noise,) = [p.name for p in folder.iterdir() if p.name.startswith("noise")][:1]
    out = f"{WRITTEN}/p.safetensors"
    return command("probes", "build", out, "--data", "data.npz", "--noise", f"true_labels:{noise}")


def _of_pictures() -> list[Case]:
    cases = []
    for kind, ending in (
        ("PNG", "png"),
        ("JPEG", "jpg"),
        ("BMP", "bmp"),
        ("TIFF", "tif"),
        ("WEBP", "webp"),
    ):
        made = io.BytesIO()
        Image.new("RGB", (9, 7), (200, 30, 90)).save(made, kind)
        cases.append({f"data/{c}/a.{ending}": made.getvalue() for c in ("cat", "dog")})
    return cases


def _pictures(draw: Random, corpus: list[Case]) -> Case:
    case = dict(draw.choice(corpus))
    name = draw.choice(sorted(case))
    return case | {name: spoilt(case[name], draw)}


def _read_pictures(folder: Path) -> str:
    out = f"{WRITTEN}/p.safetensors"
    sizes = ("--resize", "8", "--crop", "8", "--mean", "0.5", "--std", "0.5")
    return command("probes", "build", out, "--data", "folder:data", *sizes)


KINDS = (
    Kind("safetensors", 0.11, lambda: [{"run/step_1.safetensors": save({
        "a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2), "b": torch.zeros(5,
        dtype=torch.int64)},
        {"format": "pt"})}], _safetensors, _read_weights),
    Kind("probes", 0.09, lambda: [{"probes.safetensors": honest_probes()}], _safetensors,
    _read_probes),
    Kind("arrays", 0.06, _of_arrays, _any_arrays, _read_arrays),
    Kind("tables", 0.06, _of_tables, _tables, _read_table),
    Kind("pictures", 0.02, _of_pictures, _pictures, _read_pictures),
)  # fmt: skip
