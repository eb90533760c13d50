"""A directory of torch.distributed.checkpoint: ``.metadata`` and ``*.distcp``, read by one process.

The metadata, and entries that are no tensors, are pickles that torch opens without a check. Here
they are read as plain data: records that say where the parts of each tensor lie, and the parts.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analyze.checkpoints.damage import as_text
from analyze.checkpoints.layouts.layout import Layout, Opened
from analyze.checkpoints.state import Stored, Weights
from analyze.checkpoints.torch_files.number_types import NumberType
from analyze.checkpoints.torch_files.pickle_records import Record
from analyze.checkpoints.torch_files.pickled_tensors import finder, names_in_torch_files, sizes_in
from analyze.checkpoints.torch_files.pickles import dictionary_in, open_values
from analyze.checkpoints.torch_files.plain_pickle import Machine, Name, UnknownNameError
from analyze.checkpoints.torch_files.torch_archive import content_of
from analyze.errors import CheckpointError, InputError, RefusedError

if TYPE_CHECKING:
    from torch import Tensor

METADATA = ".metadata"
LIGHTNING_META = "meta.pt"  # what Lightning keeps beside its shards: epoch, global_step
LARGEST_ENTRY = 1 << 16  # bytes of an entry that may be a number: a pickled one has about 1300
LARGEST_METADATA = 1 << 30
DEEPEST = 64  # keys of the path of a tensor
MODULE = "torch.distributed.checkpoint"
RECORDS = (
    f"{MODULE}.filesystem._StorageInfo",
    *(f"{MODULE}.metadata.{name}" for name in (
        "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta",
        "TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING")),
)  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """A block of a tensor, or an entry that is no tensor, and its place in a file."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: str
    start: int
    length: int


@dataclass(frozen=True)
class Entry:
    """A tensor: its shape, its type, and the blocks that cover it."""

    shape: tuple[int, ...]
    kind: NumberType
    pieces: tuple[Piece, ...]


def open_distributed(folder: Path, trust: bool = False) -> Opened:
    """Open a directory: tensors and numbers of the metadata, nested as they were saved.

    Raises:
        CheckpointError: the metadata is damaged, asks for code or for files elsewhere, or claims
            more than the files hold.
    """
    files = [folder / METADATA, *sorted(folder.glob("*.distcp")), folder / LIGHTNING_META]
    for path in files:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise _broken(path, "it is a link" if path.is_symlink() else "it is no file")
    metadata = _unpickled(folder / METADATA)
    try:
        entries, numbers, paths = _understood(metadata)
        _check(entries, numbers, folder)
        state = _nested(entries, numbers, paths, folder)
    except InputError:
        raise
    except Exception as error:  # records of another shape, missing files
        raise _broken(folder / METADATA, f"{type(error).__name__}: {error}") from error
    if (folder / LIGHTNING_META).is_file():
        meta = folder / LIGHTNING_META
        state = {**dictionary_in(open_values(meta).content, meta), **state}
    files = [path for path in files if path.is_file()]
    return Opened("distributed", state, tuple(files), partial(_load, folder, entries))


def _unpickled(path: Path) -> Record:
    known = names_in_torch_files() | {n: Name(n, partial(Record, n)) for n in RECORDS}
    try:
        if path.stat().st_size > LARGEST_METADATA:
            raise ValueError("it is too large")
        metadata = Machine(io.BytesIO(path.read_bytes()), finder(known)).load()
    except UnknownNameError as refused:
        raise RefusedError(
            "the metadata of the checkpoint is a pickle that would run code, so it was not opened",
            found=f"{as_text(path)} asks for {refused}",
            expected="the records of torch.distributed.checkpoint",
            fix="save it again, or convert it where you trust it: "
            "torch.distributed.checkpoint.format_utils.dcp_to_torch_save(DIR, FILE.pt)",
        ) from refused
    except Exception as error:  # a damaged pickle can raise anything
        raise _broken(path, f"{type(error).__name__}: {error}") from error
    if not isinstance(metadata, Record) or not metadata.name.endswith(".Metadata"):
        raise _broken(path, type(metadata).__name__)
    return metadata


def _facts(record: Any, kind: str) -> dict[str, Any]:
    """The attributes of a record of torch's."""
    if not (isinstance(record, Record) and record.name.endswith(f".{kind}")):
        raise TypeError(f"{type(record).__name__} in place of {kind}")
    return record.state if isinstance(record.state, dict) else {}


def _understood(metadata: Record) -> tuple[dict[str, Entry], dict[str, Piece], Mapping[Any, Any]]:
    """The tensors, the entries that are no tensors, and the paths of both in the state."""
    facts = _facts(metadata, "Metadata")
    stored: dict[str, dict[tuple[int, ...], Piece]] = {}
    for index, info in facts["storage_data"].items():
        where, place = _facts(index, "MetadataIndex"), _facts(info, "_StorageInfo")
        if place.get("transform_descriptors"):
            raise ValueError("its entries are compressed")
        offsets = sizes_in(where.get("offset") or ())
        piece = Piece(offsets, (), place["relative_path"], place["offset"], place["length"])
        stored.setdefault(where["fqn"], {})[offsets] = piece
    entries, numbers, blocks = {}, {}, len(facts["storage_data"])
    for name, entry in facts["state_dict_metadata"].items():
        if not isinstance(name, str):
            raise TypeError("a name that is no text")
        if isinstance(entry, Record) and entry.name.endswith(".TensorStorageMetadata"):
            tensor = _facts(entry, "TensorStorageMetadata")
            blocks -= len(tensor["chunks"])
            if blocks < 0:  # one list could be that of any number of tensors
                raise ValueError("more parts of tensors than are stored")
            entries[name] = _entry(tensor, stored.get(name, {}))
        elif name in stored:
            numbers[name] = next(iter(stored[name].values()))
    paths = facts.get("planner_data")
    return entries, numbers, paths if isinstance(paths, Mapping) else {}


def _entry(facts: dict[str, Any], stored: Mapping[tuple[int, ...], Piece]) -> Entry:
    shape, kind = sizes_in(facts["size"]), facts["properties"].state[0]
    if not isinstance(kind, NumberType):
        raise TypeError("a tensor of no type")
    pieces = []
    for chunk in facts["chunks"]:
        block = _facts(chunk, "ChunkStorageMetadata")
        offsets, sizes = sizes_in(block["offsets"]), sizes_in(block["sizes"])
        where = stored[offsets if offsets in stored else ()]
        pieces.append(Piece(offsets, sizes, where.file, where.start, where.length))
    return Entry(shape, kind, tuple(pieces))


def _check(entries: Mapping[str, Entry], numbers: Mapping[str, Piece], folder: Path) -> None:
    """Refuse files outside of the directory, and tensors that are larger than the files."""
    path, sizes = folder / METADATA, {}
    pieces = [*(p for entry in entries.values() for p in entry.pieces), *numbers.values()]
    for name in {piece.file for piece in pieces}:
        if Path(name).name != name or (folder / name).is_symlink():
            raise _broken(path, f"the file {name!r}")
        if (folder / name).exists() and not (folder / name).is_file():
            raise _broken(path, f"the file {name!r}, which is none")
        sizes[name] = (folder / name).stat().st_size
    claimed = sum(math.prod(e.shape) * e.kind.itemsize for e in entries.values())
    if claimed > sum(sizes.values()):
        raise _broken(path, f"tensors of {claimed} bytes in files of {sum(sizes.values())}")
    for piece in pieces:
        good = type(piece.start) is type(piece.length) is int and piece.start >= 0
        if not good or not 0 <= piece.length <= sizes[piece.file] - piece.start:
            raise _broken(path, f"an entry beyond the end of {piece.file}")
    if sum(piece.length for piece in pieces) > sum(sizes.values()):
        raise _broken(path, "entries that share their place in a file")  # each would be read anew
    for name, entry in entries.items():
        if not _covered(entry):
            raise _broken(path, f"parts that do not make up {name} {list(entry.shape)}")


def _covered(entry: Entry) -> bool:
    """Whether the blocks fill the tensor, each place once, and lie within it."""
    shape = entry.shape
    for piece in entry.pieces:
        ends = [a + n for a, n in zip(piece.offsets, piece.sizes, strict=True)]
        if len(ends) != len(shape) or any(e > n for e, n in zip(ends, shape, strict=True)):
            return False
    if sum(math.prod(piece.sizes) for piece in entry.pieces) != math.prod(shape):
        return False
    if len(entry.pieces) < 2:
        return True
    seen = np.zeros(shape, dtype=bool)  # no larger than the tensor, which was checked
    for piece in entry.pieces:
        seen[_block(piece)] = True
    return bool(seen.all())


def _block(piece: Piece) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for a, n in zip(piece.offsets, piece.sizes, strict=True))


def _nested(
    entries: Mapping[str, Entry], numbers: Mapping[str, Piece], paths: Mapping[Any, Any],
    folder: Path,
) -> dict[str, Any]:  # fmt: skip
    """The tensors and numbers of the metadata, nested as they were saved."""
    state: dict[str, Any] = {}
    for name in [*entries, *numbers]:
        value = Stored(name) if name in entries else _number(folder, numbers[name])
        if value is not None:
            _put(state, _path(paths.get(name), name), value)
    return state


def _path(path: Any, name: str) -> tuple[str, ...]:
    """The path of an entry in the state, by the metadata where those have one."""
    if not path:
        return (name,)
    if type(path) not in (tuple, list) or len(path) > DEEPEST:
        raise TypeError("a path that is none")
    if not all(type(part) in (str, int) for part in path):  # a list of lists has no end as a text
        raise TypeError("a path that is none")
    return tuple(map(str, path))


def _load(folder: Path, entries: Mapping[str, Entry], weights: Weights) -> dict[str, Tensor]:
    """The tensors of the weights, put together from their blocks."""
    stored = {n: s.key for n, s in weights.tensors.items() if isinstance(s, Stored)}
    try:
        return {name: _tensor(folder, entries[key]) for name, key in stored.items()}
    except InputError:
        raise
    except Exception as error:
        raise _broken(folder, f"{type(error).__name__}: {error}") from error


def _tensor(folder: Path, entry: Entry) -> Tensor:
    import torch

    from analyze.checkpoints.torch_files.made_tensors import dtype_of, read_values

    whole = torch.empty(entry.shape, dtype=dtype_of(entry.kind))
    for piece in entry.pieces:
        block = read_values(_bytes(folder, piece))
        if not isinstance(block, torch.Tensor) or tuple(block.shape) != piece.sizes:
            raise ValueError("a part of another shape")
        whole[_block(piece)] = block.detach()
    return whole


def _bytes(folder: Path, piece: Piece) -> io.BytesIO:
    with (folder / piece.file).open("rb") as file:
        file.seek(piece.start)
        return io.BytesIO(file.read(piece.length))


def _number(folder: Path, piece: Piece) -> int | float | None:
    """The number in an entry that is no tensor: a step, an epoch; else None."""
    if not 0 < piece.length <= LARGEST_ENTRY:
        return None
    try:
        value = content_of(_bytes(folder, piece))
    except Exception:  # something else than a plain value; it is not needed
        return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _put(state: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    """Set a value at a path of nested dictionaries."""
    for key in path[:-1]:
        inner = state.setdefault(key, {})
        if not isinstance(inner, dict):
            return  # a name that is also the beginning of another
        state = inner
    state[path[-1]] = value


def _broken(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        "the distributed checkpoint cannot be read",
        found=f"{as_text(path)}: {found.splitlines()[0] if found else ''}",
        expected="a complete directory of torch.distributed.checkpoint",
        fix="copy or save it again, or leave it out: --checkpoints GLOB",
    )


LAYOUT = Layout(
    "distributed",
    "a directory of torch.distributed.checkpoint: `.metadata` and `*.distcp`",
    open_distributed,
    mark=re.compile(r"^\.metadata$|\.distcp$"),
    last=METADATA,
)
