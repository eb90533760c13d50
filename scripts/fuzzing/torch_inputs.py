"""Torch files: pickles by opcode, archives by their structure, rows of pickles, directories."""

from __future__ import annotations

import io
import pickle
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import torch

from analyze.checkpoints.reading import read_weights
from scripts.fuzzing.chance import number, spoilt, word
from scripts.fuzzing.kind import Case, Kind, command, read_case
from scripts.fuzzing.opcodes import any_pickle

FILE, FOLDER = "run/step_1.pt", "run/step-1"
LARGE_STORAGE = 1 << 17  # bytes: beyond what is read at once


@cache
def honest(legacy: bool = False) -> bytes:
    """A checkpoint as trainers write it, with most of what they put beside the weights."""
    linear = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(linear.parameters())
    large = torch.zeros(LARGE_STORAGE // 4)
    content = {
        "state_dict": {**linear.state_dict(), "large": large, "half": torch.ones(2).half()},
        "ema": linear.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3,
        "global_step": torch.tensor(12), "args": {"lr": 1e-3, "name": "a"}, "done": {1, 2},
    }  # fmt: skip
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


@cache
def _folder() -> Case:
    """A directory of torch.distributed.checkpoint."""
    import torch.distributed.checkpoint as dcp

    weights = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": weights, "step": 7}, checkpoint_id=place)
        return {f"{FOLDER}/{name}": content for name, content in read_case(Path(place)).items()}


def _entries(archive: bytes) -> list[tuple[str, bytes]] | None:
    """The entries of a zip archive; None for what is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            return [(entry.filename, file.read(entry)) for entry in file.infolist()]
    except Exception:  # a corpus has broken ones too
        return None


def zipped(entries: list[tuple[str, bytes]], kind: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive of entries, which may have one name."""
    made = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w", kind) as file:
        warnings.simplefilter("ignore")
        for name, content in entries:
            file.writestr(zipfile.ZipInfo(name.replace("\0", "") or "a"), content, kind)
    return made.getvalue()


def _with_pickle(archive: bytes, change: Callable[[bytes], bytes]) -> bytes:
    entries = _entries(archive)
    if entries is None:
        return archive
    return zipped([(n, change(c) if n.endswith("data.pkl") else c) for n, c in entries])


def _pickles(draw: Random, corpus: list[Case]) -> Case:
    """A pickle by opcode in an archive, alone, or as the metadata of a directory."""
    case = dict(draw.choice(corpus))
    name = draw.choice(sorted(case))
    for at in (f"{FOLDER}/.metadata", FILE):
        if at in case:
            name = at
    if name.endswith(".metadata"):
        return case | {name: any_pickle(draw, case[name])}
    if case[name].startswith(b"PK"):
        return case | {name: _with_pickle(case[name], lambda c: any_pickle(draw, c))}
    return case | {name: any_pickle(draw, case[name])}


def _archives(draw: Random, corpus: list[Case]) -> Case:
    """An archive with entries, headers or its directory spoilt; or a row of pickles, so too."""
    case = dict(draw.choice(corpus))
    name = draw.choice(sorted(case))
    content, entries = case[name], _entries(case[name])
    way = draw.randrange(6)
    if entries is None or way < 2:
        return case | {name: spoilt(content, draw)}
    if way < 4:
        return case | {name: _headers(content, draw)}
    if way == 4:
        return case | {name: _other_entries(entries, draw)}
    other = honest() if draw.random() < 0.5 else content
    return case | {name: draw.choice((content + other, content[:-22] + other, b"\0" * 9 + content))}


def _headers(content: bytes, draw: Random) -> bytes:
    """One number of one record of the archive set to another."""
    data = bytearray(content)
    marks = [
        b"PK\x03\x04",
        b"PK\x01\x02",
        b"PK\x05\x06",
        b"PK\x06\x06",
        b"PK\x06\x07",
        b"PK\x07\x08",
    ]
    places = [at for mark in marks for at in _places(content, mark)]
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.choice(places) + 4 + 2 * draw.randrange(22)
        form = draw.choice(("<H", "<I"))
        value = number(draw) & ((1 << 8 * struct.calcsize(form)) - 1)
        data[at : at + struct.calcsize(form)] = struct.pack(form, value)
    return bytes(data)


def _places(content: bytes, mark: bytes) -> list[int]:
    places, at = [], content.find(mark)
    while at >= 0:
        places.append(at)
        at = content.find(mark, at + 1)
    return places


def _other_entries(entries: list[tuple[str, bytes]], draw: Random) -> bytes:
    """Entries doubled, renamed, left out, packed, spoilt, or made large."""
    at = draw.randrange(len(entries))
    name, content = entries[at]
    folder = name.partition("/")[0]
    new = [
        (name, spoilt(content, draw)), (word(draw), content), (f"{folder}/{word(draw)}", content),
        (f"{folder}/data/{draw.randrange(5)}", content), (name, b""), (name, content * 2),
        (f"{folder}/byteorder", b"big"), (f"{folder}/code/a.py", b""),
        (f"{folder}/constants.pkl", b""),
        (f"{folder}/archive_format", b"pt2"), (name, bytes(1 << 20)),
    ]  # fmt: skip
    entries = list(entries)
    if draw.random() < 0.5:
        entries[at] = draw.choice(new)
    else:
        entries.insert(at, draw.choice(new))
    kind = draw.choice(
        (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
    )
    names = [
        n.encode("utf-8", "surrogatepass")[:60000].decode("utf-8", "replace") for n, _ in entries
    ]
    return zipped([(n, c) for n, (_, c) in zip(names, entries, strict=True)], kind)


def _distributed(draw: Random, corpus: list[Case]) -> Case:
    """A directory whose metadata are honest in form and lie, or whose files are spoilt."""
    case = dict(draw.choice(corpus))
    name = draw.choice(sorted(case))
    if name.endswith(".metadata") and draw.random() < 0.8:
        return case | {name: _lying(draw)}
    return case | {name: spoilt(case[name], draw)}


def _lying(draw: Random) -> bytes:
    """Metadata with other sizes, places, names and files; never a corpus', which may run."""
    metadata = pickle.loads(_folder()[f"{FOLDER}/.metadata"])
    entries = list(metadata.state_dict_metadata.values())
    for _ in range(draw.choice((1, 1, 2))):
        entry, info = draw.choice(entries), draw.choice(list(metadata.storage_data.values()))
        _lie(metadata, entry, info, draw)
    return pickle.dumps(metadata, draw.choice((2, 4)))


def _lie(metadata: object, entry: object, info: object, draw: Random) -> None:
    """One statement of the metadata that is not so."""
    way = draw.randrange(8)
    if way == 0 and hasattr(entry, "size"):
        entry.size = torch.Size(abs(number(draw)) % (1 << 40) for _ in range(draw.randrange(4)))
    elif way == 1 and hasattr(entry, "chunks") and entry.chunks:
        chunk = entry.chunks[0]
        chunk.sizes, chunk.offsets = (
            torch.Size([draw.randrange(9)]),
            torch.Size([draw.randrange(9)]),
        )
    elif way == 2 and hasattr(entry, "chunks"):
        entry.chunks = entry.chunks * draw.choice((0, 2, 1000))
    elif way == 3:
        info.relative_path = draw.choice((word(draw), "../secret", "__0_0.distcp", 3, None))  # type: ignore[attr-defined]
    elif way == 4:
        info.offset = draw.choice((number(draw), "a", None, 1.5))  # type: ignore[attr-defined]
    elif way == 5:
        info.length = draw.choice((number(draw), "a", None, 1.5))  # type: ignore[attr-defined]
    elif way == 6:
        metadata.planner_data = draw.choice(  # type: ignore[attr-defined]
            (
                {"model.weight": ("a",) * 3000},
                {"model.weight": "abc"},
                3,
                {"model.weight": (1, [2])},
            )
        )
    else:
        metadata.state_dict_metadata[word(draw)] = entry  # type: ignore[attr-defined]


def _read(folder: Path) -> str:
    """By ``scan``, and the weights as a run reads them."""
    shown = command("scan", "run")
    for path in sorted((folder / "run").iterdir()):
        weights = read_weights(path)
        shown += f"{len(weights)} values read\n"
    return shown


def _of_files() -> list[Case]:
    return [{FILE: honest()}]


KINDS = (
    Kind("pickles", 0.24, lambda: [*_of_files(), _folder()], _pickles, _read),
    Kind("archives", 0.14, lambda: [*_of_files(), {FILE: honest(legacy=True)}], _archives, _read),
    Kind("distributed", 0.08, lambda: [_folder()], _distributed, _read),
)
